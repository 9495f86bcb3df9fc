"""The write-up of a study: text for the terminal, rows for tables, and JSON. Prints nothing.

The terminal shows a block per claim, a table a row per reading, and JSON every number. Fractions are stored as 0-1
and shown as percentages, their differences as percentage points. A `log` part shows the ratio of its two sides.
"""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from actbench.claims.evidence import ArmMean, RunCache
from actbench.claims.model import Part, Side, claim_files, folder
from actbench.claims.parse import Flags, load_all
from actbench.claims.verdict import ALPHA, JudgedClaim, JudgedPart, JudgedReading, Study, Verdict, judge, ready
from actbench.comparison.quantities import Quantity
from actbench.datasets import Dataset
from actbench.metrics import UNITS, Kind
from actbench.stats import Interval
from actbench.store import Store, files
from actbench.tables import FORMATS, Column, show_fraction
from actbench.text import number_text, p_value, plural, readable, with_hyphens

FORMAT_VERSION = 1
_MOST_LOG = math.log(sys.float_info.max)
COLUMNS = (
    Column("id", "id", str, right=True),
    *(Column(key, key) for key in ("claim", "reading", "evidence")),
    Column("n", "n", str, right=True),
    Column("verdict", "verdict"),
)


def terminal_lines(study: Study, width: int) -> Iterator[str]:
    """Yield the lines of a study for a terminal of `width` columns."""
    for one in study.claims:
        yield from _wrapped(f"{one.claim.number:>3}  {one.claim.text}", 5, width, first=0)
        for reading in one.readings:
            words = verdict_text(study, reading)
            yield from _wrapped(f"{reading.reading.says}: {words if study.demonstration else words.upper()}", 5, width)
            for line in dict.fromkeys(_details(reading)):  # two parts may share a ladder
                yield from _wrapped(line, 9, width)
        if one.claim.note:
            yield from _wrapped(f"({one.claim.note})", 5, width)
        yield ""


def _wrapped(line: str, indent: int, width: int, first: int | None = None) -> list[str]:
    start = " " * (indent if first is None else first)
    return textwrap.wrap(readable(line), max(width, 40), initial_indent=start, subsequent_indent=" " * (indent + 2))


def verdict_text(study: Study, reading: JudgedReading) -> str:
    """Return the verdict in words; an undecided one names the number of seeds."""
    if study.demonstration:
        return f"in this demonstration: {reading.verdict}"
    if reading.verdict is not Verdict.OPEN:
        return str(reading.verdict)
    return f"{reading.verdict} with {plural(max(one.finding.wanted for one in reading.parts), 'seed')}"


def _details(reading: JudgedReading) -> Iterator[str]:
    for one in reading.parts:
        yield evidence_text(one) + (f" [{one.verdict}]" if len(reading.parts) > 1 else "")
        for means in one.finding.ladders:
            yield f"along the ladder: {_means_text(one.finding.part.quantity, means)}"
    for metric, arms in reading.means:
        yield f"{_title(metric)}: {_means_text(metric, arms)}"


def _means_text(metric: Quantity, means: Sequence[ArmMean]) -> str:
    return ", ".join(f"{one.arm} = {_number(one.mean, metric.kind)}" for one in means)


def evidence_text(one: JudgedPart) -> str:
    """Return the evidence of one part in a sentence: both sides, the difference with its interval, p and n."""
    finding, part = one.finding, one.finding.part
    head, names = f"{_title(part.quantity)}: ", [_side_text(side, part) for side in part.sides]
    if finding.found is None:
        return f"{head}{names[0]} and {names[1]}: {one.why or 'nothing to compare'}"
    sides = [
        f"{name} = {_number(mean, part.quantity.kind)}" if side.arm is not None else name
        for side, name, mean in zip(part.sides, names, finding.means, strict=True)
    ]
    is_same = one.verdict is Verdict.SAME or (part.expect == "same" and one.verdict is Verdict.SUPPORTED)
    what, value = ("equivalence p", one.equivalence_p) if is_same else ("p", one.adjusted_p)
    p = "" if value is None else f", {what} {p_value(value)}"
    never = f" or more ({plural(sum(finding.never), 'run')} never reached the threshold)" if any(finding.never) else ""
    note = f" ({one.why})" if one.why else ""
    return f"{head}{sides[0]} against {sides[1]}: {_difference_text(one)}{never}{p}, n {finding.n}{note}"


def _title(metric: Quantity) -> str:
    return f"{metric.title}, {unit}" if (unit := UNITS[metric.kind]) else metric.title


def _side_text(side: Side, part: Part) -> str:
    """Return `relu after epoch 1 in layer 1`; layers are counted from 1 here."""
    if side.arm is None:
        return _number(side.number, part.quantity.kind)
    epoch = "" if side.epoch is None else f" after epoch {side.epoch}"
    layer = "" if side.layer is None else " in the last layer" if side.layer < 0 else f" in layer {side.layer + 1}"
    return f"{side.arm}{epoch}{layer}"


