"""Config files and flags: loading, everything that is wrong at once, and where it is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from actbench import config
from actbench.config import Config, Document, Variant, changed, check, collect, resolved, settings, to_yaml
from actbench.errors import ConfigError
from configs import loaded, problems

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a file x.yaml into the current folder, so that messages begin with its name alone."""
    monkeypatch.chdir(tmp_path)

    def written(text: str, name: str = "x.yaml") -> Path:
        Path(name).write_text(text, encoding="utf-8")
        return Path(name)

    return written


def load(path: Path, overrides: Sequence[str] = (), **flags: Any) -> Config:
    return config.load(path, settings(overrides, **flags))


def refused(*args: Any, **flags: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*args, **flags)
    return str(caught.value).split("\n")


def test_a_file_without_keys_is_the_recipe() -> None:
    config = loaded("{}")
    assert config.seeds == (0, 1, 2, 3, 4)
    assert config.variant == Variant()
    flat = config.variant.flat()
    assert {key: flat[key] for key in ("name", "dataset", "activation", "init", "optimizer", "hidden")} == {
        "name": "relu", "dataset": "mnist", "activation": "relu", "init": "he_normal", "optimizer": "adam",
        "hidden": "512",
    }  # fmt: skip
    assert (config.variant.lr, config.variant.epochs, config.variant.batch_size) == (0.001, 10, 64)
    assert config.variant.parameter_count == 407_050


def test_the_example_of_the_design_loads() -> None:
    config = loaded(
        "name: relu\ndataset: mnist\nactivation: relu\ninit: he_normal\nbatch_norm: false\nlr: 0.001\n"
        "optimizer: adam\nepochs: 10\nbatch_size: 64\nhidden: [512]\nseeds: 5\n"
    )
    assert config == Config(Variant(), (0, 1, 2, 3, 4))


def test_seeds_are_a_number_of_them_or_a_list() -> None:
    assert loaded("seeds: 3").seeds == (0, 1, 2)
    assert loaded("seeds: [7, 3]").seeds == (7, 3)
    assert [run.seed for run in loaded("seeds: [7, 3]").runs()] == [7, 3]
    assert loaded(f"seeds: [{2**63 - 1}]").seeds == (2**63 - 1,)


def test_all_problems_of_a_file_come_at_once_in_the_order_of_the_file(write: Write) -> None:
    path = write(
        "name: relu\nactivation: swsh\nlr: 0\nbatchsize: 3\nhidden: [1, x]\nseeds: [1, 1]\n"
        "optimizer: {name: sgd, momentum: 2, nestrov: true}\ntrain_limit: 50\nbatch_size: 51\n"
    )
    known = "See: actbench list activations"
    assert refused(path) == [
        f"x.yaml:2:13: activation: unknown activation 'swsh'; did you mean 'swish'? {known}",
        "x.yaml:3:5: lr: must be a number > 0 and <= 1e+06, got 0",
        "x.yaml:4:1: unknown key 'batchsize'; did you mean 'batch_size'?",
        "x.yaml:5:13: hidden[1]: must be an integer >= 1 and <= 16384, got 'x'",
        "x.yaml:6:12: seeds[1]: seed 1 is given twice",
        "x.yaml:7:34: optimizer.momentum: must be a number >= 0 and < 1, got 2",
        "x.yaml:7:37: optimizer.nestrov: unknown parameter 'nestrov' of sgd; did you mean 'nesterov'?",
        "x.yaml:9:13: batch_size: must be at most 50 (the number of training images), got 51",
    ]


def test_the_problems_of_all_files_come_at_once(write: Write) -> None:
    write("lr: 0\n", "a.yaml")
    write("epochs: 0\n", "b.yaml")
    write("lr: [\n", "c.yaml")
    with pytest.raises(ConfigError) as caught:
        collect(lambda name: load(Path(name), ["batch_size=0"]), ["a.yaml", "b.yaml", "c.yaml", "d.yaml"])
    assert [str(problem).split(" ")[0] for problem in caught.value.problems] == [
        "a.yaml:1:5:", "--set", "b.yaml:1:9:", "c.yaml:2:1:", "d.yaml:",
    ]  # fmt: skip
    assert caught.value.exit_code == 2


