"""What the shell offers on Tab, through typer and in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from actbench import cli
from actbench.activations import ACTIVATIONS
from actbench.cli import completion
from actbench.config import FILE_KEYS as KEYS
from actbench.metrics import METRICS
from tests.configs import loaded
from tests.fake_runs import run_id, store_run

ROOT = Path(__file__).parents[1]


def offered(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the candidates that bash gets for the last of these words."""
    monkeypatch.setenv("_ACTBENCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(["actbench", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.run([])
    return capsys.readouterr().out.split()


def names(candidates: completion.Candidates) -> list[str]:
    return [name for name, _ in candidates]


# --- keys and values -----------------------------------------------------------------------------------------


def test_every_key_and_parameter_of_a_config_is_offered() -> None:
    found = names(completion.setting(""))
    assert {f"{key}=" for key in KEYS if key != "sweep"} <= set(found)
    assert {"optimizer.momentum=", "activation.negative_slope=", "schedule.warmup_epochs=", "init.gain="} <= set(found)
    assert names(completion.setting("batch_")) == ["batch_norm=", "batch_size="]
    assert names(completion.setting("optimizer.m")) == ["optimizer.momentum=", "optimizer.momentum=0.0"]
    assert completion.setting("nothing") == []


def test_after_the_equals_sign_come_the_values_of_the_key() -> None:
    assert names(completion.setting("activation=")) == [f"activation={name}" for name in ACTIVATIONS]
    assert names(completion.setting("activation=si")) == ["activation=sigmoid", "activation=silu", "activation=sin"]
    assert names(completion.setting("batch_norm=")) == [f"batch_norm={v}" for v in ("true", "false", "before", "after")]
    assert names(completion.setting("dataset=d")) == ["dataset=digits"]
    assert names(completion.setting("lr=")) == ["lr=0.001"]
    assert names(completion.setting("optimizer.nesterov=")) == ["optimizer.nesterov=false", "optimizer.nesterov=true"]
    assert names(completion.setting("device=")) == [f"device={name}" for name in ("auto", "cpu", "cuda", "cuda:0")]
    assert completion.setting("nothing=") == []


def test_every_value_that_is_offered_for_a_key_can_be_set() -> None:
    for name in names(completion.setting("")):
        key = name.removesuffix("=")
        for candidate in names(completion.setting(f"{key}=")):
            _, _, value = candidate.partition("=")
            if "." not in key and key not in ("network", "schedule"):  # what the engine cannot do yet
                chained = key == "activation" and ACTIVATIONS[value].noise
                assert chained or loaded(f"{key}: {value}\n"), candidate


def test_a_grid_offers_further_values_once_each() -> None:
    assert names(completion.column("activation=relu,ta")) == ["activation=relu,tanh", "activation=relu,tanhshrink"]
    assert "activation=relu,relu" not in names(completion.column("activation=relu,"))
    assert names(completion.column("batch_norm=false,tr")) == ["batch_norm=false,true"]
    assert "lr=" in names(completion.column("l"))


def test_metrics_and_keys_continue_after_a_comma() -> None:
    assert names(completion.metric("test_")) == ["test_accuracy", "test_loss"]
    assert names(completion.metric("dead_ratio,test_l")) == ["dead_ratio,test_loss"]
    assert names(completion.metric("auc:test_l")) == ["auc:test_loss"]
    assert set(names(completion.metric(""))) == set(METRICS)
    assert names(completion.key("activation,batch_n")) == ["activation,batch_norm"]
    assert "activation,activation" not in names(completion.key("activation,"))


def test_candidates_come_with_a_description() -> None:
    assert dict(completion.setting("lr"))["lr="] == "learning rate"
    assert dict(completion.setting("activation=sil"))["activation=silu"] == ACTIVATIONS["silu"].formula
    assert dict(completion.metric("dead"))["dead_ratio"] == METRICS["dead_ratio"].doc


@given(st.text(max_size=30))
def test_any_text_can_be_completed_and_all_candidates_start_with_it(typed: str) -> None:
    for complete in (completion.setting, completion.column, completion.metric, completion.key, completion.tracker):
        assert all(name.startswith(typed) for name in names(complete(typed)))


# --- through the command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "--set", "activation=sil"], ["activation=silu"]),
        (["sweep", "-g", "activation=relu,gelu,ta"], ["activation=relu,gelu,tanh", "activation=relu,gelu,tanhshrink"]),
        (["train", "--track", "m"], ["mlflow"]),
        (["sweep", "--track", "t"], ["tensorboard"]),
        (["train", "--device", "cuda:"], ["cuda:0"]),
        (["compare", "-m", "test_"], ["test_accuracy", "test_loss"]),
        (["compare", "--sort", "images"], ["images_per_s"]),
        (["compare", "--by", "batch_n"], ["batch_norm"]),
        (["compare", "--tune", "l"], ["lr", "label_smoothing"]),
        (["compare", "--format", "l"], ["latex"]),
        (["show", "--format", "t"], ["table"]),
        (["show", "--format", "l"], []),
        (["pivot", "activ"], ["activation"]),
        (["plot", "heatmap", "--rows", "batch_n"], ["batch_norm"]),
        (["plot", "curves", "--metric", "test_l"], ["test_loss"]),
        (["data", "info", "k"], ["kmnist"]),
        (["validate", "--set", "dataset=fash"], ["dataset=fashion_mnist"]),
        (["reprod"], ["reproduce"]),
    ],
    ids=str,
)
def test_commands_offer_the_right_candidates(
    words: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offered(*words, monkeypatch=monkeypatch, capsys=capsys) == expected


def test_run_ids_come_from_the_results_folder_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        store_run(tmp_path / "mine", seed)
    (tmp_path / "mine" / "notes").mkdir()
    ask = {"monkeypatch": monkeypatch, "capsys": capsys}
    for command in ("show", "reproduce"):
        found = offered(command, "--results", str(tmp_path / "mine"), "relu-s", **ask)  # type: ignore[arg-type]
        assert found == [run_id(seed) for seed in range(3)]
    monkeypatch.setenv("ACTBENCH_RESULTS", str(tmp_path / "mine"))
    assert offered("show", "relu-s1", **ask) == [run_id(1)]  # type: ignore[arg-type]
    assert names(completion.run_id(_context(tmp_path / "nowhere"), "")) == []
    assert completion.run_id(_context(tmp_path / "mine"), f"{tmp_path}/mine/relu") == []  # a path: the shell's


def _context(results: Path) -> typer.Context:
    context = typer.Context(typer.main.get_command(cli.app))
    context.params = {"results": results}
    return context


def test_completing_never_imports_torch() -> None:
    code = (
        "import sys\nfrom actbench import cli\ntry:\n    cli.run()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'scipy', 'tensorboard', 'mlflow') if name in sys.modules])"
    )
    words = {"COMP_WORDS": "actbench\ntrain\n--set\nactivation=sil", "COMP_CWORD": "3"}
    environment = {**os.environ, **words, "_ACTBENCH_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["activation=silu", "[]"]


# --- bash ----------------------------------------------------------------------------------------------------


@pytest.fixture
def bash(tmp_path: Path) -> Path:
    """A folder with an `actbench` to put in the PATH of a real bash."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    program = tmp_path / "bin" / "actbench"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom actbench.cli import main\nmain()\n"
    )
    program.chmod(0o755)
    return program.parent


IN_BASH = {
    "actbench train --set activation=sil": "activation=silu",
    "actbench train --set activation=": " ".join(sorted(f"activation={name}" for name in ACTIVATIONS)),
    "actbench sweep -g activation=relu,sil": "activation=relu,silu",
    "actbench train --set batch_": "batch_norm= batch_size=",
    "actbench compare -m auc:test_l": "auc:test_loss",
    "actbench compare --basel": "--baseline",
    "actbench plot cu": "curves",
}
"""Command lines, and what replaces the last word where COMP_WORDBREAKS has no `=` and `:`, as docs/watching.md says."""


def test_a_real_bash_completes_keys_values_and_names(bash: Path) -> None:
    ask = [
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _actbench_completion actbench\n"
        'echo $(printf "%s\\n" "${COMPREPLY[@]}" | LC_ALL=C sort)'
        for words in IN_BASH
    ]
    script = "\n".join(['eval "$(actbench --show-completion bash)"', *ask])
    environment = {**os.environ, "PATH": f"{bash}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == list(IN_BASH.values()), done.stderr
