"""Pivots: one setting down, one across, the same numbers as in a comparison."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actbench.comparison import Pivot, compare, pivot
from actbench.comparison.groups import is_diverged
from actbench.errors import UnknownNameError, UsageError
from actbench.store.csv import parse_table
from actbench.tables import FORMATS, pivot_table, write_pivot

NOISE = (0.0, 0.011, -0.004, 0.007, -0.009, 0.002, 0.005, -0.012)


def runs(activation: str, lr: float, dead: float = 0.1, seeds: int = 8, **more: Any) -> list[dict[str, Any]]:
    row = {"name": f"{activation} lr={lr}", "dataset": "mnist", "activation": activation, "lr": lr, "init": "he_normal"}
    row |= {"status": "done", "test_accuracy": 0.97, "validation_accuracy": 0.96}
    return [{**row, "seed": s, "dead_ratio": dead + NOISE[s % 8], **more} for s in range(seeds)]


GRID = [
    *runs("tanh", 0.1, 0.05),
    *runs("relu", 0.1, 0.8),
    *runs("relu", 0.001, 0.2),
    *runs("relu", 0.01, 0.5),
    *runs("tanh", 0.001, 0.02),
]


def grid(rows: list[dict[str, Any]] | None = None, **options: Any) -> Pivot:
    options = {"down": ["activation"], "across": ["lr"], "metrics": ["dead_ratio"]} | options
    return pivot(rows or GRID, **options)


def means(found: Pivot) -> dict[tuple[Any, ...], float | None]:
    return {
        (*line.keys.values(), *values): cell.results[line.quantity.name].estimate.mean
        for line in found.lines
        for values, cell in line.cells.items()
    }


def texts(found: Pivot) -> list[list[str]]:
    columns, rows, _ = pivot_table(found)
    return [[column.title for column in columns], *([column.text(row) for column in columns] for row in rows)]


def test_settings_stand_in_order_down_and_across() -> None:
    assert texts(grid()) == [
        ["activation", "lr=0.001", "lr=0.01", "lr=0.1"],
        ["relu", "20.00 ±0.66", "50.00 ±0.66", "80.00 ±0.66"],
        ["tanh", "2.00 ±0.66", "", "5.00 ±0.66"],
    ]


def test_a_cell_is_the_row_of_the_comparison_by_both_settings() -> None:
    compared = compare(GRID, by=["activation", "lr"], metrics=["dead_ratio"])
    expected = {tuple(row.keys.values()): row.results["dead_ratio"] for row in compared.rows}
    for line in grid().lines:
        for values, cell in line.cells.items():
            result = expected[line.keys["activation"], *values]
            assert cell.results["dead_ratio"].estimate == result.estimate
            assert cell.results["dead_ratio"].rank == result.rank


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_runs_changes_nothing(order: int) -> None:
    assert means(grid(GRID[::order])) == means(grid())
    assert grid(GRID[::order]).footnotes == grid().footnotes


def test_n_is_said_once_where_it_is_the_same_and_in_each_cell_where_it_is_not() -> None:
    assert grid().footnotes == ("Cells: dead %, mean and 95% interval, n = 8 each.",)
    rows = [*GRID, *runs("tanh", 0.01, seeds=3)]
    rows[-1]["status"] = "diverged"
    found = grid(rows)
    assert found.footnotes[0] == "Cells: dead %, mean and 95% interval, n in brackets."
    assert texts(found)[2][1:] == ["2.00 ±0.66 (8)", "10.55 ±6.99 (3, 1 diverged)", "5.00 ±0.66 (8)"]


def test_a_cell_whose_runs_all_diverged_says_so_and_is_not_empty() -> None:
    rows = [*GRID, *runs("tanh", 0.01, status="diverged")]
    assert texts(grid(rows))[2] == ["tanh", "2.00 ±0.66", "diverged", "5.00 ±0.66"]
    assert any("diverged runs" in note for note in grid(rows).footnotes)


def test_the_best_cell_has_no_diverged_runs() -> None:
    rows = [*GRID, *runs("tanh", 0.01, 0.011)]
    rows[-1]["status"] = "diverged"
    ranks = {
        (line.keys["activation"], *values): cell.results["dead_ratio"].rank
        for line in grid(rows).lines
        for values, cell in line.cells.items()
    }
    assert [key for key, rank in ranks.items() if rank == "best"] == [("tanh", 0.001)]
    assert ranks["tanh", 0.01] == ""


def test_several_metrics_and_several_settings_each_way() -> None:
    rows = [*GRID, *(r | {"init": "xavier_normal"} for r in runs("relu", 0.1, 0.3))]
    found = grid(rows, down=["activation", "init"], metrics=["dead_ratio", "test_accuracy"])
    lines = texts(found)
    assert lines[0][:3] == ["metric", "activation", "init"]
    assert [line[:3] for line in lines[1:]] == [
        [metric, *names]
        for metric in ("dead %", "test accuracy %")
        for names in (["relu", "he_normal"], ["relu", "xavier_normal"], ["tanh", "he_normal"])
    ]
    across = grid(rows, across=["lr", "init"])
    assert texts(across)[0][-2:] == ["lr=0.1 init=he_normal", "lr=0.1 init=xavier_normal"]


def test_datasets_are_never_averaged_but_may_be_a_setting() -> None:
    rows = [*GRID, *runs("relu", 0.1, 0.3, dataset="kmnist")]
    apart = texts(grid(rows))
    assert apart[0][:2] == ["dataset", "activation"]
    assert [line[:2] for line in apart[1:]] == [["kmnist", "relu"], ["mnist", "relu"], ["mnist", "tanh"]]
    across = texts(grid([r for r in rows if r["lr"] == 0.1], across=["dataset"]))
    assert across == [
        ["activation", "dataset=kmnist", "dataset=mnist"],
        ["relu", "30.00 ±0.66", "80.00 ±0.66"],
        ["tanh", "", "5.00 ±0.66"],
    ]
    down = texts(grid(rows, down=["dataset"], across=["activation"], filter="lr == 0.1"))
    assert down[1:] == [["kmnist", "30.00 ±0.66", ""], ["mnist", "80.00 ±0.66", "5.00 ±0.66"]]


def test_settings_that_vary_within_cells_or_between_them_are_said() -> None:
    within = grid(down=["activation"], across=["dataset"])
    assert any(
        note.startswith("Rows average over settings that vary within them (lr: 0.001") for note in within.footnotes
    )
    between = grid([*runs("relu", 0.1), *runs("tanh", 0.1, batch_size=32)])
    assert "Rows also differ in batch_size, which may cause a difference." in between.footnotes


def test_a_pivot_is_filtered_tuned_and_taken_at_an_epoch_as_a_comparison_is() -> None:
    assert texts(grid(filter="lr < 0.05"))[0] == ["activation", "lr=0.001", "lr=0.01"]
    tuned = grid([r for r in GRID if r["lr"] != 0.01], across=["init"], tune="lr")
    assert texts(tuned) == [["activation", "init=he_normal"], ["relu", "20.00 ±0.66"], ["tanh", "2.00 ±0.66"]]
    assert any("its best of 2 values of lr" in note for note in tuned.footnotes)
    early = grid(epoch=1, curve=lambda row: [{"epoch": 1, "dead_ratio": row["lr"]}])
    assert texts(early)[1] == ["relu", "0.10 ±0.00", "1.00 ±0.00", "10.00 ±0.00"]
    assert "All values are taken after epoch 1, not after the last epoch." in early.footnotes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"down": []}, "a pivot needs a key for its rows and a key for its columns"),
        ({"across": []}, "a pivot needs a key for its rows and a key for its columns"),
        ({"across": ["activation"]}, "activation cannot be in both rows and columns"),
        ({"metrics": []}, "--metric names no metric"),
        ({"metrics": ["sparsity"]}, "no run has a value of sparsity"),
        ({"filter": "lr > 5"}, "leaves none of the 40 runs"),
    ],
)
def test_what_makes_no_pivot_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        grid(**options)
    assert message in str(caught.value)


def test_an_unknown_setting_is_suggested() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'activation'"):
        grid(down=["activaton"])


def test_csv_and_json_have_every_number_of_every_cell() -> None:
    from_csv, from_json = parse_table(write_pivot(grid(), "csv")), json.loads(write_pivot(grid(), "json"))
    assert from_csv == from_json["rows"]
    assert from_json["format_version"] == 1
    assert from_json["footnotes"] == list(grid().footnotes)
    relu, tanh = from_csv
    own = [row["dead_ratio"] for row in GRID if (row["activation"], row["lr"]) == ("relu", 0.01)]
    assert relu["metric"] == "dead_ratio"
    assert relu["lr=0.01_mean"] == pytest.approx(sum(own) / 8)
    assert (relu["lr=0.01_n"], relu["lr=0.01_values"], relu["lr=0.01_diverged"]) == (8, 8, 0)
    assert (tanh["lr=0.01_mean"], tanh["lr=0.01_n"]) == (None, None)
    assert tanh["lr=0.001_rank"] == "best"


def test_latex_prints_the_best_cell_bold_and_all_formats_have_the_same_cells() -> None:
    assert r"\textbf{2.00 $\pm$0.66}" in write_pivot(grid(), "latex")
    cells = [text for line in texts(grid())[1:] for text in line[1:] if text]
    for name in ("md", "latex"):
        text = write_pivot(grid(), name).replace(r"$\pm$", "±")
        assert all(cell in text for cell in cells)
    with pytest.raises(UnknownNameError, match="unknown format"):
        write_pivot(grid(), "html")


def test_hostile_settings_pass_through_every_format() -> None:
    evil = "\x1b[2J|<b>&\n=1[0]"
    rows = [{**row, "activation": evil if row["activation"] == "relu" else "tanh", "note": evil} for row in GRID]
    for across in ("lr", "note"):
        found = grid(rows, across=[across])
        for name in FORMATS:
            text = write_pivot(found, name)
            if name != "csv":  # keeps raw texts
                assert "\x1b" not in text
                assert "\n=1" not in text
        assert parse_table(write_pivot(found, "csv"))[0]["activation"] == evil


def test_only_runs_that_ended_well_have_values() -> None:
    rows = [*GRID, *runs("silu", 0.1, status="failed")]
    found = grid(rows)
    cell = next(line for line in found.lines if line.keys["activation"] == "silu").cells[0.1,]
    assert (cell.n, cell.failed) == (0, 8)
    assert not any(is_diverged(row) for row in rows)
    assert "Not compared and not in n: 8 failed runs." in found.footnotes
