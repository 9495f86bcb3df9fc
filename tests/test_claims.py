"""Claim studies: their files, the runs that they need, what they read from runs, and the command."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from claim_runs import CLAIM, claim, store_runs

from actbench import claims, cli, datasets
from actbench.activations import ACTIVATIONS
from actbench.claims import Claim, Flags, RunCache, Study, Verdict, evidence, load_all, measures, writeup
from actbench.config import Run, Variant
from actbench.datasets import Dataset
from actbench.errors import ConfigError, UnknownNameError, UsageError
from actbench.stats import permutation
from actbench.store import Store
from actbench.sweeps.preview import rough_seconds
from actbench.tables import FORMATS
from configs import HOSTILE

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs" / "claims").glob("*.yaml"))


def no_data(name: str) -> Dataset:
    raise AssertionError(f"{name} is not needed")


def judged(of: Claim, store: Store) -> Study:
    return claims.judge([of], [of], store, no_data)


def run(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments])


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


# --- our files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_claim_file_opens_with_a_question_and_its_command_and_follows_the_schema(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    values = yaml.safe_load(path.read_text())
    assert re.fullmatch(rf"# .+\?   Run: actbench claims {values['id']}", first)
    assert second == "# yaml-language-server: $schema=schema.json"
    assert path.stem.startswith(f"{values['id']:02}_")
    jsonschema.validate(values, json.loads((path.parent / "schema.json").read_text()))


def test_the_stored_schema_is_the_one_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema", "--claims") == 0
    assert json.loads((FILES[0].parent / "schema.json").read_text()) == json.loads(capsys.readouterr().out)


def test_what_repeats_in_the_schema_is_defined_once() -> None:
    schema = json.loads((FILES[0].parent / "schema.json").read_text())
    assert {"activation", "optimizer", "variant", "arm", "ladder", "side"} <= set(schema["$defs"])
    assert (FILES[0].parent / "schema.json").stat().st_size < 90_000


@pytest.mark.parametrize("quick", [False, True])
def test_a_readings_words_name_the_thresholds_and_epochs_that_are_measured(quick: bool) -> None:
    for one in load_all(FILES, Flags(quick=quick)):
        for reading in one.readings:
            sides = [side for part in reading.parts for side in part.sides]
            epochs = {side.epoch or one.arms[str(side.arm)].epochs for side in sides if side.arm in one.arms}
            bounds = {part.quantity.name.partition("=")[2] for part in reading.parts}
            bounds |= {str(side.number) for side in sides if side.number is not None}
            said = {f"{float(percent) / 100:g}" for percent in re.findall(r"([0-9.]+)%", reading.says)}
            assert said <= bounds, (one.path, reading.says)
            asked = {int(count) for count in re.findall(r"(?:after|of) ([0-9]+) epochs?", reading.says)}
            assert asked <= epochs, (one.path, reading.says)


@pytest.mark.parametrize("quick", [False, True])
def test_all_claims_load_and_their_arms_have_names_derived_from_their_settings(quick: bool) -> None:
    loaded = load_all(FILES, Flags(quick=quick))
    assert [one.number for one in loaded] == list(range(1, 23))
    for one in loaded:
        assert one.readings
        assert all(reading.parts for reading in one.readings)
        for variant in one.arms.values():
            anew = type(variant)(**{k: v for k, v in variant.plain().items() if k != "name"})
            assert anew.name == variant.name, "two claims with equal arms share the run"
            assert variant.dataset == ("digits" if quick else "mnist")


def test_every_claim_has_enough_seeds_to_decide_one_of_all_contrasts() -> None:
    loaded = load_all(FILES)
    family = sum(len(one.parts) for one in loaded)
    for one in loaded:
        assert len(one.seeds) >= permutation.seeds_needed(family), one.path
    assert len(loaded[13].seeds) == 30, "SiLU against Mish: a small effect needs more"


def test_runs_that_claims_share_are_trained_and_counted_once(tmp_path: Path) -> None:
    loaded = load_all(FILES)
    plan = claims.plan(loaded, Store(tmp_path))
    asked = [run.run_id for one in loaded for run in one.runs]
    assert sum(need["runs"] for need in plan.rows) == len(asked)
    assert sum(need["runs"] - need["shared"] for need in plan.rows) == len(set(asked)) == len(plan.runs.runs)
    assert sum(need["to_train"] for need in plan.rows) == len(plan.runs.open)
    convergence = next(need for need in plan.rows if need["claim"] == "convergence")
    assert convergence["shared"] == convergence["runs"] == 60, "the recipe's arms are those of the first claim"


def test_runs_are_planned_seed_by_seed(tmp_path: Path) -> None:
    runs = claims.plan(load_all(FILES), Store(tmp_path)).runs.runs
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_finished_runs_are_not_trained_again_but_failed_ones_are(tmp_path: Path) -> None:
    of, store = claim(tmp_path / "c"), Store(tmp_path / "r")
    store_runs(store, of, lambda arm, seed: {"status": "failed" if seed == 0 else "diverged" if seed == 1 else "done"})
    (need,) = claims.plan([of], store).rows
    assert (need["runs"], need["done"], need["to_train"]) == (26, 24, 2), "a failed run is retried"


# --- bad files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("claim: The", "clam: The", "3:1: unknown key 'clam'; did you mean 'claim'?"),
        ("source: a test", "", "claim: is missing|source: is missing"),
        ("activation: tanh", "activation: tahn", "8:19: activation: unknown activation 'tahn'; did you mean 'tanh'?"),
        ("activation: tanh", "lr: fast", "8:11: lr: must be a number > 0"),
        ("activation: tanh", "name: x", "8:7: arms.b.name: arms are named after what they are"),
        ("activation: tanh", "seeds: 3", "8:7: arms.b.seeds: seeds belong to the claim"),
        ("against: b", "against: bb", "against: there is no arm 'bb'"),
        ("against: b", "against: {arm: b, epohc: 1}", "against.epohc: unknown key 'epohc'; did you mean 'epoch'?"),
        ("against: b", "against: {epoch: 1}", "against.arm: is missing"),
        ("arm: a, against: b", "arm: 1, against: 2", "against: one of the sides must be an arm"),
        ("margin: 0.01", "margin: 0", "margin: must be a number > 0"),
        ("margin: 0.01", "margin: 0.01, transform: log", "margin: must be a number > 1"),
        ("margin: 0.01", "margin: 0.01, epoch: 3", "epoch: must be at most 2 (the epochs of a), got 3"),
        ("margin: 0.01", "margin: 0.01, quick: {expct: lower}", ""),
        ("expect: higher", "expect: hihger", "expect: unknown direction 'hihger'; did you mean 'higher'?"),
        ("test_accuracy", "test_acuracy", "metric: unknown metric 'test_acuracy'; did you mean 'test_accuracy'"),
        ("test_accuracy", "\"measured:colapse\"", "unknown measurement 'colapse'"),
        ("metric: test_accuracy", "metric: \"epochs_to:test_accuracy>=0.9\", epoch: 1", "leave out epoch and layer"),
        ("seeds: 13", "seeds: [1, 1]", "seeds[1]: seed 1 is given twice"),
        ("seeds: 13", "measured: price", "measured: unknown measurement 'price'"),
        ("id: 1", "id: one", "id: must be an integer >= 1"),
        ("arms:\n  a: {activation: relu}\n  b: {activation: tanh}", "arms: [a, b]", "arms: must contain arms"),
        ("{activation: tanh}", "tanh", "arms.b: must contain config keys, got 'tanh'"),
        ("    parts:\n      - {", "    parts: {", "parts: must be a list such as [{metric: test_accuracy"),
    ],
)  # fmt: skip
def test_a_problem_in_a_file_is_reported_with_its_line_and_column(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    text = replaced(CLAIM, (old, new))
    if not problem:
        assert claim(tmp_path, text).readings, "keys that only --quick reads are not checked without it"
        with pytest.raises(ConfigError, match="expct: unknown key"):
            claim(tmp_path, text, quick=True)
        return
    with pytest.raises(ConfigError) as caught:
        claim(tmp_path, text)
    assert any(one in str(caught.value) for one in problem.split("|"))
    assert all(re.match(r".*01_test.yaml:\d+:\d+: ", line) for line in str(caught.value).splitlines())


def test_all_problems_in_all_files_are_reported_together(tmp_path: Path) -> None:
    for name in ("01_a.yaml", "02_b.yaml"):
        (tmp_path / name).write_text(replaced(CLAIM, ("margin: 0.01", "margin: -1"), ("relu", "rleu")))
    with pytest.raises(ConfigError) as caught:
        load_all(sorted(tmp_path.glob("*.yaml")))
    assert len(caught.value.problems) == 4


def test_two_files_cannot_have_the_same_id(tmp_path: Path) -> None:
    for name in ("01_a.yaml", "02_b.yaml"):
        (tmp_path / name).write_text(CLAIM)
    with pytest.raises(ConfigError, match=r"02_b.yaml: id: 1 is also the id in .*01_a.yaml"):
        load_all(sorted(tmp_path.glob("*.yaml")))


def test_a_folder_without_claims_and_an_unknown_claim_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no claim files"):
        claims.claim_files(tmp_path)
    loaded = load_all(FILES)
    with pytest.raises(UnknownNameError, match="did you mean 'overfitting'"):
        claims.select(loaded, ["overfiting"])
    picked = claims.select(loaded, ["06", "22", "overfitting", "configs/claims/12_softplus.yaml"])
    assert [one.number for one in picked] == [2, 6, 12, 22]


def test_a_ladder_makes_one_arm_per_rung_and_an_arms_own_ladder_takes_precedence(tmp_path: Path) -> None:
    text = replaced(
        CLAIM,
        ("b: {activation: tanh}", "b: {activation: tanh, ladder: {wide: {hidden: [64]}}}\nladder: {s: {lr: 1}, t: {}}"),
        ("arm: a, against: b", "arm: a s, against: b wide"),
    )
    made = claim(tmp_path, text)
    assert list(made.arms) == ["a s", "a t", "b wide"]
    assert made.ladders == {"a": ("a s", "a t"), "b": ("b wide",)}
    assert (made.arms["a s"].lr, made.arms["a t"].lr, made.arms["b wide"].hidden) == (1.0, 0.001, (64,))


# --- what claims read from runs ------------------------------------------------------------------------------


def accuracies(**means: float) -> Any:
    """Make records whose test accuracy is the arm's mean plus a little more for each seed."""
    return lambda arm, seed: {"metrics": {"test_accuracy": means[arm] + seed / 1e4}, "provenance": {"threads": 2}}


