"""Runs as charts need them: which runs share a line, which lines share a panel, and a metric over the epochs.

A *series* has one colour, a *panel* one pair of axes. Datasets never share a panel. Up to `MOST_SERIES` groups share
one panel. More are spread over panels by a second setting, or get one panel each.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from actbench.comparison import footnotes
from actbench.comparison.contrasts import value_of
from actbench.comparison.groups import Group, Grouping, columns_of, group_runs, is_diverged, order
from actbench.comparison.quantities import Curve, Quantity, quantity
from actbench.errors import UsageError
from actbench.figures.theme import MOST_SERIES, capital, label, labels_of, metric_title
from actbench.store.csv import Row
from actbench.text import comma_list, plural, value_text

_PLURALS = {
    "activation": "activations", "init": "inits", "lr": "learning rates", "optimizer": "optimizers",
    "batch_size": "batch sizes", "batch_norm": "BatchNorm settings", "hidden": "hidden widths",
    "seed": "seeds", "dropout": "dropout rates", "schedule": "schedules", "network": "networks",
}  # fmt: skip
_MOST_LISTED = 12
_UNTRAINED = ("accuracy", "loss")  # epoch 0 of these would squeeze the rest of the axis
NamedGroup = tuple[str, Group]
PointsByGroup = dict[int, list[dict[str, Any]]]
"""The points of each group's lines, by the `id` of the group."""


@dataclass(frozen=True)
class Panel:
    """Groups drawn together, each with the name of its series; the groups in `context` stay grey and unnamed."""

    title: str
    dataset: Any
    members: tuple[NamedGroup, ...]
    context: tuple[Group, ...] = ()

    @property
    def groups(self) -> tuple[Group, ...]:
        """All its groups, named or grey."""
        return (*(group for _, group in self.members), *self.context)


@dataclass(frozen=True)
class Arrangement:
    """Panels in reading order, and the series in the order of the legend.

    key: the setting that the series differ in (the title of the legend). alone: each panel names one group and shows
    the other groups of its dataset behind it. hidden: the number of panels left out because there are too many.
    """

    panels: tuple[Panel, ...]
    series: tuple[str, ...]
    key: str
    grouping: Grouping
    alone: bool = False
    hidden: int = 0

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups that have runs, including those of hidden panels."""
        return tuple(group for group in self.grouping.groups if group.runs)

    @property
    def summary(self) -> str:
        """What is compared and with how many seeds: `6 activations × 5 learning rates, 6 seeds`."""
        varied = self._varied()
        variants = len({group.label for group in self.groups})
        if variants > 1 and math.prod(map(len, varied.values())) == variants:
            counts = [f"{len(found)} {_PLURALS.get(key, f'{label(key)} values')}" for key, found in varied.items()]
            what = " × ".join(counts)
        else:
            what = f"{variants} variants" if variants > 1 else label(self.groups[0].label)
        return what if "seed" in varied else f"{what}, {seeds(self.groups)}"

    @property
    def compared(self) -> str:
        """The names of what is compared, the words that these names share, and the datasets."""
        names, common = told_apart([group.label for group in self.groups])
        datasets = sorted({value_text(group.dataset) for group in self.groups})
        what = [f"{key} {_label_list(map(value_text, found))}" for key, found in self._varied().items()]
        if not what or len(names) <= MOST_SERIES:
            what = [_label_list(names)]
        shared = label(" ".join(word for word in common if word not in datasets))
        return " · ".join([*what, *([shared] if shared else []), _label_list(datasets)])

    def _varied(self) -> dict[str, list[Any]]:
        """Return the settings that the groups differ in, with their values."""
        keys = differing(self.groups, self.grouping.by)
        return {key: sorted({group.keys[key] for group in self.groups}, key=order) for key in keys}

    def notes(self, drawn: Sequence[Quantity] = ()) -> list[str]:
        """Say what to know before believing a chart of `drawn`: runs without values, mixed settings, hidden panels."""
        texts = []
        if diverged := [group for group in self.groups if group.diverged]:
            total = sum(group.diverged for group in diverged)
            which = _label_list(f"{label(group.label)} ({group.diverged} of {len(group.runs)})" for group in diverged)
            texts.append(
                f"{plural(total, 'run')} diverged and {'has' if total == 1 else 'have'} no final value: {which}."
            )
        texts += footnotes.on_lengths(drawn, self.grouping)
        texts += footnotes.on_settings(self.grouping, by_variant=False)
        texts += footnotes.on_runs(self.grouping)
        if self.hidden:
            total = len(self.panels) + self.hidden
            texts.append(f"Showing {len(self.panels)} of {total} panels; choose others with --filter or --by.")
        return texts

    def cut(self, most: int) -> Arrangement:
        """Return it with only the first `most` panels."""
        return replace(self, panels=self.panels[:most], hidden=self.hidden + max(0, len(self.panels) - most))


def _label_list(texts: Iterable[str]) -> str:
    return comma_list([label(text) for text in texts], _MOST_LISTED)


def differing(groups: Sequence[Group], by: Sequence[str]) -> list[str]:
    """Return the keys in which groups of one dataset differ, without the name, which only repeats the others."""
    found = []
    for key in by:
        pairs = {(group.dataset, group.keys[key]) for group in groups}
        if key != "name" and len(pairs) > len({dataset for dataset, _ in pairs}):
            found.append(key)
    return found


def told_apart(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return each distinct name without the words that all names begin or end with, and these words."""
    words = [name.split(" ") for name in dict.fromkeys(names)]
    if len(words) < 2:
        return [" ".join(one) for one in words], []
    spare = min(map(len, words)) - 1
    first = next((i for i in range(spare) if len({one[i] for one in words}) > 1), spare)
    last = next((i for i in range(spare - first) if len({one[-1 - i] for one in words}) > 1), spare - first)
    common = words[0][:first] + words[0][len(words[0]) - last :]
    return [" ".join(one[first : len(one) - last]) for one in words], common