def _difference_text(one: JudgedPart) -> str:
    """Return the difference (with `log`, the ratio) and its 95% interval."""
    found, part = one.finding.found, one.finding.part
    assert found is not None
    sign = "ratio " if part.log else "+" if found.difference >= 0 else ""

    def show(value: float) -> str:
        if not part.log:
            return _number(value, part.quantity.kind)
        return number_text(math.exp(value), ".3g") if value < _MOST_LOG else "inf"

    ends = f" [{show(found.interval.low)}, {show(found.interval.high)}]" if found.interval else ""
    return f"{sign}{show(found.difference)}{ends}"


def _number(value: float | None, kind: Kind) -> str:
    if value is None:
        return "-"
    if kind == "fraction":
        return show_fraction(value)
    return number_text(value, ".3g" if kind == "number" else ".2f")


def footnotes(study: Study) -> list[str]:
    """Return what a reader must know to interpret a study."""
    if study.demonstration:
        return [
            "A demonstration: few seeds, little data, few epochs. It shows how the claims are tested, and decides "
            "nothing about MNIST. For verdicts, run `actbench claims`."
        ]
    texts = [
        "Differences are paired by seed, with 95% t intervals. p comes from an exact sign-flip test, adjusted by Holm "
        f"over all {study.family} contrasts of all claims; an equivalence p comes from two one-sided t tests within "
        "the claim's margin, adjusted in the same way. A difference counts if "
        f"p < {ALPHA:g} and it is at least as large as the margin, equality if the equivalence p < {ALPHA:g}."
    ]
    for key, values in study.environment.items():
        texts.append(f"The runs differ in {key}: {', '.join(map(str, values))}.")
    if study.known < study.family:
        texts.append(
            f"{study.known} of these {study.family} contrasts have a result. The others count as p = 1, which can "
            "only make verdicts more cautious."
        )
    return texts


def reading_rows(study: Study) -> list[dict[str, Any]]:
    """Return one row per reading, with the keys of `COLUMNS`."""
    return [
        {
            "id": one.claim.number,
            "claim": one.claim.text,
            "reading": reading.reading.says,
            "evidence": "; ".join(map(evidence_text, reading.parts)),
            "n": min(part.finding.n for part in reading.parts),
            "verdict": verdict_text(study, reading),
        }
        for one in study.claims
        for reading in one.readings
    ]


def stored_verdicts(store: Store) -> list[dict[str, Any]]:
    """Return one row per reading of every claim that the runs in `store` can decide."""

    def dataset(name: str) -> Dataset:
        raise LookupError(f"claims that are read from the store need no images, but {name} was asked for")

    claims = load_all(claim_files(folder()), Flags())
    stored = ready(claims, RunCache(store, dataset))
    return reading_rows(judge(claims, stored, store, dataset)) if stored else []


def write(study: Study, name: str) -> str:
    """Write a study in one of `tables.FORMATS`. Raises UnknownNameError for another format."""
    form = FORMATS[name]
    if name != "json":
        text = with_hyphens if form.raw else str
        rows = [{**row, "evidence": text(row["evidence"])} for row in reading_rows(study)]
        return form.write(COLUMNS, rows, footnotes(study))
    whole = {"demonstration": study.demonstration, "contrasts": study.family, "contrasts_with_result": study.known}
    claims = [_claim_json(study, one) for one in study.claims]
    return files.dump_json({"format_version": FORMAT_VERSION, **whole, "claims": claims, "footnotes": footnotes(study)})


def _claim_json(study: Study, one: JudgedClaim) -> dict[str, Any]:
    claim = one.claim
    readings = [
        {
            "says": reading.reading.says,
            "verdict": verdict_text(study, reading),
            "parts": [_part_json(part) for part in reading.parts],
            "also": [{"metric": metric.name, "arms": _means_json(means)} for metric, means in reading.means],
        }
        for reading in one.readings
    ]
    texts = {"name": claim.slug, "claim": claim.text, "source": claim.source, "note": claim.note}
    return {"id": claim.number, **texts, "seeds": list(claim.seeds), "readings": readings}


def _part_json(one: JudgedPart) -> dict[str, Any]:
    finding, part, found = one.finding, one.finding.part, one.finding.found
    values: dict[str, Any] = {
        "metric": part.quantity.name,
        "arm": _side_json(part.arm),
        "against": _side_json(part.against),
        "expect": part.expect,
        "margin": part.margin,
        "transform": "log" if part.log else None,
        **{key: getattr(finding, key) for key in ("n", "lost", "never", "untrained", "means")},
        "verdict": one.verdict,
        "why": one.why,
        "evidence": with_hyphens(evidence_text(one)),
        "ladders": [_means_json(means) for means in finding.ladders],
    }
    if found is not None:
        values |= {"difference": found.difference, "p": found.p, "adjusted_p": one.adjusted_p}
        values |= {"equivalence_p": finding.equivalence_p, "adjusted_equivalence_p": one.equivalence_p}
        values |= {"effect": found.effect, "superiority": found.superiority, **_ends(found.interval)}
    return values


def _side_json(side: Side) -> Any:
    return side.number if side.arm is None else {"arm": side.arm, "epoch": side.epoch, "layer": side.layer}


def _means_json(means: Sequence[ArmMean]) -> list[dict[str, Any]]:
    return [{"arm": one.arm, "n": one.n, "mean": one.mean, **_ends(one.interval)} for one in means]


def _ends(interval: Interval | None) -> dict[str, float]:
    return interval._asdict() if interval is not None else {}
