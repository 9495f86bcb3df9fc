"""Claim files -> `Claim`: YAML with line numbers, checked like configs (layer 4).

Imports `config`, `arms`, `readings`, `reader` and `model`. All problems of all files are reported at once.

    id: 12
    claim: Softplus converges more slowly than ReLU.
    source: lectures and tutorials on smooth activation functions
    base: {epochs: 10}                     # config keys that all arms share
    arms:
      relu: {activation: relu}
      softplus: {activation: softplus}
    seeds: 20
    readings:
      - says: after one epoch it is less accurate
        parts:
          - {metric: test_accuracy, epoch: 1, arm: softplus, against: relu, expect: lower, margin: 0.002}

A `ladder` (rung -> config keys, for all arms or inside one) makes one arm a rung, named `<arm> <rung>`. A side is an
arm's name, a number, or {arm: NAME, epoch: K, layer: first|last|K}. `transform: log` compares ratios; its margin is a
factor. `quick` holds config keys, and in a part keys of that part, that take the place of others with `--quick`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath

from actbench import config
from actbench.claims.arms import Arms, read_arms
from actbench.claims.model import Claim
from actbench.claims.reader import Reader
from actbench.claims.readings import ReadingReader
from actbench.config import read
from actbench.config.choices import SEEDS
from actbench.config.rules import integer, one_of, text
from actbench.errors import ConfigError, Problem
from actbench.text import readable

QUICK_SEEDS = 4
DEFAULT_SEEDS = 13
"""The fewest that can decide one of a hundred contrasts, by `stats.seeds_needed`."""

KEYS = ("id", "claim", "source", "note", "base", "arms", "ladder", "seeds", "measured", "readings", "quick")


@dataclass(frozen=True)
class Flags:
    """What the command line says over all claim files."""

    quick: bool = False
    seeds: str | None = None
    device: str | None = None


def load_all(paths: Sequence[FilePath], flags: Flags = Flags()) -> list[Claim]:
    """Return the claims in the files at `paths`, by number; raises one ConfigError with all problems."""
    seeds = config.parse_seeds(flags.seeds) if flags.seeds is not None else None
    device = config.settings(device=flags.device)
    claims = config.collect([partial(_load, path, flags.quick, seeds, device) for path in paths])
    first: dict[int, Claim] = {}
    for claim in claims:
        if first.setdefault(claim.number, claim) is not claim:
            message = f"id: {claim.number} is also the id in {first[claim.number].path}"
            raise ConfigError([Problem(claim.path, message)])
    return sorted(claims, key=lambda claim: claim.number)


def _load(path: FilePath, quick: bool, seeds: tuple[int, ...] | None, device: Sequence[config.Setting]) -> Claim:
    """Read one file; raises ConfigError with everything that is wrong with it."""
    reader = Reader(read(path))
    reader.keys((), KEYS, ("id", "claim", "source", "arms", "readings"))
    measured = reader.take(("measured",), one_of("measurement", ("cost",)), "")
    arms = read_arms(reader, quick=quick, device=device)
    if measured:
        _check_costs(reader, arms)
    own = reader.take(("seeds",), SEEDS, tuple(range(DEFAULT_SEEDS)))
    claim = Claim(
        number=reader.take(("id",), integer(1, 9999), 0),
        slug=path.stem.lstrip("0123456789_-") or path.stem,
        path=reader.document.source,
        text=reader.take(("claim",), text(), ""),
        source=reader.take(("source",), text(), ""),
        note=reader.take(("note",), text(), ""),
        arms=arms.variants,
        ladders=arms.ladders,
        seeds=seeds or (tuple(range(QUICK_SEEDS)) if quick else own),
        readings=tuple(ReadingReader(reader, arms, quick=quick, measured=measured).read()),
        measured=measured,
    )
    if reader.problems:
        raise ConfigError(sorted(reader.problems, key=lambda p: (p.line or math.inf, p.column or 0)))
    return claim


def _check_costs(reader: Reader, arms: Arms) -> None:
    """An activation is timed as it is by default, so an arm cannot ask for anything else."""
    for arm, variant in arms.variants.items():
        if len(variant.activation) > 1 or variant.activation[0].changed:
            message = f"arms: {readable(arm)}: the cost of an activation is known for one with its default parameters"
            reader.problem(("arms", arm), message)