def seeds(groups: Sequence[Group]) -> str:
    """Return `5 seeds`, or `2–5 seeds` if groups differ. A run without a seed counts as one."""
    counts = {len({row.get("seed", id(row)) for row in group.runs}) for group in groups} or {0}
    return plural(max(counts), "seed") if len(counts) == 1 else f"{min(counts)}–{max(counts)} seeds"


def arrange(rows: Sequence[Row], by: Sequence[str] | None = None, *, split: bool = True) -> Arrangement:
    """Arrange `rows` by the columns `by`: the first makes the series, the others the panels.

    By default each variant is a group. Without `split`, only datasets make panels, however many groups there are.
    Raises `UsageError` if there is nothing to draw.
    """
    if not rows:
        raise UsageError("there are no runs to draw; train some first, or name other results folders")
    grouping = group_runs(rows, by)
    groups = [group for group in grouping.groups if group.runs]
    if not groups:
        raise UsageError("all these runs failed, so there is nothing to draw; see: actbench show RUN")
    keys = differing(groups, grouping.by)
    groups.sort(key=lambda group: [order(group.keys[key]) for key in keys])
    first = _series_key(groups, keys, by, split=split)
    rest = [key for key in keys if key != first] if split and first is not None else []
    if first is not None and (not rest or len({group.keys[first] for group in groups}) <= MOST_SERIES):
        return _dealt([(value_text(group.keys[first]), group) for group in groups], rest, grouping, first)
    variants = list(dict.fromkeys(group.label for group in groups))
    names = dict(zip(variants, told_apart(variants)[0], strict=True))
    title = " × ".join(keys) if keys and by is not None else "variant"
    alone = split and len(variants) > MOST_SERIES
    return _dealt([(names[group.label], group) for group in groups], [], grouping, title, alone=alone)


def _series_key(groups: Sequence[Group], keys: Sequence[str], by: Sequence[str] | None, *, split: bool) -> str | None:
    """Return the key whose values become series, or None if the groups themselves do."""
    if by is not None:
        return keys[0] if len(keys) > 1 or (keys and not split) else None
    variants = {group.label for group in groups}
    points = {(group.dataset, *(group.keys[key] for key in keys)) for group in groups}
    if len(keys) < 2 or len(variants) <= MOST_SERIES or len(points) < len(groups):
        return None
    return next((key for key in keys if len({group.keys[key] for group in groups}) <= MOST_SERIES), None)


def _dealt(
    named: Sequence[NamedGroup], rest: Sequence[str], grouping: Grouping, key: str, *, alone: bool = False
) -> Arrangement:
    """Deal the named groups out to panels: by dataset and the keys in `rest`, or one each if `alone`."""
    names = labels_of([name for name, _ in named])
    places: dict[tuple[Any, ...], list[NamedGroup]] = {}
    for name, group in named:
        place = (group.dataset, name) if alone else (group.dataset, *(group.keys[one] for one in rest))
        places.setdefault(place, []).append((names[name], group))
    datasets = {place[0] for place in places}
    panels = []
    for place in sorted(places, key=lambda place: [order(value) for value in (place[:1] if alone else place)]):
        members = tuple(places[place])
        own = [members[0][0]] if alone else [f"{k}={value_text(v)}" for k, v in zip(rest, place[1:], strict=True)]
        title = label(", ".join([*([value_text(place[0])] if len(datasets) > 1 else []), *own]))
        others = tuple(g for _, g in named if g.dataset == place[0] and g is not members[0][1]) if alone else ()
        panels.append(Panel(title, place[0], members, others))
    return Arrangement(tuple(panels), tuple(names.values()), key, grouping, alone)


