"""The commands that look things up: list, validate, schema, data, doctor (layer 5)."""

from __future__ import annotations

import json
import os
import platform
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import actbench
from actbench import claims, config, datasets
from actbench.activations import ACTIVATIONS
from actbench.cli import completion
from actbench.cli.common import (
    DataDirOption,
    JsonOption,
    MirrorOption,
    OfflineOption,
    ResultsOption,
    SetOption,
    plain_json,
    streams,
)
from actbench.config import grid
from actbench.datasets import DATASETS
from actbench.errors import ConfigError, DataError, Problem
from actbench.initializers import INITIALIZERS
from actbench.metrics import METRICS
from actbench.optimizers import OPTIMIZERS
from actbench.registry import Parameter
from actbench.schedules import SCHEDULES
from actbench.tables import Column
from actbench.text import plural, readable

data_app = typer.Typer(name="data", help="Get, check and describe the datasets.", no_args_is_help=True)
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="mnist, fashion_mnist, kmnist, qmnist or digits.",
        autocompletion=completion.dataset,
    ),
]


class Kind(StrEnum):
    """What `list` can list."""

    activations = "activations"
    inits = "inits"
    datasets = "datasets"
    optimizers = "optimizers"
    schedules = "schedules"
    metrics = "metrics"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("list")(list_entries)
    app.command("validate")(validate)
    app.command("schema")(schema)
    app.command("doctor")(doctor)
    app.add_typer(data_app)


def list_entries(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: JsonOption = False,
) -> None:
    """List what a config can choose, with formulas, parameters, defaults and sources.

    Example: actbench list activations
    """
    rows = _LISTS[kind]()
    to = streams()
    if as_json:
        to.result(plain_json({"format_version": 1, kind.value: rows}))
        return
    if "formula" not in rows[0]:
        to.table([Column(key, key) for key in rows[0]], rows, wide=True)
        return
    for row in rows:
        for line in _block(row):
            to.result(line)


def _block(row: Mapping[str, Any]) -> Iterator[str]:
    """Lay one entry out as a few lines that fit 80 columns: name and formula, facts, parameters, source."""
    yield f"{row['name']:<18}{row['formula']}"
    facts = [f"{key.replace('_', ' ')} {value}" for key, value in row.items() if key in ("range", "sup_slope", "gain")]
    for text in ("; ".join(facts), row.get("traits", ""), *row["parameters"], f"source: {row['source']}"):
        yield from textwrap.wrap(text, 80, initial_indent=" " * 18, subsequent_indent=" " * 20)
    yield ""


def _parameters(parameters: Sequence[Parameter]) -> list[str]:
    return [f"{p.name}: {_value(p.default)}  ({p.doc}; {p.allowed})" for p in parameters]


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _interval(low: float, high: float) -> str:
    """A range of values, open where it has no end."""
    left = "(-inf" if low == float("-inf") else f"[{low:.4g}"
    right = "inf)" if high == float("inf") else f"{high:.4g}]"
    return f"{left}, {right}"


def _activations() -> list[dict[str, Any]]:
    rows = []
    for entry in ACTIVATIONS.values():
        facts = entry.facts(entry.defaults)
        traits = {"monotone": facts.monotone, "smooth": facts.smooth, "bounded": facts.bounded}
        traits["zero-centred"] = facts.zero_centred
        rows.append(
            {
                "name": entry.name,
                "formula": entry.formula,
                "latex": entry.latex,
                "parameters": _parameters(entry.parameters),
                "range": _interval(*facts.range),
                "traits": ", ".join(name for name, holds in traits.items() if holds),
                "sup_slope": f"{float(entry.sup_slope(entry.defaults)):.4g}",
                "gain": f"{entry.gain(entry.defaults):.4f} ({entry.gain_source})",
                "source": entry.source,
            }
        )
    return rows


def _described(registry: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": e.name,
            "formula": e.formula,
            **({"latex": e.latex} if hasattr(e, "latex") else {}),
            "parameters": _parameters(e.parameters),
            "source": e.source,
        }
        for e in registry.values()
    ]


def _datasets() -> list[dict[str, Any]]:
    return [
        {"name": e.name, "title": e.title, "train": e.train, "test": e.test, "licence": e.licence, "source": e.source}
        for e in DATASETS.values()
    ]


def _metrics() -> list[dict[str, Any]]:
    return [{"name": e.name, "better": e.better, "kind": e.kind, "meaning": e.doc} for e in METRICS.values()]


