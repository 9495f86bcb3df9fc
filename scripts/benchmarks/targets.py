"""The benchmark's table: what was compared with what, the ratio, and its target."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

Medians = Mapping[str, float]

HEADINGS = ("what", "compared with", "", "actbench", "result", "target", "met")


@dataclass(frozen=True)
class Target:
    """One row of the table.

    reference, ours: names of medians. value: computes the result from the medians. shown: its format. least, most: the
    target, if there is one.
    """

    what: str
    compared_with: str
    reference: str | None
    ours: str
    value: Callable[[Medians], float]
    shown: str
    least: float | None = None
    most: float | None = None

    def row(self, medians: Medians) -> list[str] | None:
        """Return the cells under `HEADINGS`; None if something was not measured."""
        if self.ours not in medians or (self.reference is not None and self.reference not in medians):
            return None
        value, bound = self.value(medians), self.least if self.least is not None else self.most
        met = bound is None or (value >= bound if self.least is not None else value <= bound)
        target = "" if bound is None else f"{'≥' if self.least is not None else '≤'} {self.shown.format(bound)}"
        reference = "" if self.reference is None else quantity(self.reference, medians[self.reference])
        result = self.shown.format(value)
        verdict = "" if bound is None else "yes" if met else "no"
        return [
            self.what,
            self.compared_with,
            reference,
            quantity(self.ours, medians[self.ours]),
            result,
            target,
            verdict,
        ]


def quantity(name: str, value: float) -> str:
    """Return a value with its unit, which the end of its name gives."""
    for ending, scale, unit in (("_flops_per_s", 1e9, "GFLOP/s"), ("_bytes_per_s", 1e9, "GB/s"), ("_bytes", 1e9, "GB")):
        if name.endswith(ending):
            return f"{value / scale:.2f} {unit}"
    if name.endswith("_s"):
        return f"{value:.2f} s" if value >= 0.5 else f"{1000 * value:.3g} ms"
    return f"{value:.3g}"


def faster(
    what: str, compared_with: str, reference: str, ours: str, least: float | None = None, shown: str = "{:.3g}x"
) -> Target:
    """Return a row on how many times faster actbench is."""
    return Target(what, compared_with, reference, ours, lambda m: m[reference] / m[ours], shown, least)


def of_floor(what: str, compared_with: str, reference: str, ours: str, least: float | None = None) -> Target:
    """Return a row on the share of the floor's speed that actbench reaches."""
    return faster(what, compared_with, reference, ours, least, shown="{:.0%}")


_PLAIN, _WORKERS, _JAX = "plain program", "plain program, 2 workers", "JAX, jit + lax.scan, no probe"
_MEMORY, _CACHE = "floor, state in memory", "floor, state in the caches"
_ONE, _FIVE, _SIXTEEN = "one network", "5 networks, per network", "16 networks, per network"

TARGETS = [
    faster(_ONE, _PLAIN, "plain_epoch_s", "one_epoch_s", 12),
    faster(_ONE, _JAX, "jax_epoch_s", "one_epoch_s", 1),
    faster(_FIVE, _PLAIN, "plain_epoch_s", "lanes_5_epoch_s", 20),
    faster(_SIXTEEN, _PLAIN, "plain_epoch_s", "lanes_16_epoch_s", 20),
    faster(_ONE, _WORKERS, "plain_workers_epoch_s", "one_epoch_s"),
    faster(_SIXTEEN, _WORKERS, "plain_workers_epoch_s", "lanes_16_epoch_s"),
    of_floor(_FIVE, _MEMORY, "floor_epoch_s", "lanes_5_epoch_s", 0.75),
    of_floor(_SIXTEEN, _MEMORY, "floor_epoch_s", "lanes_16_epoch_s", 0.75),
    of_floor(_FIVE, _CACHE, "cached_floor_epoch_s", "lanes_5_epoch_s"),
    of_floor(_SIXTEEN, _CACHE, "cached_floor_epoch_s", "lanes_16_epoch_s"),
    faster("mixed sweep of 64 runs", "one after another, one process", "sweep_one_by_one_s", "sweep_together_s", 1.8),
    faster("mixed sweep of 16 runs, from the shell", "a loop, one process per run", "shell_loop_s", "sweep_command_s"),
    Target(
        "neuron probe, share of an epoch", "evaluating without it", "evaluate_unprobed_s", "evaluate_probed_s",
        lambda m: m["probe_share"], "{:.1%}", most=0.1,
    ),
    Target(
        "start-up to the first step", "import torch", "import_torch_s", "first_step_s",
        lambda m: m["above_torch_s"], "+{:.2f} s", most=1.0,
    ),
    Target(
        "memory of 16 networks, resident", "", None, "peak_16_lanes_bytes",
        lambda m: m["peak_16_lanes_bytes"] / 1e9, "{:.2f} GB", most=1.2,
    ),
    faster("whole `train --seeds 1`, 10 epochs", "plain program", "plain_command_s", "train_command_s"),
]  # fmt: skip


def table(medians: Medians, parts: Collection[str]) -> list[str]:
    """Return the lines of the Markdown table of everything measured; it says so if JAX is not installed."""
    rows = [row for target in TARGETS if (row := target.row(medians)) is not None]
    if "jax" in parts and "jax_epoch_s" not in medians:
        rows.append([_ONE, _JAX, "not installed", "", "", "", ""])
    return markdown(HEADINGS, rows)


def markdown(headings: Collection[str], rows: Collection[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [list(headings), ["---"] * len(headings), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
