"""What was tried for speed on CPU, and the outcome: the text of results/benchmarks/tried.md.

    .venv/bin/python scripts/benchmark.py --only tried

`gave` describes what was seen when it was tried, on two cores in November 2026. The last column of the page shows what
the micro-benchmarks of `micro` measure now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.targets import markdown, quantity


@dataclass(frozen=True)
class Tried:
    """One experiment: what it gave, whether it was kept, and the (label, name) pairs of the values that show it."""

    what: str
    gave: str
    verdict: str
    values: tuple[tuple[str, str], ...] = ()

    def row(self, medians: Mapping[str, float]) -> list[str]:
        """Return the cells of its table row."""
        shown = [f"{label} {quantity(name, medians[name])}" for label, name in self.values if name in medians]
        return [self.what, self.gave, self.verdict, ", ".join(shown)]


TRIED = [
    Tried(
        "stacked `baddbmm` over lanes",
        "1.3-1.6 ms per lane and step; a lane's bits depend on its neighbours and on the number of threads",
        "dropped on CPU, used on CUDA",
        (("8 lanes stacked", "stacked_lane_step_s"), ("taking turns", "own_stack_lane_step_s")),
    ),
    Tried(
        "several threads per lane",
        "elementwise work rounds differently if a thread's share does not end on a whole vector; only products "
        "and the optimizer can be shared without changing any bits",
        "used for a lane that trains alone",
        (("a step on one thread", "by_hand_step_s"), ("with its products on two", "two_threads_step_s")),
    ),
    Tried(
        "as many lanes at once as there are threads, one thread each",
        "no waiting within a step; a lane's bits depend on nothing else",
        "kept",
        (("two lanes, per step", "two_lanes_step_s"), ("one lane on two threads", "two_threads_step_s")),
    ),
    Tried(
        "groups of 2 to 64 lanes on two threads",
        "lanes that wait for their turn cost only memory, and more lanes share the start and end of a group; "
        "in a larger group, the first run ends later",
        "16, or as many as there are threads; fewer if memory is short",
        tuple((f"{lanes} lanes, each", f"group_of_{lanes}_s") for lanes in (2, 4, 16, 64)),
    ),
    Tried(
        "a process instead of a thread for each lane that trains at the same time",
        "a fifth faster than threads, which wait for Python's lock when both return from a call at once; a tenth "
        "faster since steps are recorded. But lanes could not take turns, and each process would hold its own images "
        "and torch in memory",
        "not used",
        (
            ("two threads", "two_lanes_step_s"), ("two processes", "two_processes_step_s"),
            ("one alone, half of it", "half_lane_step_s"),
        ),
    ),
    Tried(
        "a lane alone in plain matrices, with half as many torch calls",
        "with Adam's kernel called directly: saves a seventh of a step of two lanes on two threads, which wait for "
        "Python's lock at the calls, and a tenth of a single lane's step; the bits are the same",
        "kept if only activations without parameters stand between the products",
        (("two lanes", "two_lanes_by_call_step_s"), ("the general way", "two_lanes_general_step_s")),
    ),
    Tried(
        "these calls recorded (`torch.jit.trace`, nothing fused) as a single call without Python's lock",
        "saves another seventh of a step of two lanes on two threads, and little for a single lane; the bits are the "
        "same. The optimizer's call stays outside, because torch leaves calls without a result out of recordings",
        "kept if a step consists only of these calls, on one thread",
        (("two lanes", "two_lanes_step_s"), ("call by call", "two_lanes_by_call_step_s")),
    ),
    Tried(
        "views of weights and gradients made once instead of at every step",
        "saves a sixth of a step's calls",
        "kept",
    ),
    Tried(
        "reading the data while torch is imported, and unpacking each file with one call",
        "start-up is 0.3 s shorter",
        "kept",
    ),
    Tried(
        "sharing products only while that is faster (`Pace`)",
        "sharing is faster on an idle machine but several times slower if another process keeps a processor busy, so "
        "both ways are timed now and then and the faster one is chosen",
        "kept",
    ),
    Tried(
        "MKL's strictly reproducible mode",
        "costs 2%; a product has the same bits however it is shared",
        "kept",
        (("strict", "child_by_hand_step_s"), ("free", "child_free_order_by_hand_step_s")),
    ),
    Tried(
        "`GOMP_SPINCOUNT`: waiting threads spin for 0.1 ms, then sleep",
        "with endless spinning, a shared product on a busy machine waits for a whole time slice of another process",
        "kept",
    ),
    Tried(
        "`mallopt`: glibc keeps freed memory",
        "a step on one thread, which then allocated its gradients anew, was 30% faster",
        "kept",
        (
            ("autograd with", "child_autograd_step_s"), ("without", "child_no_mallopt_autograd_step_s"),
            ("by hand with", "child_by_hand_step_s"), ("without", "child_no_mallopt_by_hand_step_s"),
        ),
    ),
    Tried(
        "gradients by hand into one flat buffer instead of autograd (also as `autograd.Function`)",
        "a step is a third faster",
        "kept",
        (("autograd", "autograd_step_s"), ("by hand", "by_hand_step_s")),
    ),
    Tried(
        "the exact slope between two products instead of autograd",
        "autograd has nothing to store",
        "kept if the slope is enough",
        (("ReLU by slope", "slope_s"), ("by autograd", "autograd_s")),
    ),
    Tried(
        "one fused Adam over the flat parameter buffer",
        "one kernel per lane and step; calling it directly, without torch's sorting of tensors, is faster still",
        "kept",
        (
            ("kernel", "adam_kernel_s"), ("torch's fused step", "adam_fused_s"),
            ("foreach", "adam_foreach_s"), ("loop", "adam_loop_s"),
        ),
    ),
    Tried(
        "the optimizer's step without torch's hooks",
        "start-up is 1.4 s shorter, because the hooks import torch's compiler",
        "kept",
        (("first step bare", "bare_first_step_s"), ("with hooks", "hooked_first_step_s")),
    ),
    Tried(
        "denormal numbers flushed to 0",
        "a few dead units, whose moments fade, doubled the time of a step",
        "kept",
        (("Adam, 5% denormal", "adam_denormals_s"), ("flushed", "adam_flushed_s")),
    ),
    Tried(
        "`torch.compile` of the loss and its gradients",
        "the steps of one run must make up for the time spent compiling",
        "not used",
        (
            ("compiling", "compiling_s"), ("step", "compiled_step_s"),
            ("eager", "autograd_step_s"), ("by hand", "by_hand_step_s"),
        ),
    ),
    Tried(
        "evaluating 250 to 2,000 images at a time",
        "the last bits of a result depend on this number, so it is fixed",
        "500 kept",
        tuple((f"10,000 by {size}", f"chunks_of_{size}_s") for size in (250, 500, 1000, 2000)),
    ),
]  # fmt: skip


PARTS = (
    ("forward, the large product", "forward_product_s"),
    ("its weights' gradient", "gradient_product_s"),
    ("Adam over all parameters", "adam_kernel_s"),
    ("gathering the images", "gather_s"),
    ("cross-entropy and its gradient", "cross_entropy_s"),
)
"""The parts of a training step that are measured separately."""


def profile(medians: Mapping[str, float]) -> list[str]:
    """Return the lines on where a training step's time goes; none if it was not measured."""
    if not {"by_hand_step_s", "calls_s", *(name for _, name in PARTS)} <= set(medians):
        return []
    step = medians["by_hand_step_s"]
    times = [(what, medians[name]) for what, name in PARTS]
    times.append(("the rest: small products, activations, calls, caches", step - sum(seconds for _, seconds in times)))
    rows = [[what, quantity("_s", seconds), f"{seconds / step:.0%}"] for what, seconds in times]
    return [
        "",
        "## Where a training step's time goes",
        "",
        "One lane on one thread. Each part was measured separately, many times in a row, so its data was cached. "
        f"With 8 hidden units, a step is little more than its calls and takes {quantity('_s', medians['calls_s'])}.",
        "",
        *markdown(("part", "time", "share"), [*rows, ["a step", quantity("_s", step), ""]]),
    ]


def page(medians: Mapping[str, float], head: str) -> list[str]:
    """Return the lines of tried.md; without measured values, the last column is empty."""
    return [
        "# What was tried for speed on CPU",
        "",
        "As of 2026-11. `scripts/benchmark.py --only tried` measures the last column and writes this page.",
        *(["", head] if medians else []),
        "",
        *markdown(("what", "what it gave", "verdict", "measured"), [one.row(medians) for one in TRIED]),
        *profile(medians),
    ]
