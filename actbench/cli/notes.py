"""What train and sweep say before they train and after: what is done, what is left, what it takes, what failed.

Layer 5; prints through `Streams`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import actbench
from actbench import sweeps
from actbench.cli.console import Streams, plain_json
from actbench.config import Run, Variant
from actbench.store import Store
from actbench.sweeps.preview import ROUGH_RATE, Preview, preview
from actbench.tables import Column
from actbench.text import duration, plural, readable


def announcement(plan: sweeps.Plan) -> str:
    """Say how many runs there are, and how many of them are done."""
    variants = len({run.variant.name for run in plan.runs})
    head = plural(len(plan.runs), "run") + (f" ({variants} variants)" if variants > 1 else "")
    if not plan.open:
        return f"{head}: all done already, nothing to train (--force trains anew)"
    done = f", {len(plan.ended)} done already" if plan.ended else ""
    return f"{head}: {len(plan.open)} to train{done}"


def version_notes(plan: sweeps.Plan) -> Iterator[str]:
    """Point out, in one note, that other versions have trained what is done."""
    if plan.other_versions:
        versions = ", ".join(f"{n} by {version}" for version, n in sorted(plan.other_versions.items()))
        yield (
            f"of the runs that are done, other versions have trained {versions} (actbench is {actbench.__version__} "
            f"now, torch {sweeps.torch_version()}); they are kept, --force trains them anew"
        )


def failures(plan: sweeps.Plan, report: sweeps.Report, store: Store, data_dir: Path | None) -> Iterator[str]:
    """List the failed runs, each with the command that tries it again."""
    failed = [run for run in plan.runs if run.run_id in report.failed]
    if failed:
        yield f"{plural(len(failed), 'run')} failed:"
    for run in failed:
        stored = store.root / run.run_id / "config.yaml"
        again = "the same command"
        if stored.is_file():
            folder = ["--data-dir", str(data_dir)] if data_dir is not None else []
            again = shlex.join(["actbench", "train", "-c", str(stored), "--results", str(store.root), *folder])
        yield readable(f"  {run.run_id}: {report.failed[run.run_id]}; to try it again: {again}")
    if failed:
        yield f"the tracebacks: actbench show RUN --results {readable(shlex.quote(str(store.root)))}"


def show_plan(to: Streams, plan: sweeps.Plan, store: Store, options: sweeps.Options, *, as_json: bool) -> None:
    """Print each variant with how many of its runs are done; then the lane groups and the time they may take."""
    asked: dict[Variant, list[Run]] = {}
    for run in plan.runs:
        asked.setdefault(run.variant, []).append(run)
    rows = [
        {"variant": runs[0].variant.name, "seeds": len(runs), "done": sum(run.run_id in plan.ended for run in runs)}
        for runs in asked.values()
    ]
    ahead = preview(plan.open, store, options)
    if as_json:
        groups = [{"where": place.name, "runs": [run.run_id for run in group]} for place, group in ahead.groups]
        estimate = {"seconds": ahead.seconds, "runs_timed": ahead.timed}
        content = {"format_version": 1, "variants": rows, "groups": groups, "estimate": estimate}
        to.result(plain_json(content))
        return
    to.table([Column("variant", "variant"), *(Column(k, k, right=True) for k in ("seeds", "done"))], rows)
    seeds = {len(runs) for runs in asked.values()}
    by = f" x {plural(min(seeds), 'seed')} =" if len(seeds) == 1 else ","
    to.note(
        f"{plural(len(rows), 'variant')}{by} {plural(len(plan.runs), 'run')}: "
        f"{len(plan.ended)} done, {len(plan.open)} to train"
    )
    for note in (*version_notes(plan), *_ahead(ahead)):
        to.note(note)


def _ahead(ahead: Preview) -> Iterator[str]:
    """Say in lines what is ahead."""
    if not ahead.groups:
        return
    for where, members in groupby(ahead.groups, key=lambda group: group[0].name):
        sizes = [len(runs) for _, runs in members]
        shown = ", ".join(f"{len(list(same))} of {plural(size, 'run')}" for size, same in groupby(sizes))
        yield f"{plural(len(sizes), 'lane group')} ({shown}), {where}"
    if ahead.seconds is None:
        yield "no estimate of the time: nothing of this shape has been trained on such a device yet"
        return
    rough = ahead.runs - ahead.timed
    parts = [f"{plural(ahead.timed, 'run')} by the times of stored ones of the same shape"] if ahead.timed else []
    parts += [f"{plural(rough, 'run')} by {ROUGH_RATE}"] if rough else []
    yield f"about {duration(ahead.seconds)}, estimated: {', '.join(parts)}"
