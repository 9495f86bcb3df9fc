"""CONTRIBUTING.md names the hops from the command line to the training loop; they stay true and stay few."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
_NAME = re.compile(r"`(actbench[\w.]*):([\w.]+)`")


def section(title: str) -> str:
    return PAGE.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def found(module: str, path: str) -> Any:
    value: Any = importlib.import_module(module)
    for part in path.split("."):
        value = getattr(value, part)
    return value


def test_every_name_on_the_way_of_a_run_exists() -> None:
    names = _NAME.findall(section("The way of a run"))
    assert len(names) > 8
    for module, path in names:
        assert found(module, path) is not None


def test_the_training_loop_is_at_most_eight_hops_from_the_command_and_each_hop_calls_the_next() -> None:
    hops = re.findall(r"^\d+\. `(actbench[\w.]*):([\w.]+)`", section("The way of a run"), flags=re.MULTILINE)
    assert hops[0] == ("actbench.cli.train", "train")
    assert "self.step(" in inspect.getsource(found(*hops[-1]))
    assert len(hops) - 1 <= 8
    for hop, (_, path) in itertools.pairwise(hops):
        called = path.rpartition(".")[2]
        assert re.search(rf"\b{called}\b", inspect.getsource(found(*hop))), f"{hop} does not mention {called}"
