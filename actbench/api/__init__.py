"""The Python interface: `from actbench import train, sweep, compare` (layer 5, below the command line).

Imports `config`, `sweep`, `comparison`, the store, `watchers` and `frames`; torch when something is trained.
The functions do what the commands of the same names do, on files or on plain mappings, and return typed
results that convert to pandas or polars. Unless told to be quiet, they tell their progress on stderr.
"""

from __future__ import annotations

import copy
import itertools
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
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
from actbench.trackers import Tracking

__all__ = ["Comparison", "Runs", "Table", "compare", "sweep", "train"]

Source: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Config | Variant
"""What can be trained: the path of a YAML file, its keys as a mapping, or a config that was loaded."""


def train(
    configs: Source | Sequence[Source],
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - named like its flag
    seeds: int | Sequence[int] | None = None,
    results: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
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
    """Train every seed of each config's variant, unless it is done, and return the stored runs.

        runs = train({"dataset": "digits", "activation": "silu"}, seeds=3, set={"optimizer.momentum": 0.9})

    set: keys that replace those of every config, parts written with a point. seeds: how many (0 to n - 1), or
    which. results: the folder, by default ACTBENCH_RESULTS or `results`. track: `tensorboard`, `mlflow`, or both.
    The others are the flags of the command.
    A run that fails raises nothing: it is told in a warning and stands in `failed` of what is returned.
    Raises ConfigError, DataError, DeviceError and StoreError; KeyboardInterrupt after the epoch in which it came.
    """
    documents = [partial(_plain_document, one) for one in _listed(configs)]
    changes = _changes(set, seeds, device)
    loaded = config.collect([partial(_one, document, changes) for document in documents])
    options = sweeps.Options(
        threads=threads,
        lanes=lanes,
        data_dir=_path(data_dir),
        offline=offline,
        force=force,
        executor=executor,
        ray_address=ray_address,
    )
    return _run(loaded, results, options, track, quiet=quiet)


def sweep(
    configs: Source | Sequence[Source],
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    zip: Mapping[str, Sequence[Any]] | None = None,  # noqa: A002 - named like the key of a sweep file
    set: Mapping[str, Any] | None = None,  # noqa: A002 - named like its flag
    seeds: int | Sequence[int] | None = None,
    results: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
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
    """Train every variant that files with `sweep:`, or `grid` and `zip`, make; return the stored runs.

        runs = sweep("configs/relu.yaml", grid={"activation": ["relu", "tanh"], "lr": [1e-3, 1e-2]}, seeds=6)

    grid: every combination of these values. zip: their first values together, their second ones, and so on.
    All else is as in `train`.
    """
    flags = [*_columns("grid", grid), *_columns("zip", zip)]
    changes = _changes(set, seeds, device)
    documents = [partial(_plain_document, one) for one in _listed(configs)]
    loaded = config.collect([partial(_expanded, document, changes, flags) for document in documents])
    options = sweeps.Options(
        threads=threads,
        lanes=lanes,
        data_dir=_path(data_dir),
        offline=offline,
        force=force,
        executor=executor,
        ray_address=ray_address,
    )
    return _run(list(itertools.chain(*loaded)), results, options, track, quiet=quiet)


def compare(
    results: Runs | StoredRun | str | os.PathLike[str] | Sequence[Any] | None = None,
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
    """Compare variants, paired by seed: means with intervals, differences to a baseline, verdicts.

        compare(runs, by="activation", metric=["test_accuracy", "dead_ratio"]).to_pandas()

    results: what `train` or `sweep` returned, stored runs, results folders, run folders, CSV files with the columns
    of runs.csv, globs, or a list of any of these; by default the results folder. The others are the flags of the
    command `compare`. Run folders that cannot be read are told in a warning. Raises UsageError and StoreError.
    """
    rows, epochs = _rows_in(results)
    found = comparison.compare(
        rows,
        by=_texts(by),
        baseline=baseline,
        metrics=_texts(metric) or (),
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
    configs: Sequence[Config],
    results: str | os.PathLike[str] | None,
    options: sweeps.Options,
    track: str | Sequence[str],
    *,
    quiet: bool,
) -> Runs:
    """Train what is open and return all that was asked for, in that order."""
    progress = PlainProgress(_to_stderr, quiet=quiet)
    store = Store(_results_folder(results), note=progress.on_note)
    tracking = Tracking([track] if isinstance(track, str) else track, store.root, _to_stderr)
    plan = sweeps.make_plan([run for one in configs for run in one.runs()], store, force=options.force)
    with sweeps.Interrupts() as stop, tracking:
        report = sweeps.run(plan, store, options, Broadcast([progress, tracking]), stop)
    if stop():
        raise KeyboardInterrupt
    if report.failed:
        first = next(run.run_id for run in plan.runs if run.run_id in report.failed)
        message = f"{len(report.failed)} of {len(plan.runs)} runs failed; the first, {first}: {report.failed[first]}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return Runs(report.stored(store), report.failed)


def _plain_document(source: Source) -> Document:
    """Return the keys that `source` holds, not checked yet; raises ConfigError."""
    if isinstance(source, Config):
        return Document("config", config.resolved(source.variant, source.seeds))
    if isinstance(source, Variant):
        return Document("config", source.plain())
    if isinstance(source, Mapping):
        return Document("config", {str(key): copy.deepcopy(value) for key, value in source.items()})
    if isinstance(source, str | os.PathLike):
        return config.open_config(Path(source))
    raise UsageError(f"a config is a path, a mapping of its keys, a Config or a Variant, not {type(source).__name__}")


def _one(document: Any, changes: Sequence[Setting]) -> Config:
    return config.single(_changed(document(), changes))


def _expanded(document: Any, changes: Sequence[Setting], flags: Sequence[Setting]) -> list[Config]:
    return config.with_flags(_changed(document(), changes), flags)


def _changed(document: Document, changes: Sequence[Setting]) -> Document:
    for change in changes:
        config.apply(document, copy.deepcopy(change))
    return document


def _changes(keys: Mapping[str, Any] | None, seeds: int | Sequence[int] | None, device: str | None) -> list[Setting]:
    """Return what the arguments put in the place of what the configs say."""
    found = [Setting(tuple(key.split(".")), value, Place(f"set {key}")) for key, value in (keys or {}).items()]
    if seeds is not None:
        plain = seeds if isinstance(seeds, int) else list(seeds)
        found.append(Setting(("seeds",), plain, Place("seeds")))
    if device is not None:
        found.append(Setting(("device",), device, Place("device")))
    return found


def _columns(part: str, columns: Mapping[str, Sequence[Any]] | None) -> list[Setting]:
    return [
        Setting(("sweep", part, key), values if isinstance(values, str) else list(values), Place(f"{part} {key}"))
        for key, values in (columns or {}).items()
    ]


def _rows_in(results: Any) -> tuple[list[Row], Curve]:
    """Return the rows that `results` means, and what gives their epochs; warn of what cannot be read."""
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
        warnings.warn(f"skipped {problem}", RuntimeWarning, stacklevel=3)
    given = {id(run.row): run for run in found.values()}

    def epochs(row: Mapping[str, Any]) -> Sequence[Row]:
        return given[id(row)].epochs() if id(row) in given else read.epochs(row)

    return [*(run.row for run in found.values()), *read.rows], epochs


def _listed(configs: Source | Sequence[Source]) -> Sequence[Source]:
    if isinstance(configs, str | os.PathLike | Mapping | Config | Variant):
        return [configs]
    if not isinstance(configs, Sequence):
        return [configs]  # whatever it is, `_plain_document` says what it should have been
    return configs


def _texts(given: str | Sequence[str] | None) -> list[str] | None:
    """Split `a,b` at its commas, like the flags; a list stays as it is."""
    if given is None:
        return None
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else list(given)


def _results_folder(given: str | os.PathLike[str] | None) -> Path:
    return Path(given if given is not None else os.environ.get("ACTBENCH_RESULTS") or "results")


def _path(given: str | os.PathLike[str] | None) -> Path | None:
    return Path(given) if given is not None else None


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
