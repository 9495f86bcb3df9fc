"""What the shell offers on Tab: config keys and their values, metrics, run ids and other names.

Each public function takes the word typed so far and returns (candidate, help) pairs. Typer passes them to bash, zsh,
fish and PowerShell. Nothing here imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from actbench import config
from actbench.config import RECIPE, REGISTRIES
from actbench.datasets import DATASETS
from actbench.metrics import METRICS
from actbench.store import index
from actbench.trackers import TRACKERS

Candidates = list[tuple[str, str]]


def setting(incomplete: str) -> Candidates:
    """Complete `--set`: a key, then a value after its `=`."""
    return _setting(incomplete, _values)


def column(incomplete: str) -> Candidates:
    """Complete `--grid`: a key, then values separated by commas, each offered once."""
    return _setting(incomplete, lambda key, typed: _after_comma(typed, dict(_values(key, typed.rpartition(",")[2]))))


def config_file(incomplete: str) -> Candidates:
    """Complete the name of a built-in config, and of files that begin like it; leave anything else to the shell."""
    names = _starting(incomplete, dict.fromkeys(config.builtin_configs(), "built-in"))
    folders = [f"{path.name}/" for path in sorted(Path().iterdir()) if path.is_dir()] if names else []
    files = [*config.local_configs(), *folders] if names else []
    return [*names, *_starting(incomplete, dict.fromkeys(files, ""))]


def key(incomplete: str) -> Candidates:
    """Complete a comma-separated list of config keys, as in `--by`."""
    keys = _keys()
    return _after_comma(incomplete, {"name": "the name in tables", **{name: _help(keys[name]) for name in RECIPE}})


def metric(incomplete: str) -> Candidates:
    """Complete a comma-separated list of metrics; after `auc:` too."""
    form = "auc:" if incomplete.rpartition(",")[2].startswith("auc:") else ""
    return _after_comma(incomplete, {f"{form}{name}": entry.doc for name, entry in METRICS.items()})


def run_id(ctx: typer.Context, incomplete: str) -> Candidates:
    """Complete a run id from the results folder; leave paths to the shell."""
    if os.sep in incomplete:
        return []
    folder = ctx.params.get("results") or os.environ.get("ACTBENCH_RESULTS") or "results"
    try:
        return _starting(incomplete, dict.fromkeys(index.run_ids(Path(folder)), ""))
    except OSError:
        return []  # a prompt is no place for an error


def dataset(incomplete: str) -> Candidates:
    """Complete the name of a dataset."""
    return _starting(incomplete, {name: entry.title for name, entry in DATASETS.items()})


def device(incomplete: str) -> Candidates:
    """Complete a device."""
    return _starting(incomplete, dict.fromkeys(("auto", "cpu", "cuda", "cuda:0"), ""))


def tracker(incomplete: str) -> Candidates:
    """Complete the kind of a tracker."""
    return _starting(incomplete, dict.fromkeys(TRACKERS, ""))


def _starting(incomplete: str, names: Mapping[str, str]) -> Candidates:
    return [(name, text) for name, text in names.items() if name.startswith(incomplete)]


def _after_comma(incomplete: str, names: Mapping[str, str]) -> Candidates:
    """Complete the last item of a comma-separated list; do not offer earlier items again."""
    before, comma, last = incomplete.rpartition(",")
    used = before.split(",")
    return [(f"{before}{comma}{name}", text) for name, text in _starting(last, names) if name not in used]


def _setting(incomplete: str, values: Callable[[str, str], Candidates]) -> Candidates:
    """Complete `key=value`; `values(key, typed)` gives the candidates for what follows the `=`."""
    key, equals, typed = incomplete.partition("=")
    if equals:
        return [(f"{key}={value}", text) for value, text in values(key, typed)]
    keys = [(f"{name}=", _help(schema)) for name, schema in _keys().items() if name.startswith(key)]
    if len(keys) != 1:
        return keys
    # The shell adds a space after a single candidate. With its values beside it, the shell stops after the `=`.
    only = keys[0][0]
    return [*keys, *((f"{only}{value}", text) for value, text in values(only.removesuffix("="), ""))]


def _keys() -> dict[str, dict[str, Any]]:
    """Return the schema of each config key, and of each parameter as `optimizer.momentum`."""
    whole = config.json_schema()
    properties = {k: s for k, s in whole["properties"].items() if k != "sweep"}
    parameters = {
        f"{key}.{name}": schema
        for key, one in properties.items()
        for form in whole["$defs"].get(key, one).get("anyOf", ())
        for name, schema in form.get("properties", {}).items()
        if name != "name"
    }
    return properties | parameters


def _values(key: str, typed: str) -> Candidates:
    """Complete the value of a config key: the names it accepts, or its default if it accepts none."""
    if key == "device":
        return device(typed)
    schema = _keys().get(key, {})
    if key in REGISTRIES:
        registry = REGISTRIES[key]
        return _starting(typed, {name: str(getattr(registry[name], "formula", "")) for name in registry})
    names = {_yaml(name): "" for name in _names(schema) if name is not None}
    if not names and "default" in schema:
        names = {_yaml(schema["default"]): "the default"}
    return _starting(typed, names)


def _names(schema: dict[str, Any]) -> Iterator[Any]:
    if schema.get("type") == "boolean":
        yield from (False, True)
    for form in (schema, *schema.get("anyOf", ())):
        yield from form.get("enum", ())


def _help(schema: dict[str, Any]) -> str:
    return str(schema.get("description", ""))


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", False: "false", True: "true"}[value]
    return str(value).replace(" ", "")
