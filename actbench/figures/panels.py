"""Which runs share a line and which lines share a panel (layer 4; imports `comparison`, `look`).

A *series* is a colour, a *panel* a frame with axes. Datasets never share a panel. What varies decides the rest: up to
`MOST_SERIES` groups share one panel; more are spread over panels by a second setting, or get one each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actbench.comparison import footnotes
from actbench.comparison.groups import Group, Grouping, group_runs, order
from actbench.comparison.quantities import Row
from actbench.errors import UsageError
from actbench.figures.theme import MOST_SERIES, listed, short, short_all
from actbench.text import value_text

MOST_PANELS = 36
PLURALS = {
    "activation": "activations", "init": "inits", "lr": "learning rates", "optimizer": "optimizers",
    "batch_size": "batch sizes", "batch_norm": "settings of BatchNorm", "hidden": "hidden widths",
    "seed": "seeds", "dropout": "dropout rates", "schedule": "schedules", "network": "networks",
}  # fmt: skip
Named = tuple[str, Group]


@dataclass(frozen=True)
class Panel:
    """Groups that are drawn together, each with the name of its series; those in `context` stay grey and unnamed."""

    title: str
    dataset: Any
    members: tuple[Named, ...]
    context: tuple[Group, ...] = ()

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups in it, named or grey."""
        return (*(group for _, group in self.members), *self.context)


@dataclass(frozen=True)
class Arrangement:
    """Panels in the order of reading, and the series in the order of the legend.

    key: what the series differ in, the title of the legend. alone: each panel shows one group, the others of its
    dataset behind it. hidden: how many panels are left out because there are too many.
    """

    panels: tuple[Panel, ...]
    series: tuple[str, ...]
    key: str
    grouping: Grouping
    alone: bool = False
    hidden: int = 0

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups that have runs, also those of panels that are left out."""
        return tuple(group for group in self.grouping.groups if group.runs)

    @property
    def summary(self) -> str:
        """What was compared and with how many seeds, in a few words: `6 activations × 5 learning rates, 6 seeds`."""
        values = self._values()
        labels = len({group.label for group in self.groups})
        if labels > 1 and math.prod(map(len, values.values())) == labels:
            counts = {key: len(found) for key, found in values.items()}
            what = " × ".join(f"{count} {PLURALS.get(key, f'values of {short(key)}')}" for key, count in counts.items())
        else:
            what = f"{labels} variants" if labels > 1 else short(self.groups[0].label)
        return what if "seed" in values else f"{what}, {seeds(self.groups)}"

    @property
    def compared(self) -> str:
        """The names of what was compared, what they share, and the datasets."""
        names, common = told_apart([group.label for group in self.groups])
        datasets = sorted({value_text(group.dataset) for group in self.groups})
        varied = [f"{key} {listed([value_text(v) for v in found])}" for key, found in self._values().items()]
        what = varied if varied and len(names) > MOST_SERIES else [listed(names)]
        shared = short(" ".join(word for word in common if word not in datasets))
        return " · ".join([*what, *([shared] if shared else []), listed(datasets)])

    def _values(self) -> dict[str, list[Any]]:
        """Return what the groups differ in, with the values."""
        keys = differing(self.groups, self.grouping.by)
        return {key: sorted({group.keys[key] for group in self.groups}, key=order) for key in keys}

    def notes(self) -> list[str]:
        """Say what to know before believing the chart: diverged and failed runs, mixed settings, what is left out."""
        texts = []
        if diverged := [group for group in self.groups if group.diverged]:
            total = sum(group.diverged for group in diverged)
            told = [f"{short(group.label)} ({group.diverged} of {len(group.runs)})" for group in diverged]
            runs = "run diverged and has" if total == 1 else "runs diverged and have"
            texts.append(f"{total} {runs} no final value: {listed(told)}.")
        texts += footnotes.on_settings(self.grouping, by_variant=False)
        texts += footnotes.on_runs(self.grouping)
        if self.hidden:
            texts.append(
                f"{len(self.panels)} of {len(self.panels) + self.hidden} panels are drawn; see --filter, --by."
            )
        return texts

    def cut(self, most: int) -> Arrangement:
        """Return it with the first `most` panels."""
        return replace(self, panels=self.panels[:most], hidden=self.hidden + max(0, len(self.panels) - most))

    def highlighted(self, rank: Callable[[Group], float]) -> Arrangement:
        """Return it with one panel a dataset, in which the groups of highest `rank` > 0 are named, the rest grey."""
        panels, names = [], dict[str, None]()
        datasets = list(dict.fromkeys(panel.dataset for panel in self.panels))
        for dataset in datasets:
            members = [member for panel in self.panels if panel.dataset == dataset for member in panel.members]
            ranked = sorted(members, key=lambda member: -rank(member[1]))[:MOST_SERIES]
            top = [member for member in ranked if rank(member[1]) > 0] or ranked
            top = [member for member in members if member in top]
            rest = tuple(group for name, group in members if (name, group) not in top)
            title = value_text(dataset) if len(datasets) > 1 else ""
            panels.append(Panel(title, dataset, tuple(top), rest))
            names |= dict.fromkeys(name for name, _ in top)
        return replace(self, panels=tuple(panels), series=tuple(names), alone=False, hidden=0)


def differing(groups: Sequence[Group], by: Sequence[str]) -> list[str]:
    """Return the keys in which groups of one dataset differ; the name says nothing that the others do not."""
    found = []
    for key in by:
        pairs = {(group.dataset, group.keys[key]) for group in groups}
        if key != "name" and len(pairs) > len({dataset for dataset, _ in pairs}):
            found.append(key)
    return found


def told_apart(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return each different label without the words with which all begin or end, and these words."""
    words = [label.split(" ") for label in dict.fromkeys(labels)]
    if len(words) < 2:
        return [" ".join(one) for one in words], []
    spare = min(map(len, words)) - 1
    first = next((i for i in range(spare) if len({one[i] for one in words}) > 1), spare)
    last = next((i for i in range(spare - first) if len({one[-1 - i] for one in words}) > 1), spare - first)
    common = words[0][:first] + words[0][len(words[0]) - last :]
    return [" ".join(one[first : len(one) - last]) for one in words], common


