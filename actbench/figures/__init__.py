"""Charts of runs: rows in, one chart out (layer 4). Knows no files, prints nothing.

Imports `comparison`, `stats`, `metrics`, `config`; altair and vl-convert when used, torch only for `activations`.

    chart = figures.curves(rows, epochs_of, "test_accuracy")     # an altair chart without colours of its own
    figures.render(chart, "svg", theme="dark")                   # the bytes of a file
    figures.specification(chart, theme=None)                     # Vega-Lite, for vegaEmbed with a `configuration`
"""

from actbench.figures.activations import activations
from actbench.figures.cost import cost
from actbench.figures.curves import curves, dead
from actbench.figures.drawing import ENDINGS, check_ending, render, specification
from actbench.figures.heatmap import heatmap, landscape
from actbench.figures.neurons import neurons
from actbench.figures.theme import Chart, Theme, configuration

__all__ = [
    "ENDINGS",
    "Chart",
    "Theme",
    "activations",
    "check_ending",
    "configuration",
    "cost",
    "curves",
    "dead",
    "heatmap",
    "landscape",
    "neurons",
    "render",
    "specification",
]
