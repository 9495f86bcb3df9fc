"""Modules that are imported when they are first used. Imports the standard library only (layer 0).

The registries must be listable without torch, which takes seconds to import, while their functions are
written in plain torch. `LazyModule("torch")` stands in for the module until one of them runs.
"""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """A stand-in that imports the module it is named after when an attribute of it is first read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)  # the next look-up is an ordinary one
        return value
