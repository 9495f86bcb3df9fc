"""The look of all charts: colours, marks, light and dark paper, axes, titles, and text that cannot break them.

A series is told apart in three ways: by a colour that colour-blind readers can distinguish (Okabe & Ito 2008, "Color
Universal Design"), by a dash and by a shape, so that a grey print stays readable. A chart itself contains nothing that
is light or dark; that is in the `configuration` that it is drawn with.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Any, Literal, TypeAlias

from actbench.comparison.quantities import Quantity
from actbench.metrics import METRICS, Kind
from actbench.registry import LazyModule
from actbench.text import number_text, readable

alt: Any = LazyModule("altair")  # its own types are too narrow for encodings assembled from parts
Chart: TypeAlias = Any
"""One of altair's charts: a Chart, LayerChart, HConcatChart, VConcatChart or ConcatChart."""

Theme = Literal["light", "dark", "page"]
"""Light or dark paper, or the CSS variables of the web page that contains an svg, so that it follows its scheme."""

MOST_SERIES = 7
"""The most lines that can be told apart in one panel."""
CROSS = "M-0.5,-0.5L0.5,0.5M0.5,-0.5L-0.5,0.5"
_DASHES = ([1, 0], [7, 3], [2, 2], [8, 3, 2, 3], [4, 2], [12, 4], [2, 4])
_SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left",
)  # fmt: skip
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_INK = {  # paper, ink, quiet text, axis lines, grid
    "light": ("#ffffff", "#1b1b1f", "#55565c", "#8b8c92", "#e6e6ea"),
    "dark": ("#16181d", "#f0f0f3", "#b4b6bf", "#7d8089", "#30333b"),
    "page": ("transparent", "var(--ink)", "var(--quiet)", "var(--axis)", "var(--line)"),
}
_SERIES = {
    "light": ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    "dark": ("#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#F0E442", "#F0F0F3"),
    "page": tuple(f"var(--series-{i})" for i in range(1, MOST_SERIES + 1)),
}
_LABEL_LIMIT = 40
_OF_UNITS = {name for name in METRICS if name.endswith("_ratio") and name != "saturated_ratio"}


def configuration(theme: Theme) -> dict[str, Any]:
    """Return the Vega-Lite config that draws a chart on light or on dark paper."""
    paper, ink, quiet, line, grid = _INK[theme]
    title = {"titleColor": ink, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "background": paper,
        "font": _FONT,
        "padding": 14,
        "view": {"stroke": None},
        "concat": {"spacing": 18},
        "title": {
            "anchor": "start", "color": ink, "subtitleColor": quiet, "fontSize": 15, "fontWeight": "bold",
            "subtitleFontSize": 11, "subtitleLineHeight": 15, "subtitlePadding": 6, "offset": 12,
        },
        "axis": {
            **title, "labelColor": quiet, "labelFontSize": 11, "domainColor": line, "tickColor": line,
            "gridColor": grid, "labelOverlap": True, "titlePadding": 8, "labelLimit": 260, "titleLimit": 0,
            "maxExtent": 400,
        },
        "legend": {
            **title, "labelColor": ink, "labelFontSize": 11, "labelLimit": 260, "symbolSize": 90,
            "symbolStrokeWidth": 2, "titleLimit": 260,
        },
        "text": {"fill": ink, "fontSize": 11},
        "rule": {"stroke": line},
        "range": {"category": list(_SERIES[theme])},
        "style": {
            "quiet": {"color": quiet, "fontSize": 11},
            "context": {"color": line, "opacity": 0.45},
            "shade": {"color": line, "opacity": 0.2},
            "bar-quiet": {"color": line, "opacity": 0.7},
            "empty": {"color": grid, "opacity": 0.6},
        },
    }  # fmt: skip


# --- text and numbers ---


def label(text: str, limit: int = _LABEL_LIMIT) -> str:
    """Return `text` on one line and without unprintable characters; beyond `limit` its middle is left out."""
    text = readable(text)
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 1]}…{text[-tail:]}"


def labels_of(texts: Iterable[str], limit: int = _LABEL_LIMIT) -> dict[str, str]:
    """Return the label of each text. Texts that differ get labels that differ, if need be by a number at the end."""
    by_label: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        name, number = label(text, limit), 2
        while name in by_label:
            name, number = f"{label(text, limit - 4)} #{number}", number + 1
        by_label[name] = text
    return {text: name for name, text in by_label.items()}


