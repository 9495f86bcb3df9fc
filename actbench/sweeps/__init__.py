"""From runs to stored results: the one way in which a plan is trained, here or on a Ray cluster.

    plan = sweeps.make_plan(runs, store)
    with sweeps.Interrupts(note) as stop:
        report = sweeps.run(plan, store, options, events, stop)

The engine, and with it torch, is imported only if there is something to train; Ray only if it is asked for.
"""

from actbench.sweeps.plan import Options, Plan, Report, in_store, lane_groups, make_plan, torch_version
from actbench.sweeps.run import Interrupts, run

__all__ = ["Interrupts", "Options", "Plan", "Report", "in_store", "lane_groups", "make_plan", "run", "torch_version"]