def test_a_verdict_follows_from_stored_runs(tmp_path: Path) -> None:
    of, store = claim(tmp_path / "c"), Store(tmp_path / "r")
    store_runs(store, of, lambda arm, seed: {"metrics": {"test_accuracy": (0.95 if arm == "a" else 0.9) + seed / 1e4}})
    found = judged(of, store)
    (reading,) = found.claims[0].readings
    assert reading.verdict is Verdict.SUPPORTED
    assert "+5.00 [5.00, 5.00], p <0.001, n 13" in writeup.evidence_text(reading.parts[0])
    assert (found.family, found.known, found.environment) == (1, 1, {})


def test_the_evidence_of_equality_shows_the_equivalence_p(tmp_path: Path) -> None:
    of, store = claim(tmp_path / "c"), Store(tmp_path / "r")
    store_runs(store, of, lambda arm, seed: {"metrics": {"test_accuracy": 0.95 + (seed % 3) / 1e4 * (arm == "a")}})
    (reading,) = judged(of, store).claims[0].readings
    assert reading.verdict is Verdict.SAME
    assert ", equivalence p <0.001, n 13" in writeup.evidence_text(reading.parts[0])


def test_untrained_runs_leave_a_claim_undecided(tmp_path: Path) -> None:
    of = claim(tmp_path / "c")
    (reading,) = judged(of, Store(tmp_path / "nowhere")).claims[0].readings
    assert reading.verdict is Verdict.OPEN
    assert "26 runs not trained yet" in writeup.evidence_text(reading.parts[0])