def capital(text: str) -> str:
    """Return `text` with a capital at the start."""
    return text[:1].upper() + text[1:]


def metric_title(one: Quantity) -> str:
    """Return what a quantity is called outside a table: `dead units`, not `dead`."""
    return f"{one.title} units" if one.name in _OF_UNITS else one.title


def axis_title(title: str, kind: Kind) -> str:
    """Return an axis title with its unit; percent signs are on the ticks instead."""
    unit = {"seconds": " (s)", "rate": " (1/s)"}.get(kind, "")
    return label(capital(title)) + unit


def number_format(kind: Kind, largest: float = 0.0) -> dict[str, str]:
    """Return the number format of an axis or a legend: percent for fractions, powers of ten for huge numbers."""
    return {"format": "~%"} if kind == "fraction" else {"format": ".1~e"} if abs(largest) >= 1e6 else {}


def exact_format(kind: Kind) -> str:
    """Return the number format of a tooltip."""
    return ".2%" if kind == "fraction" else ",.0f" if kind == "rate" else ".4~g"


def cell_text(value: float, kind: Kind) -> str:
    """Return a number as a cell shows it: percent with one decimal, others with three significant digits."""
    form = {"fraction": ".1%", "rate": ",.0f"}.get(kind, ".3g")
    return number_text(value, form)


def spans_decades(values: Sequence[float], kind: Kind) -> bool:
    """Whether values need a logarithmic scale: all are above 0, and the largest is over 1000 times the smallest."""
    return kind != "fraction" and len(values) > 0 and min(values) > 0 and max(values) > 1000 * min(values)


# --- parts of charts ---


def chart(rows: Sequence[dict[str, Any]]) -> Chart:
    """Return a chart of `rows` without a mark. Altair's limit on the number of rows does not apply."""
    return alt.Chart(alt.InlineData(values=tuple(rows)))  # a tuple: altair copies a list again and again, row by row


def tiled(parts: Sequence[Chart], columns: int) -> Chart:
    """Return charts side by side, `columns` in a row."""
    return parts[0] if len(parts) == 1 else alt.concat(*parts, columns=columns)


def titled(whole: Chart, title: str, notes: Iterable[str], width: float) -> Chart:
    """Put a title, with the notes below it, over a chart about `width` pixels wide."""
    characters = max(36, int(width / 5.4))
    lines = [line for note in notes for line in textwrap.wrap(readable(note), characters)]
    return whole.properties(title=alt.TitleParams(title, subtitle=lines, frame="group"))


def headed(panel: Chart, name: str, below: Sequence[str] = ()) -> Chart:
    """Put the name of a panel over it, if it has one, with the lines `below` in small letters."""
    if not name:
        return panel
    small = {"subtitle": list(below), "subtitleFontSize": 10, "subtitleLineHeight": 12, "subtitlePadding": 3}
    title = alt.TitleParams(name, fontSize=12, fontWeight="normal", offset=6, frame="group", **(small if below else {}))
    return panel.properties(title=title)


def axis(kind: Kind, ticks: int, largest: float) -> Any:
    """Return an axis with about `ticks` ticks, for numbers up to `largest`."""
    return alt.Axis(tickCount=ticks, **number_format(kind, largest))


def legend(title: str, count: int) -> Any:
    """Return the legend of `count` series, on the right."""
    columns = 1 + (count - 1) // 24
    return alt.Legend(title=label(title), orient="right", symbolOpacity=1, symbolStrokeWidth=0, columns=columns)


def series_scales(names: Sequence[str], legend: Any) -> dict[str, Any]:
    """Return the encodings that tell the series `names` apart; the legend shows colour and shape."""
    domain = list(names)
    shapes, dashes = (list(islice(cycle(values), len(domain))) for values in (_SHAPES, _DASHES))
    return {
        "color": alt.Color("series:N", scale=alt.Scale(domain=domain), legend=legend, sort=None),
        "shape": alt.Shape("series:N", scale=alt.Scale(domain=domain, range=shapes), legend=legend, sort=None),
        "strokeDash": alt.StrokeDash("series:N", scale=alt.Scale(domain=domain, range=dashes), legend=None, sort=None),
    }


def interval_tooltip(form: str) -> list[Any]:
    """Return the tooltip lines for the 95% interval in the columns low and high."""
    return [alt.Tooltip("low:Q", title="95% from", format=form), alt.Tooltip("high:Q", title="to", format=form)]
