"""Where a newcomer starts: configs by name, `actbench init`, and the package as pip installs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from actbench import cli, config
from actbench.cli import completion
from actbench.errors import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return stdout and stderr of a command that ends with exit code 0."""
    code = cli.run(arguments)
    text = "".join(capsys.readouterr())
    assert code == 0, text
    return text


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the error of a command that ends with exit code 2."""
    assert cli.run(arguments) == 2
    return capsys.readouterr().err


# --- configs by name -----------------------------------------------------------------------------------------


def test_every_built_in_config_loads_by_its_name(here: Path) -> None:
    files = [path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "claims"]
    assert sorted(config.builtin_configs()) == sorted(path.stem for path in files)  # no two have the same name
    for name, path in config.builtin_configs().items():
        assert config.load_sweep([name]) == config.load_sweep([path])


@pytest.mark.parametrize("name", ["relu.yaml", "./relu", "configs/relu", "../relu", "/relu"])
def test_a_path_never_means_a_built_in_config(here: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(name)


def test_a_file_comes_before_a_built_in_config_of_its_name(here: Path) -> None:
    (here / "relu").write_text("activation: tanh\n")
    assert config.load("relu").variant.name == "tanh"
    (here / "silu").mkdir()
    assert config.load("silu").variant.name == "silu"


@pytest.mark.parametrize("command", [["train", "-c"], ["sweep", "-c"], ["validate"]])
def test_an_unknown_name_suggests_similar_ones_and_says_where_all_are(
    here: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.yaml").write_text("activation: tanh\n")
    for typed, meant in {"quikstart": "quickstart", "RELU": "relu", "mine": "mine.yaml"}.items():
        error = refused(capsys, *command, typed)
        assert f"{typed}: no such file, and no built-in config has this name; did you mean '{meant}'? See:" in error
    assert "has this name. See: actbench list configs" in refused(capsys, *command, "zzzzzz")
    assert "[31m" in refused(capsys, *command, "\x1b[31m")
    (here / "folder").mkdir()
    assert "folder: is a folder" in refused(capsys, *command, "folder")


def test_list_configs_names_them_all_with_what_they_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in json.loads(said(capsys, "list", "configs", "--format", "json"))["configs"]}
    assert list(rows) == list(config.builtin_configs())
    assert rows["activations"]["for"] == "sweep"
    assert rows["relu"] == {
        "name": "relu",
        "for": "train",
        "about": "The plain ReLU network, with every key of the recipe written out.",
    }
    assert all("Run:" not in row["about"] and row["about"].endswith(".") for row in rows.values())


def test_tab_offers_built_in_configs_beside_the_files_that_begin_alike(here: Path) -> None:
    for name in ("quick.yaml", "quack.txt", "other.yaml"):
        (here / name).touch()
    (here / "quarry").mkdir()
    offered = [name for name, _ in completion.config_file("qu")]
    assert offered == ["quickstart", "quickstart_digits", "quick.yaml", "quarry/"]
    assert completion.config_file("oth") == []  # bash, zsh and fish then complete files by themselves
    assert completion.config_file("configs/re") == []


def test_the_help_starts_with_commands_that_work_anywhere(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (start,) = re.findall(r"Start with: actbench (.*)", said(capsys, "--help"))
    assert "dry" not in said(capsys, *start.split(), "--dry-run")
    for command in ("train", "sweep"):
        (example,) = re.findall(r"Example: actbench (.*?)\n", said(capsys, command, "--help") + "\n")
        said(capsys, *example.split()[:3], "--print-config" if command == "train" else "--dry-run")


# --- init ----------------------------------------------------------------------------------------------------


def test_init_writes_files_that_load_and_says_what_to_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "init")
    assert sorted(path.name for path in here.iterdir()) == ["network.yaml", "relu_or.yaml"]
    commands = re.findall(r"^  actbench (.*?) +#", out, re.MULTILINE)
    assert commands[:2] == ["train -c network.yaml", "sweep -c relu_or.yaml"]
    for command in commands[:2]:
        said(capsys, *command.split(), "--dry-run")
    said(capsys, *commands[2].split())
    variants = [one.variant for one in config.load_sweep(["relu_or.yaml"])]
    assert [one.activation[0].name for one in variants] == ["relu", "leaky_relu", "gelu", "silu", "tanh"]


def test_the_config_from_init_has_every_key_and_loads_with_all_of_them(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "init")
    text = (here / "network.yaml").read_text()
    whole = re.sub(r"^# (?=[a-z_]+: )", "", text, flags=re.MULTILINE)
    keys = config.parse(whole, "network.yaml").values
    assert set(keys) == set(config.FILE_KEYS) - {"sweep"}
    (here / "whole.yaml").write_text(whole)
    given, every = config.load("network.yaml"), config.load("whole.yaml")
    assert every.variant.name == "mine"
    assert every.variant == given.variant.renamed("mine")
    assert every.seeds == given.seeds


@pytest.mark.parametrize("name", ["network.yaml", "relu_or.yaml"])
def test_init_never_overwrites(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (here / name).write_text("mine")
    assert f"{name} already exists here, so nothing was written" in refused(capsys, "init")
    assert [(path.name, path.read_text()) for path in here.iterdir()] == [(name, "mine")]
    (here / name).unlink()
    (here / name).symlink_to("nowhere")
    refused(capsys, "init")
    assert not (here / "nowhere").exists()


# --- as installed --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_wheel_holds_all_configs_and_finds_them_by_name(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def installed(*arguments: str) -> str:
        command = [sys.executable, "-P", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert "ok (1 variant, 5 runs)" in installed("-m", "actbench", "validate", "quickstart")
    assert len(json.loads(installed("-m", "actbench", "claims", "--dry-run", "--format", "json"))["claims"]) > 20
    folder = installed("-c", "from actbench import config; print(config.builtin_folder())")
    assert Path(folder.strip()).is_relative_to(tmp_path)