def test_a_sweep_is_sent_to_the_other_command(write: Write) -> None:
    path = write("lr: 1\nsweep: {grid: {lr: [1, 2]}}\n")
    assert refused(path) == ["x.yaml:2:1: this file is a sweep; run it with: actbench sweep -c x.yaml"]


def test_hundreds_of_problems_are_cut_short() -> None:
    with pytest.raises(ConfigError) as caught:
        collect(config.load, [f"missing_{k}.yaml" for k in range(80)])
    assert len(caught.value.problems) == 51
    assert str(caught.value).endswith("and more; these are the first 50 problems")


def test_set_replaces_what_the_file_says(write: Write) -> None:
    path = write("lr: 0.1\nepochs: wrong\nhidden: [1]\nname: a\n")
    config = load(path, ["lr=1e-3", "epochs=3", "hidden=[512, 256]", "name=foo", "name=bar", "seeds=2"])
    assert (config.variant.lr, config.variant.epochs, config.variant.hidden) == (0.001, 3, (512, 256))
    assert (config.variant.name, config.seeds) == ("bar", (0, 1))


def test_set_reaches_into_a_choice(write: Write) -> None:
    changes = ["optimizer.momentum=0.9", "activation.negative_slope=0.2"]
    variant = load(write("optimizer: sgd\nactivation: {name: leaky_relu, negative_slope: 0.1}\n"), changes).variant
    assert variant.optimizer.label == "sgd(momentum=0.9)"
    assert variant.activation[0].label == "leaky_relu(negative_slope=0.2)"
    assert load(write("lr: 1"), ["optimizer.beta1=0.5"]).variant.optimizer.label == "adam(beta1=0.5)"
    assert load(write("lr: 1"), ["activation={name: elu, alpha: 2}"]).variant.activation[0].label == "elu(alpha=2)"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr=fast", "--set lr=fast: lr: must be a number > 0 and <= 1e+06, got 'fast'"),
        ("lr", "--set lr: must be key=value, such as lr=0.01 or optimizer.momentum=0.9"),
        ("=3", "--set =3: must be key=value"),
        (".lr=3", "--set .lr=3: must be key=value"),
        ("lr=", "--set lr=: lr: must be a number > 0 and <= 1e+06, got nothing"),
        ("hidden=[1", "--set hidden=[1: the '[' here has no ']'"),
        ("lrr=3", "--set lrr=3: unknown key 'lrr'; did you mean 'lr'?"),
        ("foo.bar=3", "--set foo.bar=3: unknown key 'foo'; see: actbench schema"),
        ("lr.x=3", "--set lr.x=3: lr: has no parts; write lr=..."),
        ("optimizer.x=3", "--set optimizer.x=3: optimizer.x: unknown parameter 'x' of adam; it has beta1"),
        (
            "activation.x=3",
            "--set activation.x=3: activation: is a chain; set all of it: activation=[relu, sigmoid]",
        ),
        ("lr=\x1b[31m", "--set lr=\\x1b[31m: a control character (U+001B)"),
        ("name=a: b", "--set name=a: b: name: must be text, got {a: 'b'}"),
        (
            "augment.rotate=3",
            "--set augment.rotate=3: augment.rotate: unknown parameter 'rotate' of augment; did you",
        ),
    ],
)
def test_a_wrong_flag_is_named_as_it_was_typed(write: Write, override: str, message: str) -> None:
    (found,) = refused(write("activation: [relu, tanh]\n"), [override])
    assert found.startswith(message)


def test_problems_of_flags_and_of_the_file_come_together(write: Write) -> None:
    found = refused(write("epochs: 0\n"), ["lr=0", "hidden.x=1"])
    assert [line.split(" ")[0] for line in found] == ["x.yaml:1:9:", "--set", "--set"]


