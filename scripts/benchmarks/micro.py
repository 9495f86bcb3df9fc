"""Micro-benchmarks of what was tried for speed, one small thing against another; `tried` describes the outcomes.

They use one thread unless the name says otherwise, random images, and a 784-512-10 network with ReLU and Adam at batch
size 64. Values are medians over about half a second, in seconds.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actbench import compute, engine
from actbench.activations import ACTIVATIONS
from actbench.config import Run, Variant
from actbench.datasets import Dataset, Split
from actbench.engine.images import Arrays
from actbench.engine.lanes import LaneStack
from actbench.model.layers import cross_entropy
from actbench.optimizers import bare_step
from benchmarks.epochs import train
from benchmarks.setting import Measured, Part, Setting, run

B, N, P = 64, 4096, 407_050
LANES, STEPS = 8, N // B
GROUPS = (2, 4, 16, 64)

Action = Callable[[], object]

CHILD_STEPS = "import sys; from benchmarks import micro; print(*micro.both_steps(sys.argv[1:] == ['mallopt']))"
CHILD_LANE = "from benchmarks import micro; print(micro.lane_step())"
CHILD_COMPILE = "from benchmarks import micro; print(*micro.compiled_step())"
CHILD_OPTIMIZER = """
import sys, time, torch
from actbench.optimizers import OPTIMIZERS, bare_step
weight = torch.zeros(1000, requires_grad=True)
weight.grad = torch.ones(1000)
started = time.perf_counter()
if sys.argv[1] == "bare":
    step = bare_step(OPTIMIZERS["adam"].build([{"params": [weight]}], device="cpu"))
else:
    step = torch.optim.Adam([weight], fused=True).step
with torch.no_grad():
    step()
