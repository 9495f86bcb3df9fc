"""The engine trains runs side by side and measures them after every epoch. Start reading at `train`.

Only this package touches devices and torch's global settings. It writes no files: it reports what happens to `Events`.
"""

from actbench.engine.cuda import pick_device
from actbench.engine.machine import configure, lanes_that_fit
from actbench.engine.train import train_lanes

__all__ = ["configure", "lanes_that_fit", "pick_device", "train_lanes"]