def test_a_diverged_run_is_counted_and_never_dropped(tmp_path: Path) -> None:
    of, store = claim(tmp_path / "c"), Store(tmp_path / "r")
    good = accuracies(a=0.95, b=0.9)
    store_runs(store, of, lambda arm, seed: {**good(arm, seed), **({"status": "diverged"} if seed == 4 else {})})
    (reading,) = judged(of, store).claims[0].readings
    assert reading.verdict is Verdict.OPEN
    assert "1 of 13 pairs have no value" in writeup.evidence_text(reading.parts[0])


def test_runs_with_different_threads_are_reported(tmp_path: Path) -> None:
    of, store = claim(tmp_path / "c"), Store(tmp_path / "r")
    store_runs(store, of, lambda arm, seed: {**accuracies(a=1, b=0)(arm, seed), "provenance": {"threads": seed % 2}})
    assert "The runs differ in threads: 0, 1." in writeup.footnotes(judged(of, store))


def curve(values: list[float]) -> list[dict[str, Any]]:
    return [
        {"epoch": k, "test_accuracy": v, "train_s": 2.0 * (k > 0), "first_grad_norm": v} for k, v in enumerate(values)
    ]


def test_a_run_that_never_reaches_the_threshold_has_its_length_as_a_lower_bound(tmp_path: Path) -> None:
    for metric, bound in (("epochs_to:test_accuracy>=0.9", 3.0), ("seconds_to:test_accuracy>=0.9", 4.0)):
        text = replaced(CLAIM, ("metric: test_accuracy", f'metric: "{metric}"'), ("higher", "lower"), ("0.01", "0.5"))
        of, store = claim(tmp_path / "c", text), Store(tmp_path / metric[0])
        late = {"epochs": curve([0.1, 0.5, 0.6])}
        store_runs(store, of, lambda arm, seed, late=late: {"epochs": curve([0.1, 0.95, 0.96])} if arm == "a" else late)
        (one,) = judged(of, store).claims[0].readings[0].parts
        assert one.finding.never == (0, 13)
        assert one.finding.means == (bound / 3 if bound == 3 else 2.0, bound)
        assert one.verdict is Verdict.SUPPORTED
        assert "or more (13 runs never reached the threshold)" in writeup.evidence_text(one)


