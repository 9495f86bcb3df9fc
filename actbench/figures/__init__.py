"""Charts of runs: rows in, one chart out (layer 4). Knows no files, prints nothing.

Imports `comparison`, `stats`, `metrics`, `config`; altair and vl-convert when used, torch only for `activations`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from actbench.comparison.quantities import Curve, Row
from actbench.config.fields import Choice

if TYPE_CHECKING:
    import altair as alt
    import numpy as np

    Chart = alt.Chart | alt.LayerChart | alt.HConcatChart | alt.VConcatChart | alt.ConcatChart

Theme = Literal["light", "dark"]

# Signatures that callers may build on; the bodies follow.


def curves(rows: Sequence[Row], curve: Curve, metric: str = "test_accuracy", *, by: Sequence[str] | None = None) -> Chart:
    """Draw a metric over the epochs; rows of runs.csv, and `curve(row)` gives a run's epochs, as in `compare`."""
    raise NotImplementedError


def dead(rows: Sequence[Row], curve: Curve, *, by: Sequence[str] | None = None) -> Chart:
    """Draw dead and near-dead units, deaths and revivals over the epochs."""
    raise NotImplementedError


def heatmap(rows: Sequence[Row], down: str, across: str, metric: str = "dead_ratio", *, curve: Curve | None = None) -> Chart:
    """Draw the mean of a metric over two columns of the runs: `down` makes the rows, `across` the columns."""
    raise NotImplementedError


def landscape(rows: Sequence[Row], *, by: Sequence[str] | None = None) -> Chart:
    """Draw test accuracy against the dead ratio, one mark a run."""
    raise NotImplementedError


def neurons(row: Row, units: Sequence[Row], weights: np.ndarray | None = None) -> Chart:
    """Draw one run's firing rates, and the 28x28 `weights` (units, 784) into its dead and most active units."""
    raise NotImplementedError


def activations(chains: Sequence[Sequence[Choice]]) -> Chart:
    """Draw f and f' of activations (chains of one or more choices, as `Variant.activation` holds them)."""
    raise NotImplementedError


def cost(rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Draw ns per element forward and backward, and the share of a step, from the rows of `actbench cost --json`."""
    raise NotImplementedError


def specification(chart: Chart, theme: Theme | None = "light") -> dict[str, Any]:
    """Return the chart as Vega-Lite, with the theme's config; without one for None (give it to vegaEmbed)."""
    raise NotImplementedError


def configuration(theme: Theme) -> dict[str, Any]:
    """Return the theme as a Vega-Lite config: everything that is light or dark about a chart."""
    raise NotImplementedError


def render(chart: Chart, ending: str, *, theme: Theme = "light") -> bytes:
    """Return the chart as a file of that ending: svg, png, pdf or html."""
    raise NotImplementedError
