"""A study as text, rows and JSON (layer 4; imports `study` and its parts, `tables` for the formats). Prints nothing.

The terminal has a block a claim, Markdown, LaTeX and CSV a row a reading, JSON every number. Fractions are stored as
0-1 and shown in percent, their differences in points; a `log` part shows the ratio of its two sides.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from actbench.claims.evidence import Results, Rung
from actbench.claims.files import Flags, load_all
from actbench.claims.model import Part, Side
from actbench.claims.study import JudgedClaim, JudgedReading, Plan, Study, claim_files, folder, judge, ready
from actbench.claims.verdict import ALPHA, Judged, Verdict
from actbench.comparison.quantities import Quantity
from actbench.datasets import Dataset
from actbench.metrics import UNITS, Kind
from actbench.store import Store, files
from actbench.tables import FORMATS, Column
from actbench.text import readable

FORMAT_VERSION = 1
COLUMNS = (
    Column("id", "id", str, right=True),
    Column("claim", "claim"),
    Column("reading", "reading"),
    Column("evidence", "evidence"),
    Column("n", "n", str, right=True),
    Column("verdict", "verdict"),
)


def text(study: Study, width: int) -> Iterator[str]:
    """Yield the lines of a study for a terminal of `width` columns."""
    for one in study.claims:
        yield from _wrapped(f"{one.claim.number:>3}  {one.claim.text}", 5, width, first=0)
        for reading in one.readings:
            words = verdict(study, reading)
            yield from _wrapped(f"{reading.reading.says}: {words if study.demonstration else words.upper()}", 5, width)
            for line in dict.fromkeys(_details(reading)):  # two parts may share a ladder
                yield from _wrapped(line, 9, width)
        if one.claim.note:
            yield from _wrapped(f"({one.claim.note})", 5, width)
        yield ""


def _wrapped(line: str, indent: int, width: int, first: int | None = None) -> list[str]:
    start = indent if first is None else first
    return textwrap.wrap(
        readable(line), max(width, 40), initial_indent=" " * start, subsequent_indent=" " * (indent + 2)
    )


def verdict(study: Study, reading: JudgedReading) -> str:
    """Return the verdict in words, with the seeds that did not suffice."""
    if study.demonstration:
        return f"in this demonstration: {reading.verdict}"
    if reading.verdict is not Verdict.OPEN:
        return str(reading.verdict)
    wanted = max(one.finding.wanted for one in reading.parts)
    return f"{reading.verdict} with {wanted} {'seed' if wanted == 1 else 'seeds'}"


def _details(reading: JudgedReading) -> Iterator[str]:
    for one in reading.parts:
        yield evidence(one) + (f" [{one.verdict}]" if len(reading.parts) > 1 else "")
        for rungs in one.finding.ladders:
            yield f"along the ladder: {_rungs(one.finding.part.quantity, rungs)}"
    for metric, rungs in zip(reading.reading.also, reading.beside, strict=False):
        yield f"{_title(metric)}: {_rungs(metric, rungs)}"


def _rungs(metric: Quantity, rungs: Sequence[Rung]) -> str:
    return ", ".join(f"{rung.arm} = {shown(rung.mean, metric.kind)}" for rung in rungs)


def evidence(one: Judged) -> str:
    """Return the evidence of one part in a sentence: both sides, the difference with its interval, p and n."""
    part, finding = one.finding.part, one.finding
    head = f"{_title(part.quantity)}: "
    if finding.found is None:
        return f"{head}{_side(part.arm, part)} and {_side(part.against, part)}: {one.why or 'nothing to compare'}"
    sides = [
        f"{_side(side, part)} = {shown(mean, part.quantity.kind)}" if side.arm is not None else _side(side, part)
        for side, mean in zip(part.sides, finding.means, strict=True)
    ]
    shown_same = one.verdict is Verdict.SAME or (part.expect == "same" and one.verdict is Verdict.SUPPORTED)
    what, value = ("equivalence p", one.equivalence_p) if shown_same else ("p", one.adjusted_p)
    p = "" if value is None else f", {what} {_p(value)}"
    note = f" ({one.why})" if one.why else ""
    counted = sum(finding.never)
    never = f" or more ({counted} runs never got there)" if counted else ""
    return f"{head}{sides[0]} against {sides[1]}: {_difference(one)}{never}{p}, n {finding.n}{note}"


def _title(metric: Quantity) -> str:
    return f"{metric.title}, {unit}" if (unit := UNITS[metric.kind]) else metric.title


def _side(side: Side, part: Part) -> str:
    """Name a side: `relu after epoch 1 in layer 1`; a layer is counted from 1, as a person does."""
    if side.arm is None:
        return shown(side.number, part.quantity.kind)
    epoch = "" if side.epoch is None else f" after epoch {side.epoch}"
    layer = "" if side.layer is None else " in the last layer" if side.layer < 0 else f" in layer {side.layer + 1}"
    return f"{side.arm}{epoch}{layer}"


def _difference(one: Judged) -> str:
    """Write a difference with its 95% interval, as a ratio where logarithms were compared."""
    found, part = one.finding.found, one.finding.part
    assert found is not None
    if part.log:
        ends = f" [{_ratio(found.interval.low)}, {_ratio(found.interval.high)}]" if found.interval else ""
        return f"ratio {_ratio(found.difference)}{ends}"
    kind = part.quantity.kind
    sign = "+" if found.difference >= 0 else ""
    ends = f" [{shown(found.interval.low, kind)}, {shown(found.interval.high, kind)}]" if found.interval else ""
    return f"{sign}{shown(found.difference, kind)}{ends}"


def _ratio(logarithm: float) -> str:
    try:
        return f"{math.exp(logarithm):.3g}"
    except OverflowError:
        return "inf"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def shown(value: float | None, kind: Kind) -> str:
    """Write a value as a person reads it: a fraction in percent."""
    if value is None:
        return "-"
    if kind == "fraction":
        return f"{100 * value:.2f}"
    return f"{value:.3g}" if kind == "number" else f"{value:.2f}"


def footnotes(study: Study) -> list[str]:
    """Return what to know before believing a study."""
    if study.demonstration:
        return [
            "A demonstration: few seeds, little data, few epochs. It shows how the claims are tested, and decides "
            "nothing about MNIST: run `actbench claims` for verdicts."
        ]
    texts = [
        f"Differences are paired by seed, with 95% t intervals; p is that of an exact sign-flip test, adjusted by Holm "
        f"over all {study.family} contrasts of all claims; an equivalence p is that of two one-sided t tests within "
        f"the claim's margin, adjusted likewise. A difference counts where p < {ALPHA:g} and it is as large as the "
        f"margin, sameness where the equivalence p < {ALPHA:g}."
    ]
    for key, values in study.environment.items():
        texts.append(f"The runs differ in {key}: {', '.join(map(str, values))}.")
    if study.known < study.family:
        texts.append(
            f"{study.known} of these {study.family} contrasts have a result; the others count as p = 1, which can "
            "only make verdicts more careful."
        )
    return texts


def rows(study: Study) -> list[dict[str, Any]]:
    """Return a row a reading."""
    found: list[dict[str, Any]] = []
    for one in study.claims:
        head = {"id": one.claim.number, "claim": one.claim.text}
        for reading in one.readings:
            n = min(part.finding.n for part in reading.parts)
            details = "; ".join(evidence(part) for part in reading.parts)
            row = {"reading": reading.reading.says, "evidence": details, "n": n, "verdict": verdict(study, reading)}
            found.append({**head, **row})
    return found


def stored_verdicts(store: Store) -> list[dict[str, Any]]:
    """Return a row a reading of every claim whose evidence lies in `store` as a whole; nothing is trained for it."""

    def dataset(name: str) -> Dataset:
        raise LookupError(f"claims that are read from the store need no images, but {name} was asked for")

    claims = load_all(claim_files(folder()), Flags())
    stored = ready(claims, Results(store, dataset))
    return rows(judge(claims, stored, store, dataset)) if stored else []


def write(study: Study, name: str) -> str:
    """Write a study in one of `tables.FORMATS`. Raises `UnknownNameError` for another format."""
    form = FORMATS[name]
    return as_json(study) if name == "json" else form.write(COLUMNS, rows(study), footnotes(study))


def as_json(study: Study) -> str:
    """Write every number of a study as strict JSON."""
    claims = [_claim(study, one) for one in study.claims]
    whole = {"demonstration": study.demonstration, "contrasts": study.family, "contrasts_with_result": study.known}
    notes = footnotes(study)
    return files.dump_json({"format_version": FORMAT_VERSION, **whole, "claims": claims, "footnotes": notes})


def _claim(study: Study, one: JudgedClaim) -> dict[str, Any]:
    claim = one.claim
    texts = {"claim": claim.text, "source": claim.source, "note": claim.note}
    readings = [
        {
            "says": reading.reading.says,
            "verdict": verdict(study, reading),
            "parts": [_part(part) for part in reading.parts],
            "also": [
                {"metric": metric.name, "arms": _means(rungs)}
                for metric, rungs in zip(reading.reading.also, reading.beside, strict=False)
            ],
        }
        for reading in one.readings
    ]
    return {"id": claim.number, "name": claim.slug, **texts, "seeds": list(claim.seeds), "readings": readings}


def _part(one: Judged) -> dict[str, Any]:
    finding, part, found = one.finding, one.finding.part, one.finding.found
    values: dict[str, Any] = {
        "metric": part.metric,
        "arm": _plain_side(part.arm),
        "against": _plain_side(part.against),
        "expect": part.expect,
        "margin": part.margin,
        "transform": "log" if part.log else None,
        "n": finding.n,
        "lost": finding.lost,
        "never": list(finding.never),
        "untrained": finding.untrained,
        "means": list(finding.means),
        "verdict": str(one.verdict),
        "why": one.why,
        "evidence": evidence(one),
        "ladders": [_means(rungs) for rungs in finding.ladders],
    }
    if found is not None:
        values |= {"difference": found.difference, "p": found.p, "adjusted_p": one.adjusted_p}
        values |= {"equivalence_p": finding.equivalence_p, "adjusted_equivalence_p": one.equivalence_p}
        values |= {"effect": found.effect, "superiority": found.superiority}
        if found.interval is not None:
            values |= {"low": found.interval.low, "high": found.interval.high}
    return values


def _plain_side(side: Side) -> Any:
    return side.number if side.arm is None else {"arm": side.arm, "epoch": side.epoch, "layer": side.layer}


def _means(rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    found = []
    for rung in rungs:
        ends = {"low": rung.interval.low, "high": rung.interval.high} if rung.interval else {}
        found.append({"arm": rung.arm, "n": rung.n, "mean": rung.mean, **ends})
    return found


def plan_rows(plan: Plan) -> list[dict[str, Any]]:
    """Return what each claim needs, and a last row with the sums, in which every run counts once."""
    found = [
        {
            "id": need.claim.number,
            "claim": need.claim.slug,
            "seeds": len(need.claim.seeds),
            "arms": len(need.claim.arms),
            "runs": need.runs,
            "shared": need.shared,
            "done": need.done,
            "to_train": need.to_train,
            "seconds": need.seconds,
        }
        for need in plan.needs
    ]
    whole = {"claim": "all, each run once", "runs": len(plan.runs.runs), "done": len(plan.runs.ended)}
    return [*found, {**whole, "to_train": len(plan.runs.open), "seconds": plan.seconds}]
