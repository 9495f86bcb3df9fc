"""The live board: its curves, what it shows of how many runs, and that it never outgrows the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from actbench.cli.console import Streams
from actbench.cli.live import ASCII_BLOCKS, BLOCKS, Board, LiveDisplay, _summed_up, spark, watcher
from actbench.config import Run, Variant
from actbench.events import record_of
from tests.configs import HOSTILE


def runs_of(variants: int = 1, seeds: int = 1, **given: object) -> list[Run]:
    given = {"name": "relu", "dataset": "digits", "epochs": 4, **given}
    made = [Variant(**{**given, "lr": 0.001 * (k + 1)}) for k in range(variants)]  # type: ignore[arg-type]
    return [Run(variant, seed) for variant in made for seed in range(seeds)]


def epoch(number: int, accuracy: float | None = 0.9, dead: float | None = 0.1) -> dict[str, float | int | None]:
    return {"epoch": number, "test_accuracy": accuracy, "dead_ratio": dead}


def texts(board: Board, width: int = 80, height: int = 24, *, ascii_only: bool = False) -> list[str]:
    return [line.plain.rstrip() for line in board.lines(width, height, ascii_only=ascii_only)]


def streams(*, terminal: bool) -> Streams:
    consoles = [Console(file=io.StringIO(), force_terminal=terminal, width=80, height=24) for _ in range(2)]
    return Streams(*consoles)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_curve_has_one_character_per_epoch_from_lowest_to_highest() -> None:
    assert spark([0.0, 0.5, 1.0], 4, 10, (0.0, 1.0)) == "▁▅█"
    assert spark([0.0, None, 1.0], 4, 10, (0.0, 1.0)) == "▁ █"
    assert spark([], 4, 10, (0.0, 1.0)) == ""
    assert spark([-5.0, 5.0], 4, 10, (0.0, 1.0)) == "▁█"
    assert spark([1.0], 2, 10, (-2e-309, 0.0)) == "█"


def test_a_character_is_the_mean_of_several_epochs_if_there_are_more_epochs_than_characters() -> None:
    assert spark([0.0, 1.0, 1.0, 1.0], 4, 2, (0.0, 1.0), "abc") == "bc"
    assert spark([0.0, 1.0, 1.0], 4, 2, (0.0, 1.0), "abc") == "bc"


@given(
    st.lists(st.none() | st.floats(-1e6, 1e6), max_size=60),
    st.integers(1, 80),
    st.integers(1, 20),
    st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
)
def test_a_curve_never_outgrows_its_width_or_its_set_of_characters(
    values: list[float | None], more: int, width: int, scale: tuple[float, float]
) -> None:
    drawn = spark(values, len(values) + more, width, scale)
    assert len(drawn) <= width
    assert set(drawn) <= {*BLOCKS, " "}


def test_each_run_has_a_line_with_its_curves_and_last_numbers() -> None:
    runs = runs_of(seeds=2)
    board = Board(runs)
    board.start(runs[0], 0)
    for number, accuracy in enumerate((0.1, 0.9, 0.95)):
        board.epoch(runs[0], epoch(number, accuracy, 0.02 * number))
    lines = texts(board)
    assert "0 of 2 runs ended" in lines[0]
    assert lines[1].split() == ["run", "epoch", "accuracy", "90-95", "%", "dead", "0-4", "%"]
    assert lines[2].split() == ["relu", "s0", "2/4", "▁█", "95.00", "▅█", "4.00"]
    assert lines[3].split() == ["relu", "s1", "waiting"]


def test_the_untrained_network_is_not_part_of_a_curve() -> None:
    (run,) = runs_of()
    board = Board([run])
    board.start(run, 0)
    board.epoch(run, epoch(0, 0.1))
    assert texts(board)[2].split() == ["relu", "s0", "0/4"]


def test_a_continued_run_leaves_room_for_its_earlier_epochs() -> None:
    (run,) = runs_of()
    board = Board([run])
    board.start(run, 2)
    board.epoch(run, epoch(3, 0.5, None))
    line = texts(board)[2]
    assert "3/4" in line
    assert "  ▅" in line  # two epochs that this process has not seen


def test_a_run_that_lost_its_machine_starts_again() -> None:
    (run,) = runs_of()
    board = Board([run])
    for _ in range(2):
        board.start(run, 0)
        board.epoch(run, epoch(1, 0.5))
    assert texts(board)[2].split()[:3] == ["relu", "s0", "1/4"]


def test_a_runs_line_and_the_summary_say_how_it_ended() -> None:
    runs = runs_of(seeds=3)
    board = Board(runs)
    for run, state in zip(runs, ("done", "diverged", "failed"), strict=True):
        board.start(run, 0)
        board.epoch(run, epoch(1, None, None))
        board.end(run, state)
    lines = texts(board)
    assert "3 of 3 runs ended, 1 diverged, 1 failed" in lines[0]
    assert "100%" in lines[0]
    assert ["diverged" in lines[3], "failed" in lines[4]] == [True, True]


def test_many_runs_become_one_line_per_variant_with_the_mean_of_its_seeds() -> None:
    runs = runs_of(variants=3, seeds=10)
    board = Board(runs)
    for run, accuracy in zip(runs[:2], (0.4, 0.6), strict=True):
        board.start(run, 0)
        board.epoch(run, epoch(1, accuracy))
    board.end(runs[0], "done")
    lines = texts(board, height=12)
    assert lines[1].split()[:2] == ["variant", "runs"]
    assert len(lines) == 5
    assert lines[2].split()[:2] == ["relu", "1/10"]
    assert "50.00" in lines[2]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["training", "done", "diverged", "failed"])),
        min_size=5,
        max_size=5,
    )
)
def test_a_variants_curves_are_means_over_one_set_of_runs(reached: list[tuple[int, str]]) -> None:
    runs = runs_of(seeds=5)
    board = Board(runs)
    for seed, (run, (last, state)) in enumerate(zip(runs, reached, strict=True)):
        board.start(run, 0)
        for number in range(1, (4 if state == "done" else last) + 1):
            board.epoch(run, epoch(number, 2**seed / 32 + number / 1000, 0.0))
        if state != "training":
            board.end(run, state)
    line = _summed_up([*board._lanes.values()], by_run=False)
    sets = {round(1e6 * (value - k / 1000)) for k, value in enumerate(line.accuracy, 1) if value is not None}
    assert len(sets) <= 1
    done = [
        2**seed / 32
        for seed, (last, state) in enumerate(reached)
        if state == "done" or (last, state) == (4, "training")
    ]
    if "done" in {state for _, state in reached}:
        assert line.accuracy[-1] == pytest.approx(sum(done) / len(done) + 4 / 1000)


def test_runs_in_training_come_first_if_not_all_variants_fit() -> None:
    runs = runs_of(variants=30)
    board = Board(runs)
    board.start(runs[20], 0)
    board.start(runs[25], 0)
    board.end(runs[25], "failed")
    lines = texts(board, height=8)
    assert len(lines) == 7
    assert [line.split()[1] for line in lines[2:4]] == ["0/1", "0/1"]
    assert "1/1" in lines[5]
    assert lines[-1] == "and 26 more: 26 waiting"


@pytest.mark.parametrize("many", [1, 7, 100])
@pytest.mark.parametrize("width", [20, 40, 52, 60, 71, 72, 80, 200])
@pytest.mark.parametrize("height", [1, 4, 24])
def test_the_board_fits_every_terminal(many: int, width: int, height: int) -> None:
    runs = runs_of(variants=many, seeds=2, epochs=40, name="a name that is longer than any column " + "日" * 10)
    board = Board(runs)
    for run in runs[::3]:
        board.start(run, 0)
        for number in range(1, 21):
            board.epoch(run, epoch(number, number / 41, 1.0))
    lines = board.lines(width, height)
    assert len(lines) <= max(height - 1, 3 if height > 1 else 1)
    assert all(cell_len(line.plain) <= width for line in lines), [line.plain for line in lines]


def test_a_plain_terminal_gets_plain_characters() -> None:
    (run,) = runs_of()
    board = Board([run])
    board.start(run, 0)
    for number in (1, 2):
        board.epoch(run, epoch(number, number / 10))
    text = "\n".join(texts(board, ascii_only=True))
    assert text.isascii()
    assert f"{ASCII_BLOCKS[0]}{ASCII_BLOCKS[-1]}" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_a_line_or_speaks_to_the_terminal(name: str) -> None:
    (run,) = runs_of(name=name)
    lines = texts(Board([run]))
    assert len(lines) == 3
    assert all(sign.isprintable() for sign in "".join(lines))


def test_the_remaining_time_follows_from_the_pace_so_far() -> None:
    clock = Clock()
    runs = runs_of(seeds=2, epochs=4)
    board = Board(runs, clock)
    board.start(runs[0], 2)
    clock.now = 10.0
    assert "left" not in texts(board)[0]
    board.epoch(runs[0], epoch(3))
    assert texts(board)[0].endswith("0 of 2 runs ended, 0:50 left")  # five epochs of ten seconds


def test_runs_that_ended_early_leave_nothing_to_do() -> None:
    clock = Clock()
    runs = runs_of(seeds=2, epochs=4)
    board = Board(runs, clock)
    for run in runs:
        board.start(run, 0)
    board.end(runs[0], "diverged")
    clock.now = 4.0
    board.epoch(runs[1], epoch(1))
    assert "62%" in texts(board)[0]
    assert texts(board)[0].endswith("1 of 2 runs ended, 1 diverged, 0:12 left")  # three epochs of four seconds


def test_a_terminal_gets_the_board_with_notes_above_it() -> None:
    to, (first, second) = streams(terminal=True), runs_of(seeds=2)
    with watcher(to, [first, second], quiet=False) as watching:
        assert isinstance(watching, LiveDisplay)
        watching.on_note("a note")
        watching.on_start(first, 0)
        watching.on_epoch(first, epoch(1, 0.75))
        watching.on_end(first, record_of(first, status="done"))
        watching.on_start(second, 0)
        watching.on_end(second, record_of(second, status="failed", error="ValueError: \x1b[31mno"))
        watching._live.refresh()
    text = to.err.file.getvalue()  # type: ignore[attr-defined]
    assert "a note" in text
    assert "relu s1: failed: ValueError: \\x1b[31mno" in text
    assert "2 of 2 runs ended, 1 failed" in text
    assert "75.00" in text
    assert "\x1b[31mno" not in text
    assert to.out.file.getvalue() == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_a_pipe_gets_plain_lines_and_quiet_leaves_only_failures(terminal: bool, quiet: bool) -> None:
    to, (run,) = streams(terminal=terminal), runs_of()
    with watcher(to, [run], quiet=quiet) as watching:
        watching.on_start(run, 0)
        row = {**epoch(1), "train_loss": 0.5, "train_s": 1.0}
        watching.on_epoch(run, row)
        watching.on_end(run, record_of(run, status="failed", error="no"))
    lines = to.err.file.getvalue().splitlines()  # type: ignore[attr-defined]
    expected = ["relu s0  epoch 1/4  loss 0.5000  test 90.00%  dead 10.0%  1,437 images/s", "relu s0: failed: no"]
    assert lines == (expected[1:] if quiet else expected)