print(time.perf_counter() - started)
"""


def typical(action: Action, budget_s: float = 0.5) -> float:
    """Return the median seconds of a call, over this budget and at least 5 calls, after two warm-up calls."""
    times: list[float] = []
    action()
    action()
    while len(times) < 5 or sum(times) < budget_s:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return median(times)


def tried(setting: Setting) -> Part:
    """Run every micro-benchmark in turn."""
    budget_s = 0.05 if setting.trial else 0.5
    with compute.training_thread():
        actions = steps() | parts() | optimizers() | between_products() | chunks()
    while True:
        with compute.training_thread():
            found = {name: typical(action, budget_s) for name, action in actions.items()}
        found["stacked_lane_step_s"] /= LANES
        found["own_stack_lane_step_s"] /= LANES
        for name in ("own_stack_lane_step_s", "by_hand_step_s", "calls_s"):
            found[name] /= STEPS
        yield {**found, **two_lanes(), **groups(), **two_processes(), **children()}


def stack_of(lanes: int, variant: Variant | None = None) -> LaneStack:
    """Return so many lanes of the variant (default: the recipe), each with its own seed, on random images."""
    variant = variant or Variant()
    arrays = Arrays.of(random_dataset(), variant, torch.device("cpu"))
    return LaneStack([Run(variant, seed) for seed in range(lanes)], arrays)


def random_dataset() -> Dataset:
    """Return N random images as training and test set."""
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (N, 28, 28), dtype=torch.uint8, generator=draws)
    split = Split(pixels, torch.randint(10, (N,), generator=draws))
    return Dataset("random", split, split, 0.1307, 0.3081, "")


def batches(lanes: int) -> Iterator[Tensor]:
    """Yield indices of random images (L, B), endlessly."""
    draws = torch.Generator().manual_seed(1)
    return itertools.cycle([torch.randint(N, (lanes, B), generator=draws) for _ in range(50)])


def stepper(stack: LaneStack, threads: int = 1) -> Action:
    """Return a training step of the stack on the next images, call by call."""
    index = batches(len(stack.runs))

    def step() -> None:
        stack.network.threads = threads
        stack.step(next(index))

    return step


def lane_epoch() -> Action:
    """Return an epoch (STEPS steps) of a lane on one thread, as in training."""
    return stack_of(1).train_epoch


def autograd_stepper(*, compiled: bool = False) -> Action:
    """Return a training step of `nn.Sequential` on images in memory, with autograd and fused Adam."""
    arrays, index = stack_of(1).arrays, batches(1)
    model: nn.Module = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)

    loss = torch.compile(loss_of) if compiled else loss_of

    def step() -> None:
        (batch,) = next(index)
        optimizer.zero_grad()
        loss(arrays.train_images[batch], arrays.train_labels[batch]).backward()
        optimizer.step()

    return step


def steps() -> dict[str, Action]:
    """Return training steps: autograd and by hand; products on one thread and two; lanes stacked and in turns."""
    own = [lane_epoch() for _ in range(LANES)]
    return {
        "autograd_step_s": autograd_stepper(),
        "by_hand_step_s": lane_epoch(),
        "two_threads_step_s": stepper(stack_of(1), threads=2),
        "stacked_lane_step_s": stepper(stack_of(LANES)),
        "own_stack_lane_step_s": lambda: [epoch() for epoch in own],
    }


def two_lanes() -> Measured:
    """Time two lanes at once, one thread each, per step of one lane: recorded, call by call, and the general way."""
    recorded, by_call, general = ([stack_of(1) for _ in range(2)] for _ in range(3))
    for stack in by_call:
        stack._alone._recording = None
    for stack in general:
        stack._alone = None
    found: Measured = {}
    with ThreadPoolExecutor(2, initializer=compute.configure_thread) as pool:

        def both(stacks: list[LaneStack]) -> None:
            for done in [pool.submit(stack.train_epoch) for stack in stacks]:
                done.result()

        for name, stacks in (
            ("two_lanes_step_s", recorded),
            ("two_lanes_by_call_step_s", by_call),
            ("two_lanes_general_step_s", general),
        ):
            found[name] = typical(functools.partial(both, stacks), 1.0) / (2 * STEPS)
    return found


def groups() -> Measured:
    """Time groups of lanes on two threads: seconds per lane of training for two epochs, from start to end."""
    dataset, variant, found = random_dataset(), Variant(epochs=2), {}
    for lanes in GROUPS:
        runs = [Run(variant, seed) for seed in range(lanes)]
        found[f"group_of_{lanes}_s"] = typical(functools.partial(train, runs, dataset, 2), 2.0) / lanes
    return found


def two_processes() -> Measured:
    """Time two lanes at once, one process each, per step of one lane; also a lane that has the machine to itself."""
    with ThreadPoolExecutor(2) as pool:
        both = [float(done) for done in pool.map(lambda _: run(CHILD_LANE), range(2))]
    return {"two_processes_step_s": sum(both) / 4, "half_lane_step_s": float(run(CHILD_LANE)) / 2}


def lane_step() -> float:
    """Return the seconds of a lane's training step in this process, over 5 s, so that two processes overlap."""
    engine.configure()
    compute.configure_thread()
    return typical(lane_epoch(), 5.0) / STEPS


def parts() -> dict[str, Action]:
    """Return the parts of a training step. Each is repeated by itself, so its data is in the caches."""
    x, w, g, w_grad = torch.randn(B, 784), torch.randn(784, 512), torch.randn(B, 512), torch.empty(784, 512)
    images, index = torch.randn(N, 784), batches(1)
    logits, labels = torch.randn(B, 10), torch.randint(10, (B,))
    few_units = Variant(hidden=[8])
    return {
        "forward_product_s": lambda: x @ w,
        "gradient_product_s": lambda: torch.mm(x.t(), g, out=w_grad),
        "gather_s": lambda: images.index_select(0, next(index)[0]),
        "cross_entropy_s": lambda: cross_entropy(logits, labels, None),
        "calls_s": stack_of(1, few_units).train_epoch,
    }