@dataclass(frozen=True)
class LearningCurves:
    """One metric over the epochs for every group, and the first and last epoch to draw.

    means: epoch, mean, low, high (the 95% t interval, None for one seed), n, line, and end (of the line). A line is the
    mean over one set of runs: where the set changes, another line begins. runs: epoch, value, run, diverged (the run
    did), and broke (this is the last value of a run that diverged). breaks: the labels of groups, and the epochs after
    which their sets of runs change.
    """

    metric: Quantity
    title: str
    first: int
    last: int
    means: PointsByGroup
    runs: PointsByGroup
    breaks: tuple[tuple[str, int], ...] = ()

    @property
    def single(self) -> bool:
        """Whether no mean is over more than one seed, so that it has no interval and equals its one run."""
        return all(row["n"] <= 1 for rows in self.means.values() for row in rows)

    def drawn(self, points: PointsByGroup, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """Return those of `means` or `runs` that belong to `groups`, from the first epoch to draw on."""
        return [row for group in groups for row in points[id(group)] if row["epoch"] >= self.first]


def measure(grouping: Grouping, curve: Curve, metric: str, title: str = "") -> LearningCurves:
    """Read `metric` from every epoch of every run; `title` replaces the metric's own.

    Raises `UsageError` if no epoch has it, `UnknownNameError` for a name that is neither a metric nor a column.
    """
    if ":" in metric:
        raise UsageError(f"{metric!r} is one number per run, so it has no curve; name a metric such as test_accuracy")
    groups = [group for group in grouping.groups if group.runs]
    rows = [row for group in groups for row in group.runs]
    lines = {
        id(row): {line["epoch"]: line for line in curve(row) if isinstance(line.get("epoch"), int)} for row in rows
    }
    columns = columns_of([*rows, *(line for of_run in lines.values() for line in of_run.values())])
    one, epochs = quantity(metric, columns), sorted({epoch for of_run in lines.values() for epoch in of_run})
    read = {epoch: (quantity(metric, columns, epoch), partial(_line_at, lines, epoch)) for epoch in epochs}
    means, runs = PointsByGroup(), PointsByGroup()
    breaks: list[tuple[str, int]] = []
    for number, group in enumerate(groups):
        means[id(group)], runs[id(group)] = [], []
        sets: dict[int, set[int]] = {}  # by epoch, the runs that the mean is over
        for i, row in enumerate(group.runs):
            values = {epoch: at_epoch.read(row, line_at) for epoch, (at_epoch, line_at) in read.items()}
            known = {epoch: value for epoch, value in values.items() if value is not None}
            diverged = is_diverged(row)
            for epoch in known if not diverged else ():
                sets.setdefault(epoch, set()).add(i)
            for epoch, value in known.items():
                point = {"run": f"{number}.{i}", "epoch": epoch, "value": _rounded(value), "diverged": diverged}
                runs[id(group)].append({**point, "broke": diverged and epoch == max(known)})
        ends = [epoch for epoch, after in pairwise(sorted(sets)) if sets[epoch] != sets[after]]
        breaks += ((group.label, epoch) for epoch in ends)
        for epoch in sorted(sets):
            at_epoch, line_at = read[epoch]
            found = value_of(group, at_epoch, line_at, tuple(grouping.mixed))
            low, high = map(_rounded, found.interval or (None, None))
            mean = {"epoch": epoch, "mean": _rounded(found.mean), "low": low, "high": high, "n": found.n}
            line = f"{number}.{bisect_left(ends, epoch)}"
            means[id(group)].append({**mean, "line": line, "end": epoch in (*ends, max(sets))})
    found_epochs = sorted({row["epoch"] for of_group in runs.values() for row in of_group})
    if not found_epochs:
        raise UsageError(f"no epoch of these runs has a value of {value_text(metric)}; see: actbench list metrics")
    first = found_epochs[found_epochs[0] == 0 and len(found_epochs) > 1 and metric.endswith(_UNTRAINED)]
    drawn = tuple((name, epoch) for name, epoch in breaks if epoch >= first)
    return LearningCurves(one, title or capital(metric_title(one)), first, found_epochs[-1], means, runs, drawn)


def notes_on_breaks(measured: Sequence[LearningCurves]) -> list[str]:
    """Say where lines break because their sets of runs change."""
    epochs: dict[str, dict[int, None]] = {}
    for name, epoch in (found for one in measured for found in one.breaks):
        epochs.setdefault(name, {})[epoch] = None
    places = [f"{label(name)} after epoch {comma_list([*map(str, sorted(at))])}" for name, at in epochs.items()]
    return [f"A line breaks where its set of runs changes: {comma_list(places, _MOST_LISTED)}."] if places else []


def _rounded(value: float | None) -> float | None:
    """Return a value with the digits that a picture can show, as an interactive page holds thousands of them."""
    return None if value is None else float(f"{value:.6g}")


def _line_at(lines: Mapping[int, Mapping[int, Row]], epoch: int, row: Row) -> Sequence[Row]:
    """Return a run's line for one epoch, as a `Curve` does; nothing if it has none."""
    return [lines[id(row)][epoch]] if epoch in lines[id(row)] else []
