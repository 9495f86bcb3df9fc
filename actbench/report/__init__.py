"""The report: stored runs -> one self-contained HTML page, as text.

The page loads nothing: its style and script are inline and allowed by their hashes alone, and its pictures are data.
Everything that a person typed arrives as text. `gather` compares the runs and fills in a `Page`; page.html.j2, page.css
and page.js show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from actbench.figures import Theme, configuration, csp_hash, inert_json
from actbench.store.csv import Row
from actbench.tables import Column
from actbench.text import readable_lines


@dataclass(frozen=True)
class VariantFacts:
    """One row of the comparison: its config as YAML with all its seeds, and its runs."""

    label: str
    dataset: str
    yaml: str
    runs: tuple[Row, ...]


HeatCell = tuple[str, int | None, str]
"""The text of a cell, its shade (None without a mean), and its runs in words."""
Gallery = tuple[str, list[tuple[int, str, str]]]
"""A heading, and for each unit its number, a caption, and its weights as a PNG in a data address."""


@dataclass(frozen=True)
class HeatTable:
    """A metric over the values of two settings; cells are None if nothing was run."""

    title: str
    rows: str
    columns: str
    row_values: tuple[str, ...]
    column_values: tuple[str, ...]
    cells: tuple[tuple[HeatCell | None, ...], ...]


@dataclass(frozen=True)
class UnitPictures:
    """One run's units."""

    label: str
    run_id: str
    galleries: list[Gallery]


@dataclass(frozen=True)
class Page:
    """Everything the page shows. `data` is what its script draws: the groups' labels and their curves."""

    title: str
    version: str
    facts: list[tuple[str, str]]
    columns: list[Column]
    rows: list[dict[str, Any]]
    sort_keys: list[list[float | str]]
    footnotes: tuple[str, ...]
    baseline: str
    data: dict[str, Any]
    health_columns: list[tuple[str, str]]
    health_rows: list[list[str]]
    heat_tables: list[HeatTable]
    activations: list[str]
    neurons: list[UnitPictures]
    variants: list[VariantFacts]
    provenance: list[tuple[str, str]]
    unfinished: list[Row]
    problems: list[str]
    claims: Sequence[Mapping[str, str]]


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