def test_seeds_and_devices_can_be_given_by_flags(write: Write) -> None:
    path = write("seeds: 9\ndevice: cuda\n")
    assert load(path, seeds="2").seeds == (0, 1)
    assert load(path, seeds="3,7").seeds == (3, 7)
    assert load(path, seeds="[3, 7]").seeds == (3, 7)
    assert load(path, seed=4).seeds == (4,)
    assert load(path, device="cuda:1").variant.device == "cuda:1"
    assert refused(path, seeds="0") == ["--seeds 0: seeds: must be an integer >= 1 and <= 10000, got 0"]
    assert refused(path, seed=-1)[0].startswith("--seed -1: seeds[0]: must be an integer >= 0")
    assert refused(path, device="gpu")[0].startswith("--device gpu: device: must be auto, cpu")
    assert refused(path, seed=1, seeds="2") == ["--seed 1: cannot be combined with --seeds; give one of them"]


def parse_seeds(text: str) -> tuple[int, ...]:
    return check(changed(Document("x"), settings(seeds=text))).seeds


def test_the_flag_takes_a_number_of_seeds_or_a_list() -> None:
    assert parse_seeds("5") == (0, 1, 2, 3, 4)
    assert parse_seeds("3,7") == parse_seeds("3, 7") == (3, 7)
    assert parse_seeds("3,") == (3,)
    for text in ("", "x", "1,1", "1.5", "-1", "1,,2", "012", "1,012", "["):
        with pytest.raises(ConfigError, match=re.escape(f"--seeds {text}: ")):
            parse_seeds(text)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("no", 'name: must be text, got no; quote it: "no"'),
        ("123", 'name: must be text, got 123; quote it: "123"'),
        ("1e-3", 'name: must be text, got 0.001; quote it: "0.001"'),
        ("true", 'name: must be text, got true; quote it: "true"'),
        ("012", 'name: must be text, got 012; quote it: "012"'),
        ("null", 'name: is empty; write a text, or quote the word if you mean it: "null"'),
        ("", "name: is empty"),
        ("''", "name: must have 1 to 1000 characters, got 0"),
        ("x" * 1001, "name: must have 1 to 1000 characters, got 1001"),
        ("[a]", "name: must be text, got ['a']"),
        ('"\\ud800"', "name: must be valid Unicode, got a lone surrogate"),
    ],
)
def test_a_name_that_is_no_text_is_refused(written: str, message: str) -> None:
    (found,) = problems(f"name: {written}")
    assert message in found


def test_the_word_none_is_a_name_like_any_other() -> None:
    assert loaded("name: none").variant.name == "none"


def test_a_resolved_config_writes_names_plainly_and_seeds_shortly() -> None:
    values = resolved(Variant(optimizer={"name": "sgd", "momentum": 0.5}), (0, 1, 2))
    assert (values["activation"], values["seeds"], values["augment"], values["name"]) == (
        "relu",
        3,
        "none",
        "relu optimizer=sgd(momentum=0.5)",
    )
    assert values["optimizer"] == {"name": "sgd", "momentum": 0.5}
    assert resolved(Variant(), (3, 7))["seeds"] == [3, 7]
    assert "hidden: [512]\n" in to_yaml(Variant(), (0,))
    assert to_yaml(Variant(), (0,)).startswith("name: relu\ndataset: mnist\n")


HEAVY = ("torch", "torchvision", "sklearn", "scipy", "ray")
IMPORTED = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"


def imported_after(code: str) -> str:
    script = [sys.executable, "-c", f"{code}; {IMPORTED}"]
    return subprocess.run(
        script, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    ).stdout.strip()


def test_checking_a_config_does_not_import_torch() -> None:
    code = "from actbench.config import *; json_schema(); Run(Variant(), 0).run_id"
    assert imported_after(code) == "[]"


def test_the_test_above_can_fail() -> None:
    assert imported_after("import scipy") == "['scipy']"
