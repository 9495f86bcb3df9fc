"""Charts of runs: rows in, one chart out, as the bytes of a file. Reads and writes no files, prints nothing.

    chart = figures.curves(rows, epochs_of, "test_accuracy")     # an altair chart without colours of its own
    figures.render(chart, "svg", theme="dark")                   # the bytes of a file

There is one module per chart, named after its subcommand of `actbench plot`. `panels` groups runs and measures them
over the epochs, and `theme` holds the look that all charts share. An HTML page opens without a network: it contains
the programs that draw it, and its Content-Security-Policy lets nothing else run or load.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

from actbench.errors import UsageError
from actbench.figures.activations import activations
from actbench.figures.cost import cost
from actbench.figures.curves import curves
from actbench.figures.dead import dead
from actbench.figures.heatmap import heatmap
from actbench.figures.landscape import landscape
from actbench.figures.neurons import neurons
from actbench.figures.theme import Chart, Theme, alt, configuration
from actbench.registry import LazyModule

__all__ = [
    "ENDINGS", "Chart", "Theme", "activations", "check_ending", "configuration", "cost", "csp_hash", "curves", "dead",
    "heatmap", "inert_json", "landscape", "neurons", "render", "specification",
]  # fmt: skip

vl_convert: Any = LazyModule("vl_convert")

ENDINGS = ("svg", "png", "pdf", "html")
_PIXELS = 2.0  # of a png, per pixel of the layout

# Draws again when the reader's colour scheme changes. `ast` interprets expressions instead of compiling them, as the
# page does not allow 'unsafe-eval'.
_SNIPPET = """
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const draw = () => vegaEmbed("#chart", read("chart-data"), {
  ast: true, renderer: "svg", config: read("themes")[dark.matches ? "dark" : "light"],
  actions: {export: true, source: false, compiled: false, editor: false},
});
dark.addEventListener("change", draw);
draw();
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src {script_hash}; \
style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ margin: 0; background: {light}; overflow-x: auto; }}
@media (prefers-color-scheme: dark) {{ body {{ background: {dark}; }} }}
</style>
</head>
<body>
<div id="chart"></div>
<script type="application/json" id="chart-data">{chart}</script>
<script type="application/json" id="themes">{themes}</script>
<script>{script}</script>
</body>
</html>
"""


def check_ending(ending: str) -> str:
    """Return the ending in lower case and without its dot. Raises `UsageError` unless it is one of `ENDINGS`."""
    small = ending.lower().removeprefix(".")
    if small not in ENDINGS:
        got = f"got .{small[:20]}" if small else "this one has none"
        raise UsageError(f"a picture's file ends in .svg, .png, .pdf or .html, {got}")
    return small


def specification(chart: Chart, theme: Theme | None = "light") -> dict[str, Any]:
    """Return the chart as Vega-Lite with the theme's config; without a config for None."""
    found: dict[str, Any] = chart.to_dict()
    found.pop("config", None)  # altair's own theme
    return found if theme is None else {**found, "config": configuration(theme)}


def render(chart: Chart, ending: str, *, theme: Theme = "light") -> bytes:
    """Return the chart as the content of a file with that ending; html follows its reader's scheme, not `theme`.

    Raises `UsageError` unless the ending is one of `ENDINGS`.
    """
    small = check_ending(ending)
    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    if small == "html":
        return _page(specification(chart, None), version).encode()
    text = json.dumps(specification(chart, theme))
    if small == "svg":
        return str(vl_convert.vegalite_to_svg(text, vl_version=version)).encode()
    if small == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(text, vl_version=version))
    return bytes(vl_convert.vegalite_to_png(text, vl_version=version, scale=_PIXELS))


def _page(spec: dict[str, Any], version: str) -> str:
    """Return one HTML page with the chart and everything that draws it."""
    script = vl_convert.javascript_bundle(_SNIPPET, vl_version=version)
    script = script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    themes: dict[str, Any] = {"light": configuration("light"), "dark": configuration("dark")}
    return _PAGE.format(
        script_hash=csp_hash(script),
        title=html.escape(spec["title"]["text"]),
        light=themes["light"]["background"],
        dark=themes["dark"]["background"],
        chart=inert_json(spec),
        themes=inert_json(themes),
        script=script,
    )


def inert_json(value: Any) -> str:
    """Return JSON that cannot end the script element that contains it, whatever text is in it."""
    return json.dumps(value, allow_nan=False).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def csp_hash(text: str) -> str:
    """Return what a Content-Security-Policy says to allow one inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
