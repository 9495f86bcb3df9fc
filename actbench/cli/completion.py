"""What the shell offers on Tab: config keys, registry names, metrics, run ids (layer 5).

Imports the config's schema, the registries and the store's index; never torch, and nothing is ever trained or
changed. A function here gets what was typed of a word and returns (candidate, help) pairs that begin with it.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from actbench import config
from actbench.config import RECIPE, REGISTRIES
from actbench.datasets import DATASETS
from actbench.metrics import METRICS
from actbench.registry import Registry
from actbench.store import index
from actbench.tables import FORMATS
from actbench.trackers import TRACKERS

Candidates = list[tuple[str, str]]


def setting(incomplete: str) -> Candidates:
    """Complete `--set`: a key, and behind its `=` what the key can be."""
    return _setting(incomplete, lambda key, typed: [(f"{key}={name}", doc) for name, doc in _values(key, typed)])


def column(incomplete: str) -> Candidates:
    """Complete `--grid`: a key, and behind its `=` values with commas between, each once."""

    def values(key: str, typed: str) -> Candidates:
        before, comma, last = typed.rpartition(",")
        used = before.split(",")
        return [(f"{key}={before}{comma}{name}", doc) for name, doc in _values(key, last) if name not in used]

    return _setting(incomplete, values)


def _setting(incomplete: str, values: Callable[[str, str], Candidates]) -> Candidates:
    key, equals, typed = incomplete.partition("=")
    if equals:
        return values(key, typed)
    keys = _keys()
    matching = [name for name in keys if name.startswith(key)]
    if len(matching) != 1:
        return [(f"{name}=", _about(keys[name])) for name in matching]
    # A single candidate would be closed with a blank: with its values beside it, the shell stops behind the `=`.
    return [(f"{matching[0]}=", _about(keys[matching[0]])), *values(matching[0], "")]


def _keys() -> dict[str, dict[str, Any]]:
    """Return the schema of each key of a config, and of each parameter as `optimizer.momentum`."""
    properties = {k: s for k, s in config.json_schema()["properties"].items() if k != "sweep"}
    parameters = {
        f"{key}.{name}": schema
        for key, one in properties.items()
        for form in one.get("anyOf", ())
        for name, schema in form.get("properties", {}).items()
        if name != "name"
    }
    return properties | parameters


def _values(key: str, typed: str) -> Candidates:
    """Return what `key` can be, as far as it has names; else its default."""
    schema = _keys().get(key)
    if schema is None:
        return []
    registry: Registry[Any] | None = REGISTRIES.get(key)
    found = {_text(name): "" for name in _names(schema) if name is not None}
    if registry is not None:
        found = {name: str(getattr(registry[name], "formula", "")) for name in registry}
    if key == "device":
        return device(typed)
    if not found and "default" in schema:
        found = {_text(schema["default"]): "the default"}
    return [(name, doc) for name, doc in found.items() if name.startswith(typed)]


def _names(schema: dict[str, Any]) -> Iterator[Any]:
    if schema.get("type") == "boolean":
        yield from (False, True)
    yield from schema.get("enum", ())
    for form in schema.get("anyOf", ()):
        yield from form.get("enum", ())


def _about(schema: dict[str, Any]) -> str:
    return str(schema.get("description", ""))


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", False: "false", True: "true"}[value]
    return str(value).replace(" ", "")


def key(incomplete: str) -> Candidates:
    """Complete the keys of a variant, such as those of `--by`, with commas between."""
    names = {"name": "what tables call it", **{name: _about(_keys()[name]) for name in RECIPE}}
    return _listed(incomplete, names)


def metric(incomplete: str) -> Candidates:
    """Complete the names of metrics, with commas between; `auc:` goes before one."""
    last = incomplete.rpartition(",")[2]
    form = "auc:" if last.startswith("auc:") else ""
    return _listed(incomplete, {f"{form}{name}": entry.doc for name, entry in METRICS.items()})


def _listed(incomplete: str, names: dict[str, str]) -> Candidates:
    before, comma, last = incomplete.rpartition(",")
    used = before.split(",")
    return [
        (f"{before}{comma}{name}", doc) for name, doc in names.items() if name.startswith(last) and name not in used
    ]


def run_id(ctx: typer.Context, incomplete: str) -> Candidates:
    """Complete the id of a run in the results folder; what looks like a path is left to the shell."""
    if os.sep in incomplete:
        return []
    folder = ctx.params.get("results") or os.environ.get("ACTBENCH_RESULTS") or "results"
    return _quietly(lambda: [(name, "") for name in index.run_ids(Path(folder)) if name.startswith(incomplete)])


def _quietly(look: Callable[[], Candidates]) -> Candidates:
    """Offer nothing where something cannot be read: an error has no place at a prompt."""
    try:
        return look()
    except OSError:
        return []


def dataset(incomplete: str) -> Candidates:
    """Complete the name of a dataset."""
    return [(name, entry.title) for name, entry in DATASETS.items() if name.startswith(incomplete)]


def device(incomplete: str) -> Candidates:
    """Complete where to train."""
    return [(name, "") for name in ("auto", "cpu", "cuda", "cuda:0") if name.startswith(incomplete)]


def format_name(incomplete: str) -> Candidates:
    """Complete the format of a table."""
    return [(name, "") for name in ("table", *FORMATS) if name.startswith(incomplete)]


def tracker(incomplete: str) -> Candidates:
    """Complete the kind of a tracker."""
    return [(name, "") for name in TRACKERS if name.startswith(incomplete)]


# --- bash ----------------------------------------------------------------------------------------------------

_BREAKS = ("=", ":")


def asked_by_bash() -> bool:
    """Whether this process was started by bash to complete a command line."""
    return os.environ.get("_ACTBENCH_COMPLETE") == "complete_bash" and "COMP_WORDS" in os.environ


def answer_bash(answer: Callable[[], object]) -> int:
    """Let `answer` print candidates for whole words, and print what bash can use of them.

    Bash takes `=` and `:` for words of their own: it hands `activation=re` over as three words, and puts a
    candidate in the place of the last one only.
    """
    words = os.environ["COMP_WORDS"].split("\n")
    at = int(os.environ.get("COMP_CWORD") or len(words) - 1)
    joined, before = rejoined(words[: at + 1])
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(len(joined) - 1)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        answer()
    for line in printed.getvalue().splitlines():
        typer.echo(without(before, line))
    return 0


def rejoined(words: list[str]) -> tuple[list[str], str]:
    """Join words at the signs where bash breaks them; also return what of the last one bash will not replace."""
    joined: list[str] = []
    glue = False
    for word in words:
        if joined and (glue or word in _BREAKS) and len(joined) > 1:
            joined[-1] += word
        else:
            joined.append(word)
        glue = word in _BREAKS
    last = "" if words[-1] in _BREAKS else words[-1]
    return joined, joined[-1][: len(joined[-1]) - len(last)]


def without(before: str, candidate: str) -> str:
    """Take from a candidate what already stands before the word that bash replaces, also behind `--option=`."""
    for part in _endings(before):
        if part and candidate.startswith(part):
            return candidate[len(part) :]
    return candidate


def _endings(before: str) -> Iterable[str]:
    yield before
    if before.startswith("-"):
        yield before.partition("=")[2]