def test_times_of_runs_that_share_every_call_on_cuda_are_not_compared(tmp_path: Path) -> None:
    text = replaced(CLAIM, ("metric: test_accuracy", 'metric: "seconds_to:epoch>=2"'))
    of, store = claim(tmp_path / "c", text), Store(tmp_path / "r")
    store_runs(store, of, lambda arm, seed: {"epochs": curve([0.1, 0.5, 0.6]), "provenance": {"device": "cuda:0"}})
    (one,) = judged(of, store).claims[0].readings[0].parts
    assert one.verdict is Verdict.OPEN
    assert "share every call" in writeup.evidence_text(one)


def test_a_side_is_read_after_its_epoch_and_in_its_layer_or_at_the_best_epoch(tmp_path: Path) -> None:
    parts = """\
      - {metric: test_accuracy, epoch: 1, arm: a, against: {arm: a, epoch: 0}, expect: higher, margin: 0.1}
      - {metric: rms_activation, arm: {arm: a, layer: last}, against: {arm: a, layer: 0}, expect: lower, margin: 0.1}
      - {metric: rms_activation, arm: {arm: a, layer: 5}, against: 1, expect: lower, margin: 0.1}
      - {metric: "best:test_accuracy", arm: a, against: 0.5, expect: higher, margin: 0.1}
"""
    text = CLAIM[: CLAIM.index("      - {")] + parts
    of, store = claim(tmp_path / "c", text), Store(tmp_path / "r")
    layers = [
        {"epoch": e, "layer": k, "rms_activation": v} for e in (0, 2) for k, v in enumerate([e + 3.0, e + 1.0, None])
    ]
    store_runs(store, of, lambda arm, seed: {"epochs": curve([0.1, 0.8, 0.7]), "layer_rows": layers})
    found = judged(of, store).claims[0].readings[0].parts
    assert [one.finding.means for one in found] == [(0.8, 0.1), (3.0, 5.0), (None, None), (0.8, 0.5)]
    assert found[2].verdict is Verdict.OPEN, "there is no sixth layer"


