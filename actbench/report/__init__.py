"""The report: stored runs -> one self-contained HTML page (layer 4).

Imports the comparison and its tables, `curves` and `pictures`, jinja2 with autoescape; writes no files. The page has
no address in it: its style and script are inline and allowed by their hashes alone, its pictures are data. What a
person has typed arrives as text everywhere; numbers for the script lie in a JSON block in which no `<` is left.

    gathering  stored runs -> Page                 curves    learning curves and heat maps as plain numbers
    pictures   shapes of activations, weights      page.html.j2, page.css, page.js  the page
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from actbench.report.gathering import Page, gather
from actbench.store import files

__all__ = ["Page", "gather", "render"]


def render(page: Page) -> str:
    """Return the page as HTML."""
    files = resources.files("actbench.report")
    style, script, template = (
        files.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js", "page.html.j2")
    )
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


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inert(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON that ends no script block and opens no comment, whatever the texts in it say."""
    text = files.dump_json(value, indent=None)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
