"""The report: stored runs -> one self-contained HTML page, as text.

The page loads nothing: its style and script are inline and allowed by their hashes alone, and its pictures are data.
Everything that a person typed arrives as text. `gather` reads and compares the runs; page.html.j2, page.css and page.js
are the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from actbench.figures import Theme, configuration, csp_hash, inert_json
from actbench.report.gather import Page, gather
from actbench.text import readable_lines

__all__ = ["Page", "gather", "render"]


def render(page: Page) -> str:
    """Return the page as HTML."""
    folder = resources.files("actbench.report")
    css, script, template = (
        folder.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js", "page.html.j2")
    )
    style = f"{_colours('light')}@media (prefers-color-scheme: dark) {{ {_colours('dark')}}}\n{css}"
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    environment.undefined = jinja2.StrictUndefined
    policy = (
        f"default-src 'none'; img-src data:; style-src {csp_hash(style)}; script-src {csp_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.from_string(template).render(
        page=page,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        data=Markup(inert_json(_shown(page.data))),
    )


def _shown(value: Any) -> Any:
    """Return a value of the page with every text in it made readable; markup is the page's own."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return readable_lines(value)
    if isinstance(value, Mapping):
        return {_shown(key): _shown(one) for key, one in value.items()}
    return [_shown(one) for one in value] if isinstance(value, list | tuple) else value


def _colours(theme: Theme) -> str:
    """Return the colours of the series as CSS variables, which the script and the drawings use."""
    colours = configuration(theme)["range"]["category"]
    return f":root {{ {''.join(f'--series-{i}: {one}; ' for i, one in enumerate(colours, 1))}}}\n"
