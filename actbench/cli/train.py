"""The command train, and what it shares with sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from actbench import comparison, config, sweeps, tables
from actbench.cli.console import Streams, plain_json, streams
from actbench.cli.live import watcher
from actbench.cli.notes import announcement, failures, show_plan, version_notes
from actbench.cli.options import (
    ConfigOption,
    DataDirOption,
    DeviceOption,
    JsonOption,
    LanesOption,
    MirrorOption,
    OfflineOption,
    QuietOption,
    ResultsOption,
    SeedOption,
    SeedsOption,
    SetOption,
    ThreadsOption,
    TrackOption,
    with_fields_of,
)
from actbench.config import Config
from actbench.errors import UsageError
from actbench.events import Broadcast
from actbench.store import Store, StoredRun
from actbench.text import plural
from actbench.trackers import Tracking


class Executor(StrEnum):
    """Where lane groups are trained."""

    local = "local"
    ray = "ray"


@dataclass(frozen=True)
class Flags:
    """The options that train and sweep share."""

    configs: ConfigOption
    changes: SetOption = None
    seeds: SeedsOption = None
    seed: SeedOption = None
    results: ResultsOption = Path("results")
    data_dir: DataDirOption = None
    device: DeviceOption = None
    threads: ThreadsOption = None
    lanes: LanesOption = None
    offline: OfflineOption = False
    mirror: MirrorOption = None
    force: Annotated[bool, typer.Option("--force", help="Train anew what is done, and replace it.")] = False
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first run that fails.")] = False
    executor: Annotated[Executor, typer.Option(help="Train in this process, or on a Ray cluster.")] = Executor.local
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="The Ray cluster; by default the one that Ray finds, else one on this machine."
        ),
    ] = None
    tf32: Annotated[
        bool, typer.Option("--tf32", help="On CUDA, multiply in TF32: faster, and no longer exact float32.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained, and stop.")] = False
    track: TrackOption = None
    quiet: QuietOption = False
    as_json: JsonOption = False

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.ray_address is not None and self.executor != Executor.ray:
            raise UsageError("--ray-address needs --executor ray")

    @property
    def options(self) -> sweeps.Options:
        """Where and how to train."""
        return sweeps.Options(
            threads=self.threads,
            lanes=self.lanes,
            data_dir=self.data_dir,
            offline=self.offline,
            mirror=self.mirror,
            force=self.force,
            fail_fast=self.fail_fast,
            executor=self.executor.value,
            ray_address=self.ray_address,
            tf32=self.tf32,
        )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train")(with_fields_of(Flags)(train))


def train(
    flags: Flags,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved config, which runs back in, and stop.")
    ] = False,
) -> None:
    """Train every seed of each config's variant, and end with a table of accuracy, dead neurons and time.

    Runs that are done are skipped, interrupted ones go on, failed ones are tried again: the same command
    again is the resume. Progress goes to stderr, the table to stdout.

    Example: actbench train --config configs/relu.yaml --set lr=0.01 --seeds 10
    """
    loaded = config.load_all(
        flags.configs, flags.changes or (), seeds=flags.seeds, seed=flags.seed, device=flags.device
    )
    if print_config:
        if len(loaded) != 1:
            raise UsageError(f"--print-config prints one config, but {len(loaded)} were given")
        streams().out.file.write(config.to_yaml(loaded[0].variant, loaded[0].seeds))
        return
    train_or_preview(loaded, flags)


def train_or_preview(configs: Sequence[Config], flags: Flags) -> None:
    """Show what is open, or train it; end with the exit code."""
    to = streams()
    store = Store(flags.results, note=to.note)
    plan = sweeps.make_plan([run for one in configs for run in one.runs()], store, force=flags.force)
    if flags.dry_run:
        show_plan(to, plan, store, flags.options, as_json=flags.as_json)
    else:
        raise typer.Exit(_train(to, plan, store, flags))


def _train(to: Streams, plan: sweeps.Plan, store: Store, flags: Flags) -> int:
    """Train what is open, print the table of all that was asked for, return the exit code."""
    tracking = Tracking(flags.track or (), flags.results, to.note)
    if not flags.quiet:
        to.note(announcement(plan))
        for note in version_notes(plan):
            to.note(note)
    with sweeps.Interrupts(to.note) as stop, watcher(to, plan.open, quiet=flags.quiet) as watching, tracking:
        report = sweeps.run(plan, store, flags.options, Broadcast([watching, tracking]), stop)
    _show_results(to, report.stored(store), report, as_json=flags.as_json)
    for note in failures(plan, report, store, flags.data_dir):
        to.note(note)
    if report.stopped and report.unfinished:
        unfinished = plural(report.unfinished, "unfinished run")
        to.note(f"stopped; kept {unfinished}: to continue, run the same command again")
    return stop.exit_code or (1 if report.failed else 0)


def _show_results(to: Streams, stored: Sequence[StoredRun], report: sweeps.Report, *, as_json: bool) -> None:
    rows = [run.row for run in stored]
    if as_json:
        to.result(plain_json({"format_version": 1, "runs": rows, "failed": report.failed, "stopped": report.stopped}))
    elif rows:
        found = comparison.compare(rows)
        to.table(*tables.comparison_table(found), found.footnotes)