_LISTS: dict[Kind, Callable[[], list[dict[str, Any]]]] = {
    Kind.activations: _activations,
    Kind.inits: lambda: _described(INITIALIZERS),
    Kind.optimizers: lambda: _described(OPTIMIZERS),
    Kind.schedules: lambda: _described(SCHEDULES),
    Kind.datasets: _datasets,
    Kind.metrics: _metrics,
}


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Config and sweep files.")],
    changes: SetOption = None,
) -> None:
    """Check config and sweep files; every problem is named with its file, line and column.

    Example: actbench validate configs/*.yaml
    """
    to = streams()
    problems: list[Problem] = []
    for file in files:
        try:
            found = grid.load_sweep([file], changes or ())
        except ConfigError as error:
            problems += error.problems
        else:
            runs = sum(len(one.seeds) for one in found)
            to.result(f"{readable(str(file))}: ok ({plural(len(found), 'variant')}, {plural(runs, 'run')})")
    if problems:
        raise ConfigError(problems)


def schema(
    of_claims: Annotated[bool, typer.Option("--claims", help="Of claim files instead.")] = False,
) -> None:
    """Print the JSON Schema of config files, for editors.

    Example: actbench schema > actbench.config.schema.json
    """
    streams().result(json.dumps(claims.json_schema() if of_claims else config.json_schema(), indent=2))


@data_app.command("fetch")
def fetch(
    name: NameArgument = "mnist",
    data_dir: DataDirOption = None,
    mirror: MirrorOption = None,
    offline: OfflineOption = False,
) -> None:
    """Download a dataset unless it is there, and check it.

    Example: actbench data fetch mnist
    """
    from actbench.cli.progress import watcher

    to = streams()
    folder = datasets.data_folder(data_dir)
    with watcher(to, [], quiet=False) as watching:
        raw = datasets.fetch(
            name,
            folder,
            offline=offline,
            mirror=mirror,
            progress=watching.on_download,
            note=watching.on_note,
        )
    _report_checks(name, folder)
    to.result(str(raw))


@data_app.command("verify")
def verify(name: NameArgument = "mnist", data_dir: DataDirOption = None) -> None:
    """Check the files of a dataset against their published checksums.

    Example: actbench data verify mnist
    """
    _report_checks(name, datasets.data_folder(data_dir))


def _report_checks(name: str, folder: Path) -> None:
    checks = datasets.verify(name, folder)
    for check in checks:
        streams().result(f"{'ok ' if check.ok else 'BAD'} {check.file}: {check.detail}")
    if not all(check.ok for check in checks):
        raise DataError(f"{name} is damaged or incomplete in {folder}; `actbench data fetch {name}` gets it")


@data_app.command("info")
def info(name: NameArgument = "mnist", data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Describe a dataset: where it lies, how large it is, its classes, licence and source.

    Example: actbench data info digits
    """
    found = datasets.info(name, datasets.data_folder(data_dir))
    to = streams()
    if as_json:
        to.result(plain_json({key: str(v) if isinstance(v, Path) else v for key, v in found.items()}))
        return
    for key, value in found.items():
        to.result(f"{key.replace('_', ' ') + ':':14} {value if value is not None else '-'}")


def doctor(data_dir: DataDirOption = None, results: ResultsOption = Path("results")) -> None:
    """Explain the machine: versions, devices, threads, folders and what is in them.

    Example: actbench doctor
    """
    import torch  # the one look-up that is about torch

    to = streams()
    folder = datasets.data_folder(data_dir)
    cuda = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else []
    there = [name for name in DATASETS if datasets.info(name, folder)["complete"]]
    writable = os.access(results if results.exists() else results.resolve().parent, os.W_OK)
    for what, text in {
        "actbench": actbench.__version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "torch": torch.__version__,
        "cuda": ", ".join(names) if cuda else "not available: runs train on the CPU",
        "cpus": f"{os.cpu_count()}, torch uses {torch.get_num_threads()} threads",
        "data": f"{folder} ({', '.join(there)})",
        "results": f"{results.resolve()} ({'writable' if writable else 'NOT writable'})",
    }.items():
        to.result(f"{what + ':':10} {text}")
    if "mnist" not in there:
        to.note("mnist is not there yet: `actbench data fetch mnist` gets it, or name its folder with --data-dir")