def test_a_log_part_compares_ratios_and_zeros_have_no_value(tmp_path: Path) -> None:
    text = replaced(CLAIM, ("margin: 0.01", "margin: 1.5, transform: log"))
    of, store = claim(tmp_path / "c", text), Store(tmp_path / "r")
    store_runs(store, of, accuracies(a=0.8, b=0.4))
    (one,) = judged(of, store).claims[0].readings[0].parts
    assert "ratio 2 [" in writeup.evidence_text(one)
    assert one.verdict is Verdict.SUPPORTED
    zero = Store(tmp_path / "zero")
    store_runs(zero, of, lambda arm, seed: {"metrics": {"test_accuracy": 0.0}})
    assert judged(of, zero).claims[0].readings[0].parts[0].finding.lost == 13


def test_ladders_and_other_metrics_are_shown_beside_the_evidence(tmp_path: Path) -> None:
    text = (
        replaced(
            CLAIM,
            ("seeds: 13", "ladder: {s: {lr: 1}, t: {lr: 2}, u: {lr: 3}}\nseeds: 13"),
            ("arm: a, against: b", "arm: a u, against: a s"),
        )
        + "    also: [test_accuracy]\n"
    )
    of, store = claim(tmp_path / "c", text), Store(tmp_path / "r")
    store_runs(store, of, lambda arm, seed: {"metrics": {"test_accuracy": of.arms[arm].lr / 10}})
    lines = "\n".join(writeup.terminal_lines(judged(of, store), 120))
    assert "along the ladder: a s = 10.00, a t = 20.00, a u = 30.00" in lines
    assert "test accuracy, %: a u = 30.00, a s = 10.00" in lines


def test_other_claims_count_if_all_their_runs_are_stored_and_as_unknown_otherwise(tmp_path: Path) -> None:
    texts = [replaced(CLAIM, ("id: 1", f"id: {n}"), ("epochs: 2", f"epochs: {n}")) for n in (1, 2, 3)]
    loaded = [claim(tmp_path / "c", text, f"0{n}_test.yaml") for n, text in enumerate(texts, 1)]
    store = Store(tmp_path / "r")
    for of in loaded[:2]:
        store_runs(store, of, accuracies(a=0.95, b=0.9))
    found = claims.judge(loaded, loaded[:1], store, no_data)
    assert (found.family, found.known) == (3, 2)
    assert claims.ready(loaded, RunCache(store, no_data)) == loaded[:2]
    assert any("2 of these 3 contrasts" in note for note in writeup.footnotes(found))


# --- what is measured on weights -----------------------------------------------------------------------------


