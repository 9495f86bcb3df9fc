"""No text from outside reaches a terminal or a page with characters that it would obey or that mislead a reader."""

from __future__ import annotations

import io
import string
from pathlib import Path

import pytest
from fake_runs import store_run
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from actbench import api, cli, tables
from actbench.cli.console import Streams
from actbench.config import Run, Variant
from actbench.errors import Problem
from actbench.events import run_label
from actbench.report import render
from actbench.report.gather import gather
from actbench.store.csv import parse_table
from actbench.store.read import read_results
from actbench.tables import Column

ESCAPES = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\x00",
    "\x08\x08",
    "\u202eleft\u202c",
    "\u2066",
    "\ufeff",
]
PARTS = st.sampled_from([*ESCAPES, "\n", "\r", "\u2028", "\x85", "a", " "]) | st.characters()
HOSTILE = st.lists(PARTS, max_size=8).map("".join)
HOSTILE_NAME = "re\x1b[31md\u202e\x07\x85\n\u2066x"  # as a file may be called


def is_harmless(text: str) -> bool:
    """Whether a text holds nothing but printable characters and ends of lines."""
    return all(sign.isprintable() or sign == "\n" for sign in text)


class Terminal:
    """Both streams of a command, on a terminal without colours."""

    def __init__(self, *, terminal: bool = True) -> None:
        self.out, self.err = (Console(file=io.StringIO(), force_terminal=terminal, color_system=None, width=200)
                              for _ in range(2))  # fmt: skip
        self.streams = Streams(self.out, self.err)

    @property
    def shown(self) -> str:
        found = [console.file for console in (self.out, self.err)]
        assert all(isinstance(file, io.StringIO) for file in found)
        return "".join(file.getvalue() for file in found)  # type: ignore[attr-defined]


def table_of(text: str) -> tuple[list[Column], list[dict[str, str]], list[str]]:
    return [Column("k", f"{text} heading")], [{"k": text}, {"k": "plain"}], [f"about {text}"]


@given(HOSTILE)
def test_a_terminal_shows_any_text_harmlessly(text: str) -> None:
    terminal = Terminal()
    to = terminal.streams
    to.note(text)
    to.error(text)
    to.result(text)
    to.document(text)
    to.json({"name": text})
    to.table(*table_of(text))
    for output in tables.FORMATS:
        to.rows(output, *table_of(text))
    assert is_harmless(terminal.shown)


@given(HOSTILE)
def test_a_note_and_a_result_are_one_line_whatever_is_in_them(text: str) -> None:
    terminal = Terminal()
    terminal.streams.note(text)
    terminal.streams.result(text)
    assert terminal.shown.count("\n") == 2


@pytest.mark.parametrize("output", ["md", "latex"])
@given(text=HOSTILE)
def test_markdown_and_latex_hold_any_text_harmlessly(output: str, text: str) -> None:
    assert is_harmless(tables.FORMATS[output].write(*table_of(text)))


@given(HOSTILE)
def test_csv_keeps_any_text_for_programs_and_is_harmless_on_a_terminal(text: str) -> None:
    columns, rows, _ = table_of(text)
    written = tables.FORMATS["csv"].write(columns, rows)
    assert [row["k"] for row in parse_table(written)] == [row["k"] for row in rows]


@given(HOSTILE)
def test_a_problem_in_a_config_is_one_harmless_line(text: str) -> None:
    shown = str(Problem(text, f"got {text}", 1, 2))
    assert is_harmless(shown)
    assert "\n" not in shown


@given(HOSTILE.filter(lambda name: name.strip() and not any("\ud800" <= sign <= "\udfff" for sign in name)))
def test_a_run_is_named_harmlessly_in_live_views(name: str) -> None:
    run = Run(Variant(name=name), 0)
    assert is_harmless(run_label(run).replace("\n", "\x00"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a hostile name, with a config and two stored runs, whose texts are hostile too."""
    folder = tmp_path / HOSTILE_NAME
    folder.mkdir()
    for seed in range(2):
        flat = {"name": HOSTILE_NAME, "dataset": HOSTILE_NAME, "activation": HOSTILE_NAME, "tags": HOSTILE_NAME}
        provenance = {"device": HOSTILE_NAME, "torch_version": HOSTILE_NAME}
        store_run(folder / "results", seed, flat=flat, provenance=provenance, config_yaml=f"# {HOSTILE_NAME!r}\n")
    failed = {"status": "failed", "error": f"Traceback\nError: {HOSTILE_NAME}"}
    store_run(folder / "results", 2, flat={"name": HOSTILE_NAME}, **failed)
    (folder / "results" / "relu-s3-0000000003").mkdir()  # damaged
    (folder / f"{HOSTILE_NAME}.yaml").write_text("activation: digits\n")
    return folder


COMMANDS = [
    "compare R", "compare R --by activation --format md", "compare R --format latex", "compare missing-N",
    "compare R --by N",
    "compare R -m N", "compare R --filter N", "compare R --baseline N", "compare R --sort N", "compare R --fail-if N",
    "compare R --fail-if n>0", "pivot activation seed R", "pivot N seed R", "list runs --results R", "list N",
    "show relu-s0 --results R", "show relu --results R", "show relu-s2 --results R", "show N --results R", "validate C",
    "validate missing-N", "train -c C", "train -c missing-N", "train -c C --set N", "train -c C --seeds N",
    "train -c C --seed N",
    "train -c C --device N", "train -c C --track N", "train -c C -N", "train -c C --executor N", "sweep -c C -g N",
    "sweep -c C -g lr=N", "report R -o F.html --title N", "report R -o F.txt", "report R -o F/x.html",
    "plot curves R -o F.svg", "plot curves R -o F.txt", "plot curves R -o missing-N/x.svg", "plot neurons N -o F.svg",
    "plot activations -a N -o F.svg", "plot activations -a relu -o F.svg", "plot cost F -o F.svg", "cost N",
    "cost --elements N", "data info N", "data verify mnist --data-dir D", "data info mnist --data-dir D", "claims N",
    "claims --claims D", "reproduce N --results R", "reproduce relu --results R", "doctor --data-dir D --results R",
    "N", "--N", "compare R --epoch N", "compare R --format N",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_what_a_terminal_obeys(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"R": folder / "results", "C": folder / f"{HOSTILE_NAME}.yaml", "F": folder / HOSTILE_NAME, "D": folder}
    arguments = []
    for word in command.split():
        known = word[0] in names and (len(word) == 1 or word[1] in "./")
        arguments.append(f"{names[word[0]]}{word[1:]}" if known else word.replace("N", HOSTILE_NAME))
    assert cli.run(arguments) in (0, 1, 2)
    shown = capsys.readouterr()
    assert "this is a bug" not in shown.err
    bad = {sign for sign in shown.out + shown.err if sign not in "\n" and not sign.isprintable()}
    assert bad == set()


def test_a_page_and_a_table_in_a_notebook_show_stored_texts_harmlessly(folder: Path) -> None:
    runs, problems = read_results([], folder / "results")
    page = render(gather(runs, problems, title=HOSTILE_NAME))
    assert is_harmless(page)
    assert "\\x1b[31m" in page
    with pytest.warns(RuntimeWarning, match="skipped") as caught:
        table = api.compare(folder / "results")
    assert all(is_harmless(str(one.message)) for one in caught)
    assert is_harmless(repr(table))
    assert is_harmless(table._repr_html_())


def test_these_tests_can_fail() -> None:
    assert not any(map(is_harmless, ESCAPES))
    assert is_harmless(string.printable.replace("\t", "").replace("\r", "").replace("\x0b", "").replace("\x0c", ""))
