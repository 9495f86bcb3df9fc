"""A chart as a file: svg, png, pdf, or one HTML page that needs nothing else (layer 4).

Imports `look`; altair and vl-convert when used. Returns bytes, writes nothing. The page opens without a network: the
programs that draw stand in it, and its Content-Security-Policy lets nothing else run or load.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

from actbench.errors import UsageError
from actbench.figures.theme import Chart, Theme, alt, configuration
from actbench.registry import LazyModule

vl_convert: Any = LazyModule("vl_convert")

ENDINGS = ("svg", "png", "pdf", "html")
PIXELS = 2.0  # of a png, for each pixel of the layout

# Drawn again when the reader's scheme changes. `ast` interprets expressions instead of compiling them, which a page
# without 'unsafe-eval' needs.
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


def specification(chart: Chart, theme: Theme | None = "light") -> dict[str, Any]:
    """Return the chart as Vega-Lite with the theme's config; without one for None, to give it to vegaEmbed."""
    found: dict[str, Any] = chart.to_dict()
    found.pop("config", None)  # altair's own theme
    return found if theme is None else {**found, "config": configuration(theme)}


def check_ending(ending: str) -> str:
    """Return the ending in small letters. Raises `UsageError` for one that is none of `ENDINGS`."""
    small = ending.lower().removeprefix(".")
    if small not in ENDINGS:
        got = f"got .{small[:20]}" if small else "this one has none"
        raise UsageError(f"a picture's file ends in .svg, .png, .pdf or .html, {got}")
    return small


def render(chart: Chart, ending: str, *, theme: Theme = "light") -> bytes:
    """Return the chart as the content of a file of that ending; a page follows its reader's scheme instead of `theme`.

    Raises `UsageError` for an ending that is none of `ENDINGS`.
    """
    small = check_ending(ending)
    if small == "html":
        return page(chart).encode()
    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    text = json.dumps(specification(chart, theme))
    if small == "svg":
        return str(vl_convert.vegalite_to_svg(text, vl_version=version)).encode()
    if small == "pdf":
        return bytes(vl_convert.vegalite_to_pdf(text, vl_version=version))
    return bytes(vl_convert.vegalite_to_png(text, vl_version=version, scale=PIXELS))


def page(chart: Chart) -> str:
    """Return one HTML page with the chart and all that draws it."""
    spec = specification(chart, None)
    script = vl_convert.javascript_bundle(_SNIPPET, vl_version=".".join(alt.SCHEMA_VERSION.split(".")[:2]))
    script = script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = spec.get("title", {})
    name = html.escape(title["text"] if isinstance(title, dict) and isinstance(title.get("text"), str) else "actbench")
    themes: dict[str, Any] = {"light": configuration("light"), "dark": configuration("dark")}
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name}</title>
<style>
body {{ margin: 0; background: {themes["light"]["background"]}; overflow-x: auto; }}
@media (prefers-color-scheme: dark) {{ body {{ background: {themes["dark"]["background"]}; }} }}
</style>
</head>
<body>
<div id="chart"></div>
<script type="application/json" id="chart-data">{_json(spec)}</script>
<script type="application/json" id="themes">{_json(themes)}</script>
<script>{script}</script>
</body>
</html>
"""


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
