"""`plot dead`: dead and near-dead units, deaths and revivals over the epochs. The panels are those of `curves`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from actbench.comparison.groups import Group
from actbench.comparison.quantities import Curve
from actbench.figures import theme
from actbench.figures.curves import PanelFormat, axis_domain, draw_panel, legend_note
from actbench.figures.panels import Arrangement, Panel, arrange, measure, notes_on_breaks
from actbench.figures.theme import MOST_SERIES, Chart
from actbench.store.csv import Row
from actbench.text import value_text

_COLUMNS = {
    "dead_ratio": "Dead hidden units",
    "near_dead_ratio": "Near-dead hidden units",
    "deaths": "Deaths in the epoch",
    "revivals": "Revivals in the epoch",
}
_MOST_ROWS = 8


def dead(rows: Sequence[Row], curve: Curve, *, by: Sequence[str] | None = None) -> Chart:
    """Draw dead and near-dead units, deaths and revivals over the epochs: one column each, one row per panel.

    Arguments and errors as in `curves`. If there are many variants, those with the most dead units are named.
    """
    found = arrange(rows, by)
    named = []
    if found.alone:
        total = len(found.series)
        found = _highlighted(found, _last_dead_ratio(found, curve))
        named = [f"Named: the {len(found.series)} of {total} with the most dead units at the end. The others are grey."]
    measured = [measure(found.grouping, curve, metric, title) for metric, title in _COLUMNS.items()]
    found = found.cut(_MOST_ROWS)
    drawn = []
    for i, panel in enumerate(found.panels):
        form = PanelFormat(195, 150, titled_x=i == len(found.panels) - 1)
        for one in measured:
            headed = panel if one is measured[0] else replace(panel, title="")
            drawn.append(draw_panel(found, headed, one, axis_domain(one, found.groups), form))
    notes = [found.compared, legend_note(found, measured), *notes_on_breaks(measured), *named, *found.notes()]
    notes.append("Dead: no training image can change the unit's incoming weights (max |f′| = 0). Near-dead: max |f′| ≤ "
                 "0.1% of sup |f′|. Deaths and revivals are counts of hidden units.")  # fmt: skip
    title = f"Dead hidden units over the epochs: {found.summary}"
    return theme.titled(theme.tiled(drawn, len(measured)), title, notes, 950)


def _last_dead_ratio(found: Arrangement, curve: Curve) -> Callable[[Group], float]:
    measured = measure(found.grouping, curve, "dead_ratio")
    return lambda group: max((row["mean"] for row in measured.means[id(group)][-1:]), default=-1.0)


def _highlighted(found: Arrangement, rank: Callable[[Group], float]) -> Arrangement:
    """Return it with one panel per dataset, which names the groups of highest `rank` > 0 and greys the others."""
    panels, names = [], dict[str, None]()
    datasets = list(dict.fromkeys(panel.dataset for panel in found.panels))
    for dataset in datasets:
        members = [member for panel in found.panels if panel.dataset == dataset for member in panel.members]
        ranked = sorted(members, key=lambda member: -rank(member[1]))[:MOST_SERIES]
        top = [member for member in ranked if rank(member[1]) > 0] or ranked
        top = [member for member in members if member in top]
        rest = tuple(group for name, group in members if (name, group) not in top)
        panels.append(Panel(value_text(dataset) if len(datasets) > 1 else "", dataset, tuple(top), rest))
        names |= dict.fromkeys(name for name, _ in top)
    return replace(found, panels=tuple(panels), series=tuple(names), alone=False, hidden=0)
