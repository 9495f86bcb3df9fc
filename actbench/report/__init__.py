"""The report: stored runs -> one self-contained HTML page, as text.

The page contains no address: its style and script are inline and allowed by their hashes alone, and its pictures are
data. Everything that a person typed arrives as text. The numbers for the script are in a JSON block without any `<`.

    gather   stored runs -> Page                 page.html.j2, page.css, page.js  the page
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from actbench import figures
from actbench.report.gather import Page, gather
from actbench.store import files

__all__ = ["Page", "gather", "render"]


def render(page: Page) -> str:
    """Return the page as HTML."""
    folder = resources.files("actbench.report")
    css, script, template = (
        folder.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js", "page.html.j2")
    )
    style = f"{_colours('light')}@media (prefers-color-scheme: dark) {{ {_colours('dark')}}}\n{css}"
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.undefined = jinja2.StrictUndefined
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.from_string(template).render(
        page=page,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        data=Markup(_inert(page.data)),
    )


def _colours(theme: figures.Theme) -> str:
    """Return the colours of the series as CSS variables, which the script and the drawings use."""
    colours = figures.configuration(theme)["range"]["category"]
    return f":root {{ {''.join(f'--series-{i}: {one}; ' for i, one in enumerate(colours, 1))}}}\n"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inert(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return JSON that ends no script block and opens no comment, whatever text it contains."""
    text = files.dump_json(value, indent=None)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
