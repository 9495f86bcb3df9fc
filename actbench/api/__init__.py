"""The Python interface: `from actbench import train, sweep, compare`.

The functions do what the commands of the same names do, on files or on plain mappings. They return typed results that
convert to pandas or polars. Unless told to be quiet, they report progress on stderr.
"""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from actbench import comparison, config, sweeps
from actbench.api.frames import Comparison, Runs, Table
from actbench.comparison.quantities import Curve
from actbench.config import Config, Document, Place, Setting, Variant
from actbench.errors import UsageError
from actbench.events import Broadcast, PlainProgress
from actbench.store import Store, StoredRun
from actbench.store.csv import Row
from actbench.store.read import ReadRows, read_rows
from actbench.text import readable, readable_lines, split_commas
from actbench.trackers import Tracking

__all__ = ["Comparison", "Runs", "Table", "compare", "sweep", "train"]

FilePath: TypeAlias = str | os.PathLike[str]
Source: TypeAlias = FilePath | Mapping[str, Any] | Config | Variant
"""What can be trained: the path of a YAML file, a built-in config's name, keys as a mapping, or a loaded config."""


def train(
    configs: Source | Sequence[Source],
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - named like its flag
    seeds: int | Sequence[int] | None = None,
    results: FilePath | None = None,
    data_dir: FilePath | None = None,
    device: str | None = None,
    threads: int | None = None,
    lanes: int | None = None,
    offline: bool = False,
    force: bool = False,
    executor: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    track: str | Sequence[str] = (),
    quiet: bool = False,
) -> Runs:
    """Train every seed of each config's variant, except finished runs, and return the stored runs.

        runs = train({"dataset": "digits", "activation": "silu"}, seeds=3, set={"optimizer.momentum": 0.9})

    set: keys that replace those of every config; a dot leads to a key inside another. seeds: how many (0 to n - 1),
    or a list of them. results: the folder, by default ACTBENCH_RESULTS or `results`. track: `tensorboard`, `mlflow` or
    both. The other arguments are those of the command.
    A failed run does not raise: a warning reports it, and `failed` of the result holds its error.
    Raises ConfigError, DataError, DeviceError and StoreError; KeyboardInterrupt at the end of the epoch in which
    Ctrl-C was pressed.
    """
    changes = _changes(set, seeds, device)
    variants = config.collect(lambda source: config.check(_document(source, changes)), _sources(configs))
    folder = _path(data_dir, "data_dir") if data_dir is not None else None
    how = sweeps.Options(threads, lanes, folder, offline, None, force, False, executor, ray_address)
    return _run(variants, how, results, track, quiet=quiet)


def sweep(
    configs: Source | Sequence[Source],
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    zip: Mapping[str, Sequence[Any]] | None = None,  # noqa: A002 - named like the key of a sweep file
    set: Mapping[str, Any] | None = None,  # noqa: A002 - named like its flag
    seeds: int | Sequence[int] | None = None,
    results: FilePath | None = None,
    data_dir: FilePath | None = None,
    device: str | None = None,
    threads: int | None = None,
    lanes: int | None = None,
    offline: bool = False,
    force: bool = False,
    executor: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    track: str | Sequence[str] = (),
    quiet: bool = False,
) -> Runs:
    """Train every variant of the `sweep` key of the files, or of `grid` and `zip`, and return the stored runs.

        runs = sweep("relu", grid={"activation": ["relu", "tanh"], "lr": [1e-3, 1e-2]}, seeds=6)

    grid: every combination of these values. zip: the first value of each key together, then the second, and so on.
    Everything else is as in `train`.
    """
    changes, columns = _changes(set, seeds, device), [*_columns("grid", grid), *_columns("zip", zip)]
    expanded = config.collect(lambda source: config.expand(_document(source, changes), columns), _sources(configs))
    folder = _path(data_dir, "data_dir") if data_dir is not None else None
    how = sweeps.Options(threads, lanes, folder, offline, None, force, False, executor, ray_address)
    return _run(list(itertools.chain(*expanded)), how, results, track, quiet=quiet)


def compare(
    results: Runs | StoredRun | FilePath | Sequence[Any] | None = None,
    *,
    by: str | Sequence[str] | None = None,
    baseline: str | None = None,
    metric: str | Sequence[str] = "test_accuracy",
    filter: str | None = None,  # noqa: A002 - named like its flag
    sort: str | None = None,
    epoch: int | None = None,
    tune: str | None = None,
    equivalence: float | None = None,
    top: int | None = None,
    only_changed: bool = False,
) -> Comparison:
    """Compare variants, paired by seed: means with intervals, differences from a baseline, verdicts.

        compare(runs, by="activation", metric=["test_accuracy", "dead_ratio"]).to_pandas()

    results: what `train` or `sweep` returned, stored runs, results folders, run folders, CSV files with the columns
    of runs.csv, globs, or a list of any of these; by default the results folder. The other arguments are those of
    the command `compare`. A warning names run folders that cannot be read. Raises UsageError and StoreError.
    """
    rows, epochs = _rows_in(results)
    found = comparison.compare(
        rows,
        by=split_commas(by) if isinstance(by, str) else by,
        baseline=baseline,
        metrics=(split_commas(metric) or ()) if isinstance(metric, str) else metric,
        filter=filter,
        sort=sort,
        epoch=epoch,
        curve=epochs,
        equivalence=equivalence,
        tune=tune,
        only_changed=only_changed,
        top=top,
    )
    return Comparison(found)


