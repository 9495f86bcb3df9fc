"""The options that several commands share, each declared once as an annotated type.

A command takes one by naming it: `def show(run: options.Run, results: options.Results = options.RESULTS)`. Its help,
check and Tab candidates come along.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from actbench.activations import ACTIVATIONS
from actbench.activations.definition import check_chain
from actbench.cli import completion
from actbench.comparison import EPOCH
from actbench.config import Choice, parse_value
from actbench.config.choices import CHAIN
from actbench.config.rules import BadValueError
from actbench.errors import ConfigError, Problem, UsageError, suggestion
from actbench.registry import Parameter
from actbench.sweeps.plan import LANES, THREADS
from actbench.tables import FORMATS


def path(text: str | Path) -> Path:
    """Refuse an empty text, which `Path` would take for the current folder, as in `--results "$UNSET"`."""
    if not str(text):
        raise typer.BadParameter("is empty; give a path")
    return Path(text)


# --- what to train ---------------------------------------------------------------------------------------------

Configs = Annotated[
    list[Path],
    typer.Option(
        "--config",
        "-c",
        metavar="FILE|NAME",
        help="Config file, or the name of a built-in config (repeatable).",
        parser=path,
        autocompletion=completion.config_file,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Change a key in every file, such as lr=0.01 (repeatable).",
        autocompletion=completion.setting,
    ),
]
Seeds = Annotated[
    str | None, typer.Option("--seeds", metavar="N|A,B,...", help="Number of seeds (0 to N-1), or a list of seeds.")
]


def within(limits: Parameter) -> Callable[[int | None], int | None]:
    """Return the callback of an option that takes only what `limits` allows."""

    def check(value: int | None) -> int | None:
        try:
            return value if value is None else int(limits.check(value))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return check


Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Train only this seed.")]
Force = Annotated[bool, typer.Option("--force", help="Train finished runs again and replace them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be trained and how long it may take.")]

# --- where and how to train ------------------------------------------------------------------------------------

Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where to train; overrides the config files.",
        autocompletion=completion.device,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        callback=within(THREADS),
        help="Runs that train at once on the CPU. Results do not depend on it.",
    ),
]
Lanes = Annotated[
    int | None,
    typer.Option("--lanes", metavar="N", callback=within(LANES), help="Maximum number of runs in a lane group."),
]
ExecutorName = Literal["local", "ray"]
Executor = Annotated[
    ExecutorName | None,
    typer.Option(
        "--executor",
        metavar="local|ray",
        help="Train in this process or on a Ray cluster. Default: local, or ray if you give --ray-address.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="Ray cluster. Default with --executor ray: the cluster Ray finds, else a new one on this machine.",
    ),
]
Tf32 = Annotated[bool, typer.Option("--tf32", help="On CUDA, multiply in TF32: faster, but not exact float32.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop after the first run that fails.")]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="KIND[=WHERE]",
        help="Also log to tensorboard[=DIR] or mlflow[=URI] (repeatable).",
        autocompletion=completion.tracker,
    ),
]

# --- folders and downloads -------------------------------------------------------------------------------------

RESULTS = Path("results")

Results = Annotated[
    Path,
    typer.Option("--results", metavar="DIR", envvar="ACTBENCH_RESULTS", help="Results folder.", parser=path),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="ACTBENCH_DATA_DIR",
        help="Datasets folder; may already contain MNIST/raw. Default: the platform's cache folder.",
        parser=path,
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not use the network.")]
Mirror = Annotated[
    str | None,
    typer.Option("--mirror", metavar="URL", envvar="ACTBENCH_MIRROR", help="Address to try first for downloads."),
]

# --- which stored runs -----------------------------------------------------------------------------------------

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Run id, the beginning of one, or a run folder.", autocompletion=completion.run_id
    ),
]
Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="Results folders, run folders, CSV files like runs.csv, or globs."),
]
Folders = Annotated[list[str] | None, typer.Argument(metavar="PATH", help="Results folders, run folders or globs.")]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="EXPR", help='Keep only these runs: "lr <= 0.01 and seed < 5".')
]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="KEY,...",
        help="Keys that tell variants apart. Default: all settings.",
        autocompletion=completion.key,
    ),
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", metavar="V", help="Variant that the others are compared with.")
]
Metrics = Annotated[
    str,
    typer.Option(
        "--metric",
        "-m",
        metavar="M,...",
        help="Metrics; epochs_to:test_accuracy>=0.97 and auc:M also work.",
        autocompletion=completion.metric,
    ),
]
Epoch = Annotated[
    int | None,
    typer.Option("--epoch", metavar="N", callback=within(EPOCH), help="Use the metrics after this epoch."),
]
Tune = Annotated[
    str | None,
    typer.Option(
        "--tune",
        metavar="KEY",
        help="Take each variant at its best value of KEY, chosen by validation accuracy.",
        autocompletion=completion.key,
    ),
]

# --- what is printed -------------------------------------------------------------------------------------------

Wide = Annotated[bool, typer.Option("--wide", help="Show the whole table, however narrow the terminal is.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress and notes.")]


def _format(*names: str) -> Any:
    """Declare `--format` for a command that prints these formats."""

    def check(name: str) -> str:
        if name not in names:
            raise UsageError(f"unknown format {name!r}{suggestion(name, names)} (allowed: {', '.join(names)})")
        return name

    def candidates(incomplete: str) -> Sequence[str]:
        return [name for name in names if name.startswith(incomplete)]

    return typer.Option(
        "--format", metavar="|".join(names), help="Output format.", callback=check, autocompletion=candidates
    )


Format = Annotated[str, _format("table", *FORMATS)]
JsonFormat = Annotated[str, _format("table", "json")]


# --- activations as tables show them ---------------------------------------------------------------------------

_WITH_PARAMETERS = re.compile(r"\s*([a-z0-9_]+)\s*\((.*)\)\s*", re.DOTALL)


def activation_chains(texts: Sequence[str]) -> list[tuple[Choice, ...]]:
    """Read activations as a config writes them, or as tables show them: `elu(alpha=2)`."""
    problems, found = [], []
    for text in texts:
        source = f"activation {text}"
        shown = _WITH_PARAMETERS.fullmatch(text)
        yaml = f"{{name: {shown[1]}, {shown[2].replace('=', ': ')}}}" if shown else text
        try:
            chain = CHAIN.check(parse_value(yaml, source))
            check_chain([(ACTIVATIONS[choice.name], choice.params) for choice in chain])
            found.append(chain)
        except BadValueError as bad:
            problems += [Problem(source, ": ".join([*map(str, flaw.path), flaw.message])) for flaw in bad.flaws]
        except UsageError as error:
            problems += error.problems if isinstance(error, ConfigError) else [Problem(source, str(error))]
    if problems:
        raise ConfigError(problems)
    return found
