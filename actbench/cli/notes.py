"""What train, sweep and claims say before and after training: what is finished, what is left, how long, what failed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import actbench
from actbench import sweeps
from actbench.cli.console import Streams
from actbench.config import Run, Variant
from actbench.reproduce import train_command
from actbench.store import Store
from actbench.sweeps.preview import ROUGH_RATE, Preview, preview
from actbench.tables import Column
from actbench.text import duration, plural


def announcement(plan: sweeps.Plan) -> str:
    """Say how many runs there are and how many of them are finished."""
    variants = len({run.variant.name for run in plan.runs})
    head = plural(len(plan.runs), "run") + (f" ({variants} variants)" if variants > 1 else "")
    if not plan.open:
        return f"{head}: all already done, nothing to train (--force trains again)"
    done = f", {len(plan.ended)} already done" if plan.ended else ""
    return f"{head}: {len(plan.open)} to train{done}"


def other_versions(plan: sweeps.Plan) -> Iterator[str]:
    """Name, in at most one note, the other versions that trained finished runs."""
    if plan.other_versions:
        versions = ", ".join(f"{n} by {version}" for version, n in sorted(plan.other_versions.items()))
        yield (
            f"other versions trained some finished runs: {versions} (this is actbench {actbench.__version__} with "
            f"torch {sweeps.torch_version()}); these runs are kept, --force trains them again"
        )


def failures(plan: sweeps.Plan, report: sweeps.Report, store: Store, data_dir: Path | None) -> Iterator[str]:
    """List the failed runs, each with the command that retries it."""
    failed = [run for run in plan.runs if run.run_id in report.failed]
    if failed:
        yield f"{plural(len(failed), 'run')} failed:"
    for run in failed:
        retry = "; to retry: run the same command again"
        stored = store.root / run.run_id
        if store.status(run.run_id) == "newer":
            retry = ""  # the error says what to do; the same command would fail again
        elif (stored / "config.yaml").is_file():
            folder = ["--data-dir", str(data_dir)] if data_dir is not None else []
            retry = f"; to retry: {train_command(stored, *folder)}"
        yield f"  {run.run_id}: {report.failed[run.run_id]}{retry}"
    if failed:
        yield f"for the tracebacks: actbench show RUN --results {shlex.quote(str(store.root))}"


def stopped(report: sweeps.Report) -> Iterator[str]:
    """Say, after Ctrl-C, how many runs are unfinished and how to continue."""
    if report.stopped and report.unfinished:
        yield f"stopped; kept {plural(report.unfinished, 'unfinished run')}: to continue, run the same command again"


def next_step(results: Path) -> str:
    """Say where the results are, and which commands use them."""
    folder = shlex.quote(str(results))
    return f"results are in {folder}; next: actbench compare {folder}, or actbench report {folder}"


def show_plan(to: Streams, plan: sweeps.Plan, store: Store, options: sweeps.Options, output: str) -> None:
    """Print each variant with its number of finished runs; then the lane groups and the estimated time."""
    by_variant: dict[Variant, list[Run]] = {}
    for run in plan.runs:
        by_variant.setdefault(run.variant, []).append(run)
    rows = [
        {"variant": runs[0].variant.name, "seeds": len(runs), "done": sum(run.run_id in plan.ended for run in runs)}
        for runs in by_variant.values()
    ]
    ahead = preview(plan.open, store, options)
    if output == "json":
        groups = [{"where": place.name, "runs": [run.run_id for run in group]} for place, group in ahead.groups]
        estimate = {"seconds": ahead.seconds, "runs_timed": ahead.timed}
        to.json({"format_version": 1, "variants": rows, "groups": groups, "estimate": estimate})
        return
    to.table([Column("variant", "variant"), *(Column(k, k, right=True) for k in ("seeds", "done"))], rows)
    seeds = {len(runs) for runs in by_variant.values()}
    by = f" x {plural(min(seeds), 'seed')} =" if len(seeds) == 1 else ","
    to.note(
        f"{plural(len(rows), 'variant')}{by} {plural(len(plan.runs), 'run')}: "
        f"{len(plan.ended)} done, {len(plan.open)} to train"
    )
    for note in (*plan.name_notes(), *other_versions(plan), *_ahead(ahead)):
        to.note(note)


def _ahead(ahead: Preview) -> Iterator[str]:
    """Describe the lane groups and the estimated time, one line each."""
    if not ahead.groups:
        return
    for where, members in groupby(ahead.groups, key=lambda group: group[0].name):
        sizes = [len(runs) for _, runs in members]
        counts = ", ".join(f"{len(list(same))} of {plural(size, 'run')}" for size, same in groupby(sizes))
        yield f"{plural(len(sizes), 'lane group')} ({counts}), {where}"
    if ahead.seconds is None:
        yield "no time estimate: no run of this shape has been trained on this kind of device yet"
        return
    rough = ahead.runs - ahead.timed
    basis = [f"{plural(ahead.timed, 'run')} from stored runs of the same shape"] if ahead.timed else []
    basis += [f"{plural(rough, 'run')} from {ROUGH_RATE}"] if rough else []
    yield f"about {duration(ahead.seconds)}, estimated: {', '.join(basis)}"
