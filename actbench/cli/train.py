"""The command train: config files -> plan -> training -> table. `sweep` shares all but the first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from actbench import comparison, config, sweeps, tables
from actbench.cli import notes, options
from actbench.cli.console import streams
from actbench.cli.live import watcher
from actbench.config import Config
from actbench.errors import UsageError
from actbench.events import Broadcast
from actbench.store import Store
from actbench.trackers import Tracking


def train(
    configs: options.Configs,
    changes: options.Changes = None,
    seeds: options.Seeds = None,
    seed: options.Seed = None,
    results: options.Results = options.RESULTS,
    data_dir: options.DataDir = None,
    device: options.Device = None,
    threads: options.Threads = None,
    lanes: options.Lanes = None,
    offline: options.Offline = False,
    mirror: options.Mirror = None,
    force: options.Force = False,
    fail_fast: options.FailFast = False,
    executor: options.Executor = None,
    ray_address: options.RayAddress = None,
    tf32: options.Tf32 = False,
    dry_run: options.DryRun = False,
    track: options.Track = None,
    quiet: options.Quiet = False,
    output: options.JsonFormat = "table",
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved config, which can be run again, and stop.")
    ] = False,
) -> None:
    """Train every seed of each config. Ends with a table of accuracy, dead neurons and time.

    Finished runs are skipped, interrupted runs continue and failed runs are retried: to resume, run the same command
    again. Progress goes to stderr, the table to stdout.

    Example: actbench train -c relu --set lr=0.01 --seeds 10
    """
    settings = config.settings(changes or (), seeds=seeds, seed=seed, device=device)
    variants = config.collect(lambda path: config.load(path, settings), configs)
    if print_config:
        _print_config(variants)
        return
    chosen = chosen_executor(executor, ray_address)
    how = sweeps.Options(threads, lanes, data_dir, offline, mirror, force, fail_fast, chosen, ray_address, tf32)
    train_variants(variants, how, results, track or (), dry_run=dry_run, quiet=quiet, output=output)


def _print_config(variants: Sequence[Config]) -> None:
    if len(variants) != 1:
        raise UsageError(f"--print-config prints one config, but {len(variants)} were given")
    streams().out.file.write(config.to_yaml(variants[0].variant, variants[0].seeds))


def chosen_executor(executor: options.ExecutorName | None, ray_address: str | None) -> options.ExecutorName:
    """Return where to train: the address of a Ray cluster implies Ray."""
    if ray_address is not None and executor == "local":
        raise UsageError("--ray-address names a Ray cluster, but --executor is local; leave one out")
    return executor or ("local" if ray_address is None else "ray")


def train_variants(
    variants: Sequence[Config],
    how: sweeps.Options,
    results: Path,
    track: Sequence[str],
    *,
    dry_run: bool,
    quiet: bool,
    output: str,
) -> None:
    """Train the open runs of all variants, print the table of all runs, and exit; with `dry_run`, print the plan."""
    to = streams()
    store = Store(results, note=to.note)
    plan = sweeps.make_plan([run for one in variants for run in one.runs()], store, force=how.force)
    if dry_run:
        notes.show_plan(to, plan, store, how, output)
        return
    tracking = Tracking(track, results, to.note)
    if not quiet:
        for note in (notes.announcement(plan), *plan.name_notes(), *notes.other_versions(plan)):
            to.note(note)
    with sweeps.Interrupts(to.note) as stop, watcher(to, plan.open, quiet=quiet) as watching, tracking:
        report = sweeps.run(plan, store, how, Broadcast([watching, tracking]), stop)
    rows = [run.row for run in report.stored(store)]
    if output == "json":
        to.json({"format_version": 1, "runs": rows, "failed": report.failed, "stopped": report.stopped})
    elif rows:
        found = comparison.compare(rows)
        to.table(*tables.comparison_table(found), found.footnotes)
    for note in (*notes.failures(plan, report, store, how.data_dir), *notes.stopped(report)):
        to.note(note)
    if rows and not quiet:
        to.note(notes.next_step(results))
    raise typer.Exit(stop.exit_code or (1 if report.failed else 0))