def network(activation: str, widths: tuple[int, ...]) -> tuple[list[measures.LayerPass], torch.Tensor]:
    """Pass random images through random weights, as `measures.structure` does."""
    draws = torch.Generator().manual_seed(3)
    x, layers = torch.randn(50, 20, generator=draws), []
    for k, (inputs, outputs) in enumerate(zip((20, *widths), (*widths, 10), strict=True)):
        weight = torch.randn(outputs, inputs, generator=draws) / inputs**0.5
        bias = torch.randn(outputs, generator=draws)
        out = torch.nn.functional.linear(x, weight, bias)
        layers.append(measures.LayerPass(x, out, weight, bias))
        x = ACTIVATIONS[activation].function(out) if k < len(widths) else out
    return layers, torch.randint(10, (50,), generator=draws)


@pytest.mark.parametrize(("activation", "share"), [("sigmoid", 1.0), ("tanh", 0.0)])
def test_the_share_of_gradients_with_one_sign_agrees_with_autograd(activation: str, share: float) -> None:
    layers, labels = network(activation, (30,))
    assert measures.same_sign_share(layers, labels) == share
    last, same = layers[-1], []
    for n in range(5):
        weight = last.weight.clone().requires_grad_()
        logits = torch.nn.functional.linear(last.x[n : n + 1], weight, last.bias)
        torch.nn.functional.cross_entropy(logits, labels[n : n + 1]).backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        signs = weight.grad.sign()
        same += [bool((row >= 0).all() or (row <= 0).all()) for row in signs]
    assert sum(same) / len(same) == share


def test_only_a_network_without_activations_collapses_into_one_linear_map() -> None:
    for widths in ((), (30,), (30, 30, 30)):
        assert measures.collapse_error(*network("identity", widths)) < 1e-5
    assert measures.collapse_error(*network("relu", (30, 30))) > 0.1


def test_cost_claims_accept_only_default_activations_and_cost_metrics(tmp_path: Path) -> None:
    text = replaced(CLAIM, ("seeds: 13", "seeds: 13\nmeasured: cost"))
    with pytest.raises(ConfigError, match="unknown metric of a cost 'test_accuracy'"):
        claim(tmp_path, text)
    text = replaced(text, ("test_accuracy", "forward_ns"))
    assert claim(tmp_path, text).runs == []
    with pytest.raises(ConfigError, match="arms: b: the cost of an activation is known only for its default"):
        claim(tmp_path, replaced(text, ("activation: tanh", "activation: [tanh, relu]")))


def test_costs_are_paired_by_repetition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = replaced(CLAIM, ("seeds: 13", "seeds: 7\nmeasured: cost"), ("test_accuracy", "forward_ns"), ("0.01", "1.5"))
    of = claim(tmp_path, replaced(text, ("higher", "lower")))

    def costs(arms: Mapping[str, Any], repetitions: int) -> dict[str, list[dict[str, float]]]:
        return {arm: [{"forward_ns": k + (0 if arm == "a" else 2.0)} for k in range(repetitions)] for arm in arms}

    monkeypatch.setattr(measures, "costs", costs)
    (one,) = judged(of, Store(tmp_path / "r")).claims[0].readings[0].parts
    assert one.finding.found is not None
    assert (one.finding.n, one.finding.found.difference, one.verdict) == (7, -2.0, Verdict.SUPPORTED)


# --- output --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_in_a_claim_file_can_harm_a_page_a_table_or_a_terminal(tmp_path: Path, text: str) -> None:
    quoted = '"' + "".join(c if ord(c) > 0xFFFF else json.dumps(c)[1:-1] for c in text) + '"'
    pairs = ("claim: The first is better.", f"claim: {quoted}"), ("says: more accurate", f"says: {quoted}")
    of = claim(tmp_path / "c", replaced(CLAIM, *pairs, ("seeds: 13", "seeds: 2")))
    store = Store(tmp_path / "r")
    store_runs(store, of, accuracies(a=0.95, b=0.9))
    found = judged(of, store)
    assert json.loads(writeup.write(found, "json"))["claims"][0]["claim"] == text
    for name in FORMATS:
        written = writeup.write(found, name)
        assert "\x1b" not in written or name in ("json", "csv")
        if name == "md":
            assert "<script>" not in written
            assert len([line for line in written.splitlines() if line.startswith("|")]) == 3
    assert all(line.isprintable() for line in writeup.terminal_lines(found, 80))