def seeds(groups: Sequence[Group]) -> str:
    """Return `5 seeds`, or `2–5 seeds` where groups differ; runs without one count as runs."""
    counts = {len({row.get("seed", id(row)) for row in group.runs}) for group in groups} or {0}
    most = max(counts)
    text = f"{most}" if len(counts) == 1 else f"{min(counts)}–{most}"
    return f"{text} {'seed' if most == 1 else 'seeds'}"


def arrange(rows: Sequence[Row], by: Sequence[str] | None = None, *, split: bool = True) -> Arrangement:
    """Arrange `rows` by the columns `by`: the first makes the series, the others the panels.

    By default each variant is a group. Without `split` only datasets make panels, however many groups there are.
    Raises `UsageError` when there is nothing to draw.
    """
    if not rows:
        raise UsageError("there are no runs to draw; train some first, or give other results folders")
    grouping = group_runs(rows, by)
    groups = [group for group in grouping.groups if group.runs]
    if not groups:
        raise UsageError("all these runs failed: there is nothing to draw; see: actbench show RUN")
    keys = differing(groups, grouping.by)
    groups.sort(key=lambda group: [order(group.keys[key]) for key in keys])
    first = _series_key(groups, keys, by, split=split)
    rest = [key for key in keys if key != first] if split and first is not None else []
    if first is not None and (not rest or len({group.keys[first] for group in groups}) <= MOST_SERIES):
        return _dealt([(value_text(group.keys[first]), group) for group in groups], rest, grouping, first)
    labels = list(dict.fromkeys(group.label for group in groups))
    names = dict(zip(labels, told_apart(labels)[0], strict=True))
    named = [(names[group.label], group) for group in groups]
    alone = split and len({group.label for group in groups}) > MOST_SERIES
    title = " × ".join(keys) if keys and by is not None else "variant"
    return _dealt(named, [], grouping, title, alone=alone)


def _series_key(groups: Sequence[Group], keys: Sequence[str], by: Sequence[str] | None, *, split: bool) -> str | None:
    """Return the key whose values become series, or None where the groups themselves do."""
    if by is not None:
        return keys[0] if len(keys) > 1 or (keys and not split) else None
    labels = {group.label for group in groups}
    points = {(group.dataset, *(group.keys[key] for key in keys)) for group in groups}
    if len(keys) < 2 or len(labels) <= MOST_SERIES or len(points) < len(groups):
        return None
    few = [key for key in keys if len({group.keys[key] for group in groups}) <= MOST_SERIES]
    return few[0] if few else None


def _dealt(
    named: Sequence[Named], rest: Sequence[str], grouping: Grouping, key: str, *, alone: bool = False
) -> Arrangement:
    """Deal the named groups out to panels: by dataset and the keys in `rest`, or `alone` one each."""
    labels = short_all([name for name, _ in named])
    places: dict[tuple[Any, ...], list[Named]] = {}
    for name, group in named:
        place = (group.dataset, name) if alone else (group.dataset, *(group.keys[one] for one in rest))
        places.setdefault(place, []).append((labels[name], group))
    datasets = {place[0] for place in places}
    panels = []
    for place in sorted(places, key=lambda place: [order(value) for value in (place[:1] if alone else place)]):
        title = (
            labels[place[1]]
            if alone
            else ", ".join(f"{one}={value_text(v)}" for one, v in zip(rest, place[1:], strict=True))
        )
        title = short(", ".join([value_text(place[0])] * (len(datasets) > 1) + [title] * bool(title)))
        members = tuple(places[place])
        others = tuple(g for _, g in named if g.dataset == place[0] and g is not members[0][1]) if alone else ()
        panels.append(Panel(title, place[0], members, others))
    return Arrangement(tuple(panels), tuple(labels.values()), key, grouping, alone)
