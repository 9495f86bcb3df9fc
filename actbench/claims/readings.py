"""The readings of a claim file: what is contrasted with what, and what the claim says of it (layer 4).

Imports `arms`, `measures`, `model`, `reader` and the rules of `config`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from actbench.claims import measures
from actbench.claims.arms import Arms
from actbench.claims.model import Part, Reading, Side
from actbench.claims.reader import Reader
from actbench.comparison.quantities import Quantity
from actbench.config import Path
from actbench.config.rules import integer, number, one_of, text
from actbench.errors import UsageError, suggestion
from actbench.text import quoted, readable

READING_KEYS = ("says", "parts", "also")
PART_KEYS = ("metric", "arm", "against", "expect", "margin", "epoch", "layer", "transform", "quick")
SIDE_KEYS = ("arm", "epoch", "layer")
_MOST_EPOCHS = 100_000


class ReadingReader:
    """Reads the readings of one file; `measured` is its key of that name."""

    def __init__(self, reader: Reader, arms: Arms, *, quick: bool, measured: str) -> None:
        self._reader, self._arms, self._quick, self._measured = reader, arms, quick, measured

    def read(self) -> Iterator[Reading]:
        """Yield the readings that are sound."""
        for k in self._reader.items(("readings",), "a list of readings, each with `says` and `parts`"):
            path = ("readings", k)
            if not self._reader.keys(path, READING_KEYS, ("says", "parts")):
                continue
            says = self._reader.take((*path, "says"), text(), "")
            parts = [
                self._part((*path, "parts", i)) for i in self._reader.items((*path, "parts"), "a list of contrasts")
            ]
            names = (
                self._reader.items((*path, "also"), "a list of metrics") if self._reader.has((*path, "also")) else []
            )
            also = [self._quantity((*path, "also", i), None) for i in names]
            yield Reading(says, tuple(part for part in parts if part), tuple(one for one in also if one))

    def _part(self, path: Path) -> Part | None:
        """Return one contrast; None where something is wrong with it."""
        before = len(self._reader.problems)
        values = self._reader.mapping(path, "a metric, two sides, a direction and a margin")
        if not values:
            return None
        at = {key: (*path, key) for key in values}
        if self._quick and "quick" in values:
            at |= {key: (*path, "quick", key) for key in self._reader.mapping(at["quick"], "keys of the part")}
            self._reader.keys(at["quick"], PART_KEYS[:-1])
        self._reader.keys(path, PART_KEYS, ("metric", "arm", "against", "expect", "margin"))
        if len(self._reader.problems) > before:
            return None
        epoch = self._reader.take(at["epoch"], integer(0, _MOST_EPOCHS), None) if "epoch" in at else None
        layer = self._layer(at["layer"]) if "layer" in at else None
        found = self._quantity(at["metric"], epoch)
        sides = [self._side(at[key], epoch, layer) for key in ("arm", "against")]
        expect = self._reader.take(at["expect"], one_of("direction", ("higher", "lower", "same")))
        log = "transform" in at and self._reader.take(at["transform"], one_of("transform", ("log",))) == "log"
        margin = self._reader.take(at["margin"], number(1.0 if log else 0.0, 1e9, above=True), math.nan)
        if len(self._reader.problems) > before or found is None:
            return None
        if ":" in found.name and any(side.epoch is not None or side.layer is not None for side in sides):
            self._reader.problem(at["metric"], f"metric: {found.name} is of a whole run: leave out epoch and layer")
            return None
        if sides[0].arm is None and sides[1].arm is None:
            self._reader.problem(at["against"], "against: one of the sides must be an arm")
            return None
        return Part(found.name, found, sides[0], sides[1], expect, margin, log)

    def _side(self, path: Path, epoch: int | None, layer: int | None) -> Side:
        value = self._reader.value(path)
        key = str(path[-1])
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Side(number=self._reader.take(path, number(-1e9, 1e9), 0.0))
        if not isinstance(value, dict):
            return Side(self._arm(path, key), None, self._epoch(path, value, epoch), layer)
        self._reader.keys(path, SIDE_KEYS, ("arm",))
        if "epoch" in value:
            epoch = self._reader.take((*path, "epoch"), integer(0, _MOST_EPOCHS), 0)
        if "layer" in value:
            layer = self._layer((*path, "layer"))
        arm = self._arm((*path, "arm"), f"{key}.arm") if "arm" in value else ""
        return Side(arm, None, self._epoch(path, arm, epoch), layer)

    def _arm(self, path: Path, key: str) -> str:
        value = self._reader.value(path)
        if not isinstance(value, str) or value not in self._arms.names:
            near = suggestion(value, self._arms.names) or f"; there are {', '.join(self._arms.names) or 'none'}"
            self._reader.problem(path, f"{key}: there is no arm {quoted(value)}{readable(near)}")
            return ""
        return str(value)

    def _epoch(self, path: Path, arm: Any, epoch: int | None) -> int | None:
        """Check that the arm has this epoch; a demonstration takes the last one instead."""
        if epoch is None or arm not in self._arms.variants or epoch <= self._arms.variants[arm].epochs:
            return epoch
        if not self._quick:
            self._reader.problem(
                path, f"epoch: must be at most {self._arms.variants[arm].epochs} (the epochs of {arm}), got {epoch}"
            )
        return self._arms.variants[arm].epochs

    def _layer(self, path: Path) -> int | None:
        value = self._reader.value(path)
        if isinstance(value, str) and value in ("first", "last"):
            return 0 if value == "first" else -1
        found: int | None = self._reader.take(path, integer(0, 99), None)
        return found

    def _quantity(self, path: Path, epoch: int | None) -> Quantity | None:
        spec = self._reader.take(path, text())
        if spec is None:
            return None
        try:
            return measures.quantity(spec, self._measured, epoch)
        except UsageError as error:
            self._reader.problem(path, f"metric: {error}. See: actbench list metrics")
            return None