def _run(
    variants: Sequence[Config],
    how: sweeps.Options,
    results: FilePath | None,
    track: str | Sequence[str],
    *,
    quiet: bool,
) -> Runs:
    """Train the open runs and return all of them, in the order in which they were asked for."""
    progress = PlainProgress(_to_stderr, quiet=quiet)
    store = Store(_results_folder(results), note=progress.on_note)
    tracking = Tracking([track] if isinstance(track, str) else track, store.root, _to_stderr)
    plan = sweeps.make_plan([run for one in variants for run in one.runs()], store, force=how.force)
    for note in plan.name_notes():
        progress.on_note(note)
    with sweeps.Interrupts() as stop, tracking:
        report = sweeps.run(plan, store, how, Broadcast([progress, tracking]), stop)
    if stop():
        raise KeyboardInterrupt
    if report.failed:
        first = next(run.run_id for run in plan.runs if run.run_id in report.failed)
        message = f"{len(report.failed)} of {len(plan.runs)} runs failed; the first, {first}: {report.failed[first]}"
        warnings.warn(readable_lines(message), RuntimeWarning, stacklevel=3)
    return Runs(report.stored(store), report.failed)


def _sources(configs: Source | Sequence[Source]) -> Sequence[Source]:
    if isinstance(configs, str | os.PathLike | Mapping | Config | Variant) or not isinstance(configs, Sequence):
        return [configs]  # whatever it is, `_document` says what it should be
    return configs


def _document(source: Source, changes: Sequence[Setting]) -> Document:
    """Return the keys of `source` after the changes, not checked yet. Raises ConfigError and UsageError."""
    if isinstance(source, Config):
        document = Document("config", config.resolved(source.variant, source.seeds))
    elif isinstance(source, Variant):
        document = Document("config", source.plain())
    elif isinstance(source, Mapping):
        document = Document("config", {str(key): value for key, value in source.items()})
    elif isinstance(source, str | os.PathLike):
        document = config.read(config.find_config(Path(source)))
    else:
        kind = type(source).__name__
        raise UsageError(f"a config is a path, a mapping of its keys, a Config or a Variant, not {kind}")
    return config.changed(document, changes)


def _changes(keys: Mapping[str, Any] | None, seeds: int | Sequence[int] | None, device: str | None) -> list[Setting]:
    """Return the settings that the arguments put in place of those of the configs."""
    found = [Setting(tuple(key.split(".")), value, Place(f"set {key}")) for key, value in (keys or {}).items()]
    own = {"seeds": seeds if isinstance(seeds, int | None) else list(seeds), "device": device}
    return found + [Setting((key,), value, Place(key)) for key, value in own.items() if value is not None]


def _columns(part: str, columns: Mapping[str, Sequence[Any]] | None) -> list[Setting]:
    return [
        Setting(("sweep", part, key), values if isinstance(values, str) else list(values), Place(f"{part} {key}"))
        for key, values in (columns or {}).items()
    ]


def _rows_in(results: Any) -> tuple[list[Row], Curve]:
    """Return the rows that `results` stands for, and a function from a row to its epochs. Warn of unreadable runs."""
    found: dict[Path, StoredRun] = {}
    paths: list[str] = []
    for one in [results] if isinstance(results, StoredRun | str | os.PathLike) or results is None else results:
        if isinstance(one, StoredRun):
            found[one.folder.resolve()] = one
        elif isinstance(one, Runs):
            found |= {run.folder.resolve(): run for run in one}
        elif isinstance(one, str | os.PathLike) or one is None:
            paths.append(os.fspath(one) if one is not None else str(_results_folder(None)))
        else:
            raise UsageError(f"compare takes runs, paths or lists of them, not {type(one).__name__}")
    read = read_rows(paths, _results_folder(None)) if paths else ReadRows()
    for problem in read.problems:
        warnings.warn(readable(f"skipped {problem}"), RuntimeWarning, stacklevel=3)
    given = {id(run.row): run for run in found.values()}

    def epochs(row: Mapping[str, Any]) -> Sequence[Row]:
        return given[id(row)].epochs() if id(row) in given else read.epochs(row)

    return [*(run.row for run in found.values()), *read.rows], epochs


def _results_folder(given: FilePath | None) -> Path:
    if given is not None:
        return _path(given, "results")
    return Path(os.environ.get("ACTBENCH_RESULTS") or "results")


def _path(given: FilePath, what: str) -> Path:
    """Refuse an empty text, which `Path` would take for the current folder."""
    if not os.fspath(given):
        raise UsageError(f"{what} is empty; give a path, or leave it out")
    return Path(given)


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{readable(text)}\n")