def optimizers() -> dict[str, Action]:
    """Return the variants of Adam's pass over one network's parameters, also with denormal moments."""

    def adam(share_of_denormals: float = 0.0, **form: bool) -> torch.optim.Optimizer:
        weight = torch.randn(P).requires_grad_()
        weight.grad = torch.randn(P)
        optimizer = torch.optim.Adam([weight], **form)
        optimizer.step()
        tiny = int(share_of_denormals * P)
        weight.grad[:tiny] = 0
        optimizer.state[weight]["exp_avg"][:tiny] = 0
        torch.set_flush_denormal(False)
        optimizer.state[weight]["exp_avg_sq"][:tiny] = 1e-39
        torch.set_flush_denormal(True)
        return optimizer

    def with_denormals(step: Action) -> Action:
        def action() -> None:
            torch.set_flush_denormal(False)
            step()
            torch.set_flush_denormal(True)

        return action

    return {
        "adam_kernel_s": torch.no_grad()(bare_step(adam(fused=True))),
        "adam_fused_s": adam(fused=True).step,
        "adam_foreach_s": adam(foreach=True).step,
        "adam_loop_s": adam(foreach=False, fused=False).step,
        "adam_denormals_s": with_denormals(adam(0.05, fused=True).step),
        "adam_flushed_s": adam(0.05, fused=True).step,
    }


def between_products() -> dict[str, Action]:
    """Return ReLU forward and backward at 64 x 512, with its exact slope and with autograd."""
    relu, z = ACTIVATIONS["relu"], torch.randn(1, B, 512)
    g, leaf = torch.randn(1, B, 512), z.clone().requires_grad_()

    def by_slope() -> None:
        relu.function(z)
        g.mul_(relu.slope(z))

    def by_autograd() -> None:
        torch.autograd.grad(relu.function(leaf), leaf, g)

    return {"slope_s": by_slope, "autograd_s": by_autograd}


def chunks() -> dict[str, Action]:
    """Return the evaluation of 10,000 images in chunks of several sizes."""
    network, images = stack_of(1).network, torch.randn(1, 10_000, 784)

    def evaluate(size: int) -> Action:
        return lambda: [network.forward(chunk) for chunk in images.split(size, dim=1)]

    return {f"chunks_of_{size}_s": evaluate(size) for size in (250, 500, 1000, 2000)}


def children() -> Measured:
    """Measure what affects a whole process: allocation, MKL's mode, an optimizer's first step, a compiled step."""
    found: Measured = {}
    for name, arguments, environment in (
        ("", ["mallopt"], {}),
        ("no_mallopt_", [], {}),
        ("free_order_", ["mallopt"], {"MKL_CBWR": "AUTO"}),
    ):
        by_hand, autograd = run(CHILD_STEPS, *arguments, **environment).split()
        found |= {f"child_{name}by_hand_step_s": float(by_hand), f"child_{name}autograd_step_s": float(autograd)}
    found["bare_first_step_s"] = float(run(CHILD_OPTIMIZER, "bare"))
    found["hooked_first_step_s"] = float(run(CHILD_OPTIMIZER, "hooked"))
    with tempfile.TemporaryDirectory() as cache:
        try:
            compiling, step = run(CHILD_COMPILE, TORCHINDUCTOR_CACHE_DIR=cache).split()
        except RuntimeError:
            return found  # torch.compile needs a C++ compiler, which may be missing
    return {**found, "compiling_s": float(compiling), "compiled_step_s": float(step)}


def both_steps(mallopt: bool) -> tuple[float, float]:
    """Return the seconds of a lane's training step in this process, by hand and with autograd."""
    if mallopt:
        engine.configure()
    compute.configure_thread()
    return typical(lane_epoch(), 1.0) / STEPS, typical(autograd_stepper(), 1.0)


def compiled_step() -> tuple[float, float]:
    """Return the seconds of compiling (the first step) and of a compiled step."""
    engine.configure()
    compute.configure_thread()
    step = autograd_stepper(compiled=True)
    started = time.perf_counter()
    step()
    compiling = time.perf_counter() - started
    return compiling, typical(step, 1.0)
