"""How all charts look: colours, shapes, light and dark paper, text that cannot break them (layer 4).

Imports `comparison`, `textfile`, `metrics`; altair when used. A series is told apart three times over: by a colour that
the colour-blind can tell from the others (Okabe & Ito 2008, "Color Universal Design"), by a dash and by a shape, so
that grey print stays readable. Nothing that is light or dark stands in a chart itself: it is in the `configuration`
that a chart is drawn with.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

from actbench.comparison.quantities import Quantity
from actbench.metrics import METRICS, Kind
from actbench.registry import LazyModule
from actbench.text import readable

alt: Any = LazyModule("altair")  # its own types are too narrow for encodings that are put together
Chart: TypeAlias = Any
"""One of altair's charts: a Chart, LayerChart, HConcatChart, VConcatChart or ConcatChart."""

Theme = Literal["light", "dark"]

MOST_SERIES = 7
"""So many lines can be told apart in one panel."""
DASHES = ([1, 0], [7, 3], [2, 2], [8, 3, 2, 3], [4, 2], [12, 4], [2, 4])
SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left",
)  # fmt: skip
CROSS = "M-0.5,-0.5L0.5,0.5M0.5,-0.5L-0.5,0.5"
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
INK = {
    # paper, ink, quiet text, axis lines, grid; then seven colours in the order of use
    "light": ("#ffffff", "#1b1b1f", "#55565c", "#8b8c92", "#e6e6ea"),
    "dark": ("#16181d", "#f0f0f3", "#b4b6bf", "#7d8089", "#30333b"),
}
SERIES = {
    "light": ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    "dark": ("#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#F0E442", "#F0F0F3"),
}
LABEL_LIMIT = 40
_OF_UNITS = {name for name in METRICS if name.endswith("_ratio") and name != "saturated_ratio"}


def configuration(theme: Theme) -> dict[str, Any]:
    """Return the Vega-Lite config that draws a chart on light or on dark paper."""
    paper, ink, quiet, line, grid = INK[theme]
    title = {"titleColor": ink, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "background": paper,
        "font": FONT,
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
        "range": {"category": list(SERIES[theme])},
        "style": {
            "quiet": {"color": quiet, "fontSize": 11},
            "context": {"color": line, "opacity": 0.45},
            "shade": {"color": line, "opacity": 0.2},
            "bar-quiet": {"color": line, "opacity": 0.7},
            "empty": {"color": grid, "opacity": 0.6},
        },
    }  # fmt: skip


def axis(kind: Kind, ticks: int, largest: float = 0.0, **options: Any) -> Any:
    """Return an axis with about so many ticks, for numbers up to `largest`."""
    return alt.Axis(tickCount=ticks, **number_format(kind, largest), **options)


def number_format(kind: Kind, largest: float = 0.0) -> dict[str, str]:
    """Return the format of numbers at an axis or in a legend: stored fractions are percent, huge numbers powers."""
    return {"format": "~%"} if kind == "fraction" else {"format": ".1~e"} if abs(largest) >= 1e6 else {}


def spans_decades(values: Sequence[float], kind: Kind) -> bool:
    """Whether only a logarithmic scale shows what differs among values: all above 0, some 1000 times others."""
    return kind != "fraction" and len(values) > 0 and min(values) > 0 and max(values) > 1000 * min(values)


def exact_format(kind: Kind) -> str:
    """Return the number format of a tooltip."""
    return ".2%" if kind == "fraction" else ",.0f" if kind == "rate" else ".4~g"


def cell_text(value: float, kind: Kind) -> str:
    """Return a number as it stands in a cell: percent with one decimal, all others with three digits."""
    return f"{100 * value:.1f}%" if kind == "fraction" else f"{value:,.0f}" if kind == "rate" else f"{value:.3g}"


def metric_title(one: Quantity) -> str:
    """Return what a quantity is called where no table stands around it: `dead units`, not `dead`."""
    return f"{one.title} units" if one.name in _OF_UNITS else one.title


def capital(text: str) -> str:
    """Return `text` with a capital at the start, as a title has it."""
    return text[:1].upper() + text[1:]


def axis_title(title: str, kind: Kind) -> str:
    """Return a title with its unit; the percent signs stand at the ticks."""
    unit = {"seconds": " (s)", "rate": " (1/s)"}.get(kind, "")
    return short(title) + unit


def short(text: str, limit: int = LABEL_LIMIT) -> str:
    """Return `text` on one line, nothing in it that is not printed, its middle left out beyond `limit` characters."""
    text = readable(text)
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 1]}…{text[-tail:]}"