def test_an_unknown_format_is_refused_before_anything_is_trained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("claims", "--format", "xml", "--results", tmp_path) == 2
    assert "unknown format 'xml'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_shows_the_runs_and_trains_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("claims", "--dry-run", "--format", "json", "--results", tmp_path) == 0
    rows = json.loads(capsys.readouterr().out)["claims"]
    assert len(rows) == 23
    assert rows[-1]["runs"] == sum(row["to_train"] for row in rows[:-1])
    assert run("claims", "5", "2", "--dry-run", "--seeds", "3", "--results", tmp_path) == 0
    assert "9" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_estimated_time_grows_with_images_depth_and_the_work_per_epoch() -> None:
    def seconds(**keys: Any) -> float:
        return rough_seconds(Run(Variant(**keys), 0))

    assert seconds() < seconds(hidden=[512, 512]) < seconds(network="cnn")
    assert seconds(train_limit=6000) == pytest.approx(seconds() / 10, rel=0.01)
    assert seconds(epochs=20) == pytest.approx(seconds() * 2)
    assert min(seconds(batch_norm=True), seconds(augment={"shift": 1})) > seconds()


# --- real training on the digits ---------------------------------------------------------------------------------


def test_a_demonstration_trains_missing_runs_once_and_gives_no_verdict(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("claims", "17", "19", "22", "--quick", "--seeds", "2", "--results", tmp_path, "-q") == 0
    first = capsys.readouterr().out
    words = first.replace("decides nothing", "").lower()
    assert "points towards" in words
    assert not re.search(r"supported|contradicted|not decided|no difference", words)
    assert "A demonstration" in first
    assert [path.name for path in tmp_path.iterdir()] == ["claims-quick"], "kept apart from the runs that count"
    assert run("claims", "22", "--quick", "--seeds", "2", "--results", tmp_path, "--format", "json") == 0
    streams = capsys.readouterr()
    assert streams.err == "", "everything is trained already"
    readings = json.loads(streams.out)["claims"][0]["readings"]
    assert [reading["parts"][0]["means"][0] for reading in readings] == [1.0, 0.0]


def test_stored_weights_rebuild_the_trained_network(tmp_path: Path) -> None:
    of = claim(tmp_path / "c", replaced(CLAIM, ("seeds: 13", "seeds: 1"), ("epochs: 2", "epochs: 1, hidden: [8]")))
    folder, results = tmp_path / "c", tmp_path / "r"
    assert run("claims", "1", "--claims", folder, "--results", results, "-q") == 0
    stored = RunCache(Store(results), no_data).run(Run(of.arms["b"], 0))
    assert stored is not None
    layers, labels = measures.layer_passes(of.arms["b"], stored, datasets.load("digits"))
    accuracy = float((layers[-1].out.argmax(dim=1) == labels).double().mean())
    assert accuracy == pytest.approx(stored.metrics["test_accuracy"])


def test_weights_are_measured_only_in_networks_of_plain_linear_layers(tmp_path: Path) -> None:
    of = claim(tmp_path, replaced(CLAIM, ("activation: tanh", "activation: tanh, batch_norm: true")))
    with pytest.raises(UsageError, match="only networks of plain linear layers"):
        measures.structure("measured:collapse_error", of.arms["b"], None, None)  # type: ignore[arg-type]


def test_a_metric_that_runs_did_not_measure_has_no_evidence(tmp_path: Path) -> None:
    of, store = claim(tmp_path / "c"), Store(tmp_path / "r")
    store_runs(store, of, lambda arm, seed: {"metrics": {"test_loss": 1.0}})  # no accuracy was measured
    (finding,) = evidence.findings(of, RunCache(store, no_data))
    assert (finding.n, finding.lost, finding.found) == (0, 13, None)
