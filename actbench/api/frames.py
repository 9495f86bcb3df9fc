"""What the Python interface returns: rows that print well and convert to pandas or polars, if you ask for it."""

from __future__ import annotations

import html
import importlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from rich.console import Console

from actbench import comparison, tables
from actbench.errors import UsageError
from actbench.store import StoredRun
from actbench.store.run import LAYERS
from actbench.tables import Column
from actbench.text import number_text, plural, readable, value_text

if TYPE_CHECKING:
    import pandas
    import polars

Item = TypeVar("Item")
Shown: TypeAlias = tuple[str, Sequence[Column], Sequence[Mapping[str, Any]], Sequence[str]]
"""What a person sees of a frame: a line, and the columns, rows and footnotes of a table."""
_WIDTH = 120
_MOST_SHOWN = 30


class Frame(Sequence[Item], ABC):
    """A sequence of items with a table: `rows` are dicts with the same keys in the same order; missing is None."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    @property
    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The rows, as new dicts."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def to_pandas(self) -> pandas.DataFrame:
        """Return the rows as a pandas DataFrame. Raises UsageError if pandas is not installed."""
        return _library("pandas").DataFrame(self._by_column())

    def to_polars(self) -> polars.DataFrame:
        """Return the rows as a polars DataFrame. Raises UsageError if polars is not installed."""
        return _library("polars").DataFrame(self._by_column())

    def _by_column(self) -> dict[str, list[Any]]:
        """Return the values by column. Each column has one type: a column that mixes text with others becomes text."""
        rows = self.rows
        return {name: _one_type([row.get(name) for row in rows]) for name in self.columns}

    @abstractmethod
    def _shown(self) -> Shown: ...

    def __repr__(self) -> str:
        """Show the line and the table in plain text."""
        line, columns, rows, notes = self._shown()
        if not rows:
            return line
        console = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
        console.print(tables.terminal_table(columns, rows[:_MOST_SHOWN], width=_WIDTH))
        assert isinstance(console.file, io.StringIO)
        more = [f"... {len(rows) - _MOST_SHOWN} more rows"] if len(rows) > _MOST_SHOWN else []
        notes = [f"[{number}] {readable(note)}" for number, note in enumerate(notes, 1)]
        table = [text.rstrip() for text in console.file.getvalue().splitlines()]
        return "\n".join([*([line] if line else []), *table, *more, *notes])

    def _repr_html_(self) -> str:
        """Show the same in a notebook, with all names escaped."""
        line, columns, rows, notes = self._shown()
        head = "".join(f"<th>{html.escape(column.heading)}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(column.text(row))}</td>" for column in columns) + "</tr>"
            for row in rows[:_MOST_SHOWN]
        )
        more = f"<p>... {len(rows) - _MOST_SHOWN} more rows</p>" if len(rows) > _MOST_SHOWN else ""
        below = "".join(f"<li>{html.escape(readable(note))}</li>" for note in notes)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
        return f"{f'<p>{html.escape(line)}</p>' if line else ''}{table}{more}{f'<ol>{below}</ol>' if below else ''}"


class Table(Frame[dict[str, Any]]):
    """A plain table, such as the epochs of some runs."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, as new dicts."""
        return [dict(row) for row in self]

    def _shown(self) -> Shown:
        return f"{plural(len(self), 'row')}", [Column(name, name, _short) for name in self.columns], self, ()


class Runs(Frame[StoredRun]):
    """Stored runs, in the order in which they were asked for.

    `rows` are those of runs.csv. Failed runs are not among them: `failed` holds, by run id, the last line of each one's
    traceback.
    """

    def __init__(self, runs: Sequence[StoredRun], failed: Mapping[str, str] | None = None) -> None:
        super().__init__(tuple(runs))
        self.failed = dict(failed or {})

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The runs' rows of runs.csv, as new dicts."""
        return [dict(run.row) for run in self]

    def epochs(self) -> Table:
        """Return one row per run and epoch; epoch 0 is the untrained network. Raises StoreError for damaged files."""
        return _each(self, StoredRun.epochs)

    def layers(self) -> Table:
        """Return one row per run, epoch and layer (0: the first hidden one). Raises StoreError for damaged files."""
        return _each([run for run in self if LAYERS in run.files], StoredRun.layer_rows)

    def neurons(self) -> Table:
        """Return one row per run and hidden unit, after training. Raises StoreError for damaged files."""
        return _each(self, StoredRun.neurons)

    @overload
    def __getitem__(self, index: int) -> StoredRun: ...

    @overload
    def __getitem__(self, index: slice) -> Runs: ...

    def __getitem__(self, index: int | slice) -> StoredRun | Runs:
        return Runs(self._items[index], self.failed) if isinstance(index, slice) else self._items[index]

    def __add__(self, other: Runs) -> Runs:
        """Return the runs of both, each once."""
        both = {run.folder: run for run in (*self, *other)}
        return Runs(list(both.values()), {**self.failed, **other.failed})

    def _shown(self) -> Shown:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        line = f"{plural(len(self), 'run')}{failed}"
        if not self:
            return line, (), (), ()
        found = comparison.compare(self.rows)
        return line, *tables.comparison_table(found), found.footnotes


class Comparison(Frame[comparison.ComparisonRow]):
    """One row per variant, best first, with the footnotes of the table. `found` holds every number, typed.

    `rows` are those of `actbench compare --format json`: every number has its own column.
    """

    def __init__(self, found: comparison.Comparison) -> None:
        super().__init__(found.rows)
        self.found = found

    @property
    def footnotes(self) -> tuple[str, ...]:
        """What you need to know before you believe the table."""
        return self.found.footnotes

    @property
    def baseline(self) -> str:
        """The label of the row with which the others are compared."""
        return self.found.baseline

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, with every number in its own column, as new dicts."""
        columns, rows = tables.comparison_table(self.found, raw=True)
        return [{column.key: row.get(column.key) for column in columns} for row in rows]

    def format(self, name: str) -> str:
        """Return the table as `md`, `latex`, `csv` or `json`. Raises UnknownNameError for another format."""
        return tables.write_comparison(self.found, name)

    def _shown(self) -> Shown:
        return "", *tables.comparison_table(self.found), self.found.footnotes


def _each(runs: Iterable[StoredRun], read: Callable[[StoredRun], Sequence[Mapping[str, Any]]]) -> Table:
    """Return what `read` finds in each run, with the run's id, name and seed."""
    named = [(run, {"run_id": run.run_id, "name": run.row.get("name"), "seed": run.seed}) for run in runs]
    return Table([{**name, **row} for run, name in named for row in read(run)])


def _one_type(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return values if len(kinds) <= 1 else [None if value is None else value_text(value) for value in values]


def _short(value: Any) -> str:
    return number_text(value, ".6g") if isinstance(value, float) else value_text(value)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(f"to_{name} needs {name}; install it with: pip install {name}") from None