def short_all(texts: Iterable[str], limit: int = LABEL_LIMIT) -> dict[str, str]:
    """Return each text's short form; texts that differ stay different, by a number at the end."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for text in dict.fromkeys(texts):
        name, number = short(text, limit), 2
        while name in taken:
            name, number = f"{short(text, limit - 4)} #{number}", number + 1
        found[text] = name
        taken.add(name)
    return found


def listed(texts: Sequence[str], width: int = 90) -> str:
    """Return `a, b, c`, as many as fit into `width` characters, then how many more there are."""
    text, shown = "", 0
    for one in texts:
        longer = f"{text}, {short(one)}" if text else short(one)
        if text and len(longer) > width:
            return f"{text} and {len(texts) - shown} more"
        text, shown = longer, shown + 1
    return text


def lines(texts: Iterable[str], width: float) -> list[str]:
    """Break texts into lines that fit under a title `width` pixels wide."""
    characters = max(36, int(width / 5.4))
    return [line for text in texts for line in textwrap.wrap(readable(text), characters)]


def titled(chart: Chart, title: str, notes: Iterable[str], width: float) -> Chart:
    """Put the title and the notes below it over a chart about `width` pixels wide."""
    return chart.properties(title=alt.TitleParams(title, subtitle=lines(notes, width), frame="group"))


def headed(chart: Chart, text: str, below: Sequence[str] = ()) -> Chart:
    """Put the name of a panel over it, if it has one, and what is said of it in small letters below that."""
    if not text:
        return chart
    small = {"subtitle": list(below), "subtitleFontSize": 10, "subtitleLineHeight": 12, "subtitlePadding": 3}
    title = alt.TitleParams(text, fontSize=12, fontWeight="normal", offset=6, frame="group", **(small if below else {}))
    return chart.properties(title=title)


def records(rows: Sequence[dict[str, Any]]) -> Any:
    """Return rows as a chart's data; altair's limit of rows does not hold for these."""
    return alt.InlineData(values=tuple(rows))  # a tuple: altair copies lists again and again, row by row


def series_scales(names: Sequence[str], legend: Any) -> dict[str, Any]:
    """Return the encodings that tell the series `names` apart; the legend shows colour and shape."""
    domain = list(names)
    shapes, dashes = cycled(SHAPES, len(domain)), cycled(DASHES, len(domain))
    return {
        "color": alt.Color("series:N", scale=alt.Scale(domain=domain), legend=legend, sort=None),
        "shape": alt.Shape("series:N", scale=alt.Scale(domain=domain, range=shapes), legend=legend, sort=None),
        "strokeDash": alt.StrokeDash("series:N", scale=alt.Scale(domain=domain, range=dashes), legend=None, sort=None),
    }


def legend(title: str, count: int) -> Any:
    """Return the legend of so many series, on the right."""
    columns = 1 + (count - 1) // 24
    return alt.Legend(title=short(title), orient="right", symbolOpacity=1, symbolStrokeWidth=0, columns=columns)


def cycled(values: Sequence[Any], count: int) -> list[Any]:
    """Return `count` values, from the start again when they are used up."""
    return [values[i % len(values)] for i in range(count)]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places near those `wanted`, at least `gap` apart and within [low, high] if that has the room.

    Places that crowd become a block around the mean of what they wanted, as labels beside the ends of lines need it.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[list[float]] = []  # [sum of wanted centres, members]
    for i in order:
        blocks.append([min(max(wanted[i], low), high), 1.0])
        while (
            len(blocks) > 1
            and _start(blocks[-1], gap, low, high) < _start(blocks[-2], gap, low, high) + gap * (blocks[-2][1])
        ):
            total, members = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += members
    places = [_start(block, gap, low, high) + gap * position for block in blocks for position in range(int(block[1]))]
    found = [0.0] * len(wanted)
    for i, place in zip(order, places, strict=True):
        found[i] = place
    return found


def _start(block: Sequence[float], gap: float, low: float, high: float) -> float:
    """Return where the first of a block's places lies."""
    total, members = block
    length = gap * (members - 1)
    return max(low, min(total / members - length / 2, high - length))


def pixel(value: float, domain: Sequence[float], height: float, *, log: bool = False) -> float:
    """Return how far below the top of a panel a value lies."""
    low, high, at = (math.log(one) for one in (*domain, value)) if log else (*domain, value)
    return height * (high - at) / (high - low)


def value(place: float, domain: Sequence[float], height: float, *, log: bool = False) -> float:
    """Return the value that lies so many pixels below the top of a panel: the inverse of `pixel`."""
    low, high = (math.log(one) for one in domain) if log else domain
    at = high - place / height * (high - low)
    return math.exp(at) if log else at
