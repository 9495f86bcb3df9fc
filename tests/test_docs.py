"""The README's commands and options are true, and so is what it says of files."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main

from actbench import cli
from actbench.activations import ACTIVATIONS
from actbench.activations.definition import Activation, Facts, derived_gain
from actbench.claims import claim_files, load_all
from actbench.config import FILE_KEYS as KEYS
from actbench.config import json_schema, parse_value
from actbench.metrics import METRICS
from actbench.store.csv import parse_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


def commands() -> dict[str, Any]:
    """Return every command by its full name, such as `plot curves`."""
    group: Any = typer.main.get_command(cli.app)
    found = {}
    for name, command in group.commands.items():
        below = getattr(command, "commands", None)
        found |= {name: command} if below is None else {f"{name} {one}": c for one, c in below.items()}
    return found


def shown_commands(page: str) -> list[tuple[str, str]]:
    """Return the commands in the page's code, each with what follows its name."""
    code = re.findall(r"```[a-z]*\n(.*?)```|`([^`\n]+)`", page, re.DOTALL)
    text = "\n".join("".join(parts) for parts in code)
    return re.findall(r"(?:^|/|\$ |exec )actbench ((?:(?:data|plot) )?[a-z]+)((?: [^\n#|]*)?)", text, re.MULTILINE)


def test_the_readme_shows_the_commands_that_people_start_with() -> None:
    named = {name for name, _ in shown_commands(README)}
    assert {"train", "sweep", "compare", "show", "validate", "doctor", "report", "claims"} <= named


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_the_documents_exists_with_the_options_shown(page: str) -> None:
    known = commands()
    for name, rest in shown_commands(PAGES[page]):
        if name not in known:
            assert name in {"data fetch"} or name in {c.split()[0] for c in known}, name
            continue
        options = {option for parameter in known[name].params for option in parameter.opts}
        for option in re.findall(r"(?<=\s)(?:--[a-z][a-z-]*|-[a-z](?=\s|$))", rest):
            assert option in options, f"actbench {name} has no {option}"


PLOTS = sorted({
    f"{name} {rest.strip()}" for page in (*PAGES.values(), *(command.help or "" for command in commands().values()))
    for name, rest in shown_commands(page.replace("Example: actbench plot", "$ actbench plot").join(("```\n", "\n```")))
    if name.startswith("plot ") and "-o" in rest
})  # fmt: skip


@pytest.fixture(scope="module")
def drawn_from(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents draw: results of two activations with two learning rates, and costs."""
    folder = tmp_path_factory.mktemp("drawn")
    small = "dataset: digits\nepochs: 2\nhidden: [8]\ntrain_limit: 100\nseeds: 2\n"
    results = ["--results", str(folder / "results"), "-q"]
    for name in ("relu", "gelu"):
        config = folder / f"{name}.yaml"
        config.write_text(f"name: {name}\nactivation: {name}\n{small}")
        assert cli.run(["train", "-c", str(config), "--seeds", "1", *results]) == 0
        assert cli.run(["sweep", "-c", str(config), "-g", "lr=0.001,0.01", *results]) == 0
    return folder


def test_the_documents_show_plots_of_stored_runs() -> None:
    assert len(PLOTS) >= 7


@pytest.mark.parametrize("line", PLOTS)
def test_every_plot_that_the_documents_show_can_be_drawn(
    line: str, drawn_from: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(drawn_from)
    if "cost.json" in line and not Path("cost.json").exists():
        assert cli.run(["cost", "gelu", "--elements", "4x8", "--rounds", "2", "--format", "json"]) == 0
        Path("cost.json").write_text(capsys.readouterr().out)
    arguments = shlex.split(line)
    picture = Path(arguments[arguments.index("-o") + 1])
    assert cli.run(arguments) == 0, capsys.readouterr().err
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_the_documents_name_is_there(page: str) -> None:
    for name in re.findall(r"(?:\./)?((?:scripts|configs|actbench|tests)/[\w./-]+)", PAGES[page]):
        assert (ROOT / name.rstrip(".")).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_the_documents_leads_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#]+)\)", PAGES[page]):
        if not target.startswith("https://"):
            assert (folder / target).exists(), target


def test_every_config_key_is_documented_with_its_default_and_its_meaning_in_the_schema() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \| (.*) \|$", text, re.MULTILINE)
    assert {key for key, _, _ in rows} == set(KEYS)
    schema = json_schema()["properties"]
    for key, default, meaning in rows:
        assert meaning.replace("`", "").startswith(schema[key]["description"]), key
        if "default" in schema[key]:
            assert parse_value(default, key) == schema[key]["default"], key


def test_the_worked_example_of_an_activation_holds_what_is_checked_of_every_entry() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "adding.md").read_text(), re.DOTALL)
    entry = eval(code, {"Activation": Activation, "Facts": Facts, "torch": torch, "inf": math.inf})  # our own text
    z = torch.linspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(entry.function(z).sum(), z)
    torch.testing.assert_close(entry.slope(z.detach()), slope)
    assert entry.gain({}) == pytest.approx(derived_gain(entry.function), rel=1e-9)
    assert entry.facts({}).monotone


def test_every_metric_that_the_readme_defines_is_known() -> None:
    for name in re.findall(r"^\| `([a-z_]+)`", README, re.MULTILINE):
        assert name in METRICS or name in {"deaths", "batch_loss", "train_loss"}, name


def test_every_activation_has_a_formula_and_a_source() -> None:
    for entry in ACTIVATIONS.values():
        assert entry.formula
        assert entry.latex
        assert entry.source


def test_the_lock_files_name_exact_versions_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        assert len(lines) > 10
        for line in lines:
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*", line), line


def test_there_is_a_changelog_with_an_unreleased_part() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readmes_table_of_claims_is_the_study_in_the_repository() -> None:
    script = ROOT / "scripts" / "claims_table.py"
    table = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert len(table.splitlines()) == 2 + 22
    assert table in README


def test_the_readmes_times_are_those_of_the_benchmarks_table() -> None:
    measured = (ROOT / "results" / "benchmarks" / "cpu.md").read_text()
    rows = [line for line in README.split("## Speed")[1].split("\n## ")[0].splitlines() if line.startswith("| ")]
    cells = [cell.strip() for row in rows[2:] for cell in row.strip("|").split("|")[2:] if cell.strip()]
    assert len(cells) == 22
    for cell in cells:
        number = re.match(r"\+?[\d.]+( GB| ms| s|%|(?= times))", cell)
        assert number is not None, cell
        shown = number[0] if number[1] else f"{number[0]}x"
        assert re.search(rf"[| ]{re.escape(shown)} \|", measured), cell


def test_the_study_in_the_repository_tests_the_claims_of_today_with_all_their_runs() -> None:
    study = json.loads((ROOT / "results" / "reference" / "claims.json").read_text())
    asked = load_all(claim_files(ROOT / "configs" / "claims"))
    said = [
        (claim["id"], claim["claim"], [reading["says"] for reading in claim["readings"]]) for claim in study["claims"]
    ]
    assert said == [(claim.number, claim.text, [reading.says for reading in claim.readings]) for claim in asked]
    trained = parse_table((ROOT / "results" / "reference" / "claims.csv").read_text())
    needed = {run.run_id: run for claim in asked for run in claim.runs}
    stored = {row["run_id"] for row in trained}
    assert len(stored) == len(needed)
    assert all(run.run_id in stored or run.former_id in stored for run in needed.values())
