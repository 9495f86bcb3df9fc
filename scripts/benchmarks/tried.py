"""What was tried for speed on CPU and what came of it: results/benchmarks/tried.md, with this machine's numbers.

    .venv/bin/python scripts/benchmark.py --only tried

`gave` holds what was seen when it was tried, on two cores in November 2026; the last column what the
micro-benchmark of `micro` measures now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.targets import markdown, quantity


@dataclass(frozen=True)
class Tried:
    """One thing that was tried: what it gave, whether it was kept, and the measured values that show it."""

    what: str
    gave: str
    verdict: str
    values: tuple[tuple[str, str], ...] = ()

    def row(self, medians: Mapping[str, float]) -> list[str]:
        """The cells of its line."""
        shown = [f"{label} {quantity(name, medians[name])}" for label, name in self.values if name in medians]
        return [self.what, self.gave, self.verdict, ", ".join(shown)]


TRIED = [
    Tried(
        "stacked `baddbmm` over lanes",
        "1.3-1.6 ms a lane-step; the bits of a lane depend on its neighbours and on the number of threads",
        "dropped on CPU, used on CUDA",
        (("8 lanes stacked", "stacked_lane_step_s"), ("taking turns", "own_stack_lane_step_s")),
    ),
    Tried(
        "several threads for a lane",
        "elementwise work rounds differently where a thread's share does not end on a whole vector; only products "
        "and the optimizer can be shared without a change of bits",
        "for a lane alone",
        (("a step on one thread", "by_hand_step_s"), ("its products on two", "two_threads_step_s")),
    ),
    Tried(
        "as many lanes at the same time as there are threads, one thread each",
        "nothing to wait for within a step; the bits depend on nothing else",
        "kept",
        (("two lanes, per step", "two_lanes_step_s"), ("one lane on two threads", "two_threads_step_s")),
    ),
    Tried(
        "groups of 2 to 64 lanes on two threads",
        "lanes that wait for their turn cost nothing but memory, and a group's beginning and end are shared by more; "
        "in a larger one the first run ends later",
        "16, or as many as there are threads; fewer where the memory is small",
        tuple((f"{lanes} lanes, each", f"group_of_{lanes}_s") for lanes in (2, 4, 16, 64)),
    ),
    Tried(
        "a process for each lane that trains at the same moment, instead of a thread",
        "a fifth faster than threads that wait for Python's lock whenever both come out of a call; a tenth since steps "
        "are recorded. But lanes could not take turns, and images and torch would be in memory several times",
        "not used",
        (
            ("two threads", "two_lanes_step_s"), ("two processes", "two_processes_step_s"),
            ("one alone, half of it", "half_lane_step_s"),
        ),
    ),
    Tried(
        "a lane alone in plain matrices, with half the calls of torch",
        "with Adam's kernel called straight: a seventh of a step of two lanes on two threads, which wait for Python's "
        "lock at the calls, and a tenth of one lane's; the same bits",
        "kept where activations without parameters are all that stands between the products",
        (("two lanes", "two_lanes_by_call_step_s"), ("the general way", "two_lanes_general_step_s")),
    ),
    Tried(
        "these calls recorded (`torch.jit.trace`, nothing fused), so that they are one call without Python's lock",
        "another seventh of a step of two lanes on two threads, the same bits; of one lane's little. The optimizer's "
        "call stays outside: torch leaves it out of recordings, as it has no result",
        "kept where the calls on one thread are all that it takes",
        (("two lanes", "two_lanes_step_s"), ("call by call", "two_lanes_by_call_step_s")),
    ),
    Tried(
        "views of weights and gradients made once, not at every step",
        "a sixth of a step's calls",
        "kept",
    ),
    Tried(
        "reading the data while torch is imported, each file unpacked by one call",
        "start-up is 0.3 s shorter",
        "kept",
    ),
    Tried(
        "shared products only while they are faster (`Pace`)",
        "faster on an idle machine, several times slower where another process keeps a processor busy: timed "
        "now and then, and chosen",
        "kept",
    ),
    Tried(
        "MKL's strictly reproducible mode",
        "costs 2%; a product has the same bits however it is shared",
        "kept",
        (("strict", "child_by_hand_step_s"), ("free", "child_free_order_by_hand_step_s")),
    ),
    Tried(
        "`GOMP_SPINCOUNT`: threads that wait spin 0.1 ms, then sleep",
        "with endless spinning, a shared product on a busy machine waits for a whole time slice of another process",
        "kept",
    ),
    Tried(
        "`mallopt`: glibc keeps freed memory",
        "a step on one thread, which then made its gradients anew, was 30% faster",
        "kept",
        (
            ("autograd with", "child_autograd_step_s"), ("without", "child_no_mallopt_autograd_step_s"),
            ("by hand with", "child_by_hand_step_s"), ("without", "child_no_mallopt_by_hand_step_s"),
        ),
    ),
    Tried(
        "gradients by hand into one plane, instead of autograd (also as `autograd.Function`)",
        "a step is a third faster",
        "kept",
        (("autograd", "autograd_step_s"), ("by hand", "by_hand_step_s")),
    ),
    Tried(
        "the exact slope between two products, instead of autograd there",
        "autograd has nothing to keep",
        "kept where it suffices",
        (("ReLU by slope", "slope_s"), ("by autograd", "autograd_s")),
    ),
    Tried(
        "one fused Adam over the plane",
        "one kernel a lane and step; called straight, without torch's sorting of tensors, it is shorter still",
        "kept",
        (
            ("kernel", "adam_kernel_s"), ("torch's fused step", "adam_fused_s"),
            ("foreach", "adam_foreach_s"), ("loop", "adam_loop_s"),
        ),
    ),
    Tried(
        "the optimizer's step without torch's hooks",
        "start-up is 1.4 s shorter: the hooks import torch's compiler",
        "kept",
        (("first step bare", "bare_first_step_s"), ("with hooks", "hooked_first_step_s")),
    ),
    Tried(
        "denormal numbers flushed to 0",
        "a few dead units, whose moments fade, doubled a step's time",
        "kept",
        (("Adam, 5% denormal", "adam_denormals_s"), ("flushed", "adam_flushed_s")),
    ),
    Tried(
        "`torch.compile` of the loss and its gradients",
        "a step must earn the time of compiling back within a run",
        "not used",
        (
            ("compiling", "compiling_s"), ("step", "compiled_step_s"),
            ("eager", "autograd_step_s"), ("by hand", "by_hand_step_s"),
        ),
    ),
    Tried(
        "evaluating 250 to 2,000 images at a time",
        "a result's last bits depend on it, so that it is fixed",
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
"""The parts of a training step that are measured by themselves."""


def profile(medians: Mapping[str, float]) -> list[str]:
    """The lines that say where a training step's time goes; none where it was not measured."""
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
        "One lane on one thread; each part was measured by itself again and again, so its data lay in the caches. "
        f"With 8 hidden units a step, little but calls then, takes {quantity('_s', medians['calls_s'])}.",
        "",
        *markdown(("part", "time", "share"), [*rows, ["a step", quantity("_s", step), ""]]),
    ]


def page(medians: Mapping[str, float], head: str) -> list[str]:
    """The lines of tried.md; without measured values the last column stays empty."""
    return [
        "# What was tried for speed on CPU",
        "",
        "As of 2026-11. `scripts/benchmark.py --only tried` measures the last column and writes this page.",
        *(["", head] if medians else []),
        "",
        *markdown(("what", "what it gave", "verdict", "measured"), [one.row(medians) for one in TRIED]),
        *profile(medians),
    ]
