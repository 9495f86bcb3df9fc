"""The report: what the page shows, that nothing typed by a person runs in it, and that it works in a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actbench import cli, config
from actbench.config import Run
from actbench.errors import UsageError
from actbench.report import render
from actbench.report.gather import gather
from actbench.store import RunRecord, Store
from actbench.store.read import read_results
from actbench.text import readable
from configs import HOSTILE

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'</script>{{7*7}}\u2028"


def stored(
    root: Path, name: str, seed: int, accuracy: float, dead: float, status: str = "done", **changes: Any
) -> None:
    """Store a made-up run of 3 epochs with 4 units in its first layer, 2 of them dead."""
    settings = {"dataset": "digits", "epochs": 3, "hidden": [4], "name": name, **changes}
    one = config.check(config.Document("config", settings))
    run = Run(one.variant, seed)
    epochs = [
        {
            "epoch": e,
            "test_accuracy": accuracy * e / 3,
            "test_loss": 2.0 - e / 2,
            "dead_ratio": dead * e / 3,
            "deaths": e,
        }
        for e in range(4)
    ]
    neurons = [
        {
            "layer": 0,
            "unit": u,
            "firing_rate": u / 4,
            "mean": 0.1,
            "rms": u / 2,
            "dead": u < 2,
            "died_in": u if u < 2 else None,
        }
        for u in range(4)
    ]
    made = RunRecord(
        run_id=run.run_id,
        config_yaml=config.to_yaml(one.variant, [seed]),
        flat=one.variant.flat(),
        seed=seed,
        status=status,
        metrics={"test_accuracy": accuracy, "dead_ratio": dead, "deaths": 3, "epochs_run": 3, "wall_s": 1.0},
        epochs=epochs,
        neurons=neurons,
        weights={"hidden.0.weight": np.linspace(-1, 1, 4 * 784, dtype=np.float32).reshape(4, 784)},
        provenance={"torch_version": "2.13.0", "device": "cpu", "started_at": "2026-01-01T00:00:00+00:00"},
    )
    with Store(root).claim(run.run_id, force=True) as claim:
        assert claim is not None
        assert claim.finish(made)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    for seed in range(6):
        stored(root, "relu", seed, 0.95 + seed / 1000, 0.1)
        stored(root, "tanh", seed, 0.93 + seed / 1000, 0.0, activation="tanh")
        stored(root, ATTACK, seed, 0.90 + seed / 1000, 0.5, lr=0.1)
    return root


def page_of(results: Path, **options: Any) -> str:
    runs, problems = read_results([str(results)], results)
    return render(gather(runs, problems, **options))


class Tags(HTMLParser):
    """Counts tags and keeps attributes, as a browser's parser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.found)


def test_the_page_names_every_variant_run_and_config_and_says_how_to_get_them_again(results: Path) -> None:
    page = page_of(results)
    runs, _ = Store(results).load_all()
    for run in runs:
        assert f"actbench reproduce {run.run_id}" in page
    assert "activation: tanh" in page
    assert "seeds: 6" in page
    assert "2.13.0" in page
    assert "18 (18 done)" in page


def test_the_saved_config_gives_the_same_runs_with_the_same_ids(results: Path, tmp_path: Path) -> None:
    runs, problems = read_results([str(results)], results)
    variants = gather(runs, problems).variants
    again = set()
    for k, variant in enumerate(variants):
        (tmp_path / f"{k}.yaml").write_text(variant.yaml)
        again |= {run.run_id for run in config.load(tmp_path / f"{k}.yaml").runs()}
    assert again == {run.run_id for run in runs}


def test_the_table_has_the_rows_and_the_verdicts_of_compare(results: Path) -> None:
    runs, problems = read_results([str(results)], results)
    page = gather(runs, problems, baseline="relu")
    assert [row["test_accuracy"][:5] for row in page.rows] == ["95.25", "93.25", "90.25"]
    # Six pairs: the smallest p is 2/64, and twice that after Holm over two rows.
    assert [row["test_accuracy:verdict"] for row in page.rows] == ["baseline", "needs >= 7 seeds", "needs >= 7 seeds"]
    keys = [row[[c.key for c in page.columns].index("test_accuracy")] for row in page.sort_keys]
    assert keys == sorted(keys, reverse=True)


@pytest.mark.parametrize("name", [ATTACK, *HOSTILE])
def test_nothing_that_a_person_typed_becomes_markup(tmp_path: Path, name: str) -> None:
    try:
        stored(tmp_path / "results", name, 0, 0.9, 0.1)
    except config.ConfigError:
        pytest.skip("no name of a variant")
    stored(tmp_path / "plain", "plain", 0, 0.9, 0.1)
    hostile, plain = Tags(page_of(tmp_path / "results")), Tags(page_of(tmp_path / "plain"))
    for tag in ("script", "img", "style", "link", "iframe", "a", "input"):
        assert hostile.count(tag) == plain.count(tag), tag
    assert not [attributes for _, attributes in hostile.found if any(key.startswith("on") for key in attributes)]


def test_the_page_asks_nothing_of_any_other_place(results: Path) -> None:
    page = page_of(results)
    for _, attributes in Tags(page).found:
        for key in ("src", "href", "action"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1] or "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    assert " style=" not in page


def test_the_data_block_is_json_that_ends_no_script(results: Path) -> None:
    block = page_of(results).partition('type="application/json">')[2].partition("</script>")[0]
    assert "<" not in block
    data = json.loads(block)
    assert readable(ATTACK) in [group["label"] for group in data["groups"]]
    accuracy = data["curves"]["test_accuracy"]["groups"][0]["lines"][0]
    assert [point[0] for point in accuracy] == [0, 1, 2, 3]
    assert accuracy[3][1] == pytest.approx(95.25, rel=1e-3)
    assert accuracy[3][2] < accuracy[3][1] < accuracy[3][3]


def test_two_settings_that_vary_make_a_heat_map_and_three_make_none(tmp_path: Path) -> None:
    for activation in ("relu", "tanh"):
        for lr in (0.1, 0.2):
            stored(tmp_path / "two", f"{activation} {lr}", 0, 0.9, 0.1, activation=activation, lr=lr)
    runs, problems = read_results([str(tmp_path / "two")], tmp_path)
    accuracy, dead = gather(runs, problems).heat_tables
    assert (accuracy.row_values, accuracy.column_values) == (("relu", "tanh"), ("0.1", "0.2"))
    assert dead.cells[0][0] == ("10.00", 0, "1 run")
    stored(tmp_path / "two", "more", 0, 0.9, 0.1, epochs=3, batch_size=32)
    runs, problems = read_results([str(tmp_path / "two")], tmp_path)
    assert gather(runs, problems).heat_tables == []


def test_a_diverged_run_has_a_line_of_its_own_but_no_part_in_any_mean(tmp_path: Path) -> None:
    for seed, (accuracy, status) in enumerate([(0.9, "done"), (0.8, "done"), (0.1, "diverged")]):
        for activation, lr in (("relu", 0.1), ("relu", 0.2), ("tanh", 0.1)):
            stored(tmp_path / "runs", "n", seed, accuracy, 0.5, status, activation=activation, lr=lr)
    page = gather(*read_results([str(tmp_path / "runs")], tmp_path))
    curves = page.data["curves"]["test_accuracy"]["groups"][0]
    assert curves["lines"][-1][-1][1] == pytest.approx(85)
    assert [seed[-1][1] for seed in curves["seeds"]] == pytest.approx([90, 80, 10])
    accuracy, _ = page.heat_tables
    assert accuracy.cells[0][0] == ("85.00*", 0, "3 runs, 1 diverged")
    assert accuracy.cells[1][1] is None


def test_each_activation_is_drawn_once_in_the_colours_of_the_page(results: Path) -> None:
    stored(results, "gated", 0, 0.9, 0.1, activation="swiglu")
    page = page_of(results)
    drawings = re.findall(r"<li><svg.*?</svg></li>", page, re.DOTALL)
    assert sorted(name for svg in drawings for name in ("relu", "swiglu", "tanh") if f">{name}<" in svg) == [
        "relu", "swiglu", "tanh"
    ]  # fmt: skip
    assert all("var(--series-1)" in svg and "var(--ink)" in svg for svg in drawings)
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r"url\(#([^)]+)\)", "".join(drawings))) <= set(names)


def test_damaged_files_are_named_on_the_page_and_the_rest_is_shown(results: Path) -> None:
    runs, _ = Store(results).load_all()
    (runs[0].folder / "epochs.csv").write_text("")
    (runs[1].folder / "result.json").write_text("{")
    page = page_of(results)
    assert "epochs.csv is damaged" in page
    assert "17 (17 done)" in page


def test_neurons_are_pictured_dead_ones_and_active_ones(results: Path) -> None:
    runs, problems = read_results([str(results)], results)
    first, worst = gather(runs, problems, baseline="relu").neurons
    (dead_heading, dead), (active_heading, active) = first.galleries
    assert "dead" in dead_heading
    assert [caption for _, caption, _ in dead] == ["born dead", "died in epoch 1"]
    assert "most active" in active_heading
    assert [unit for unit, _, _ in active] == [3, 2]
    assert [caption for _, caption, _ in active] == ["fires for 75%", "fires for 50%"]
    assert worst.label != first.label
    assert all(image.startswith("data:image/png;base64,") for _, _, image in dead)


@pytest.mark.parametrize(
    ("output", "message"), [("page.pdf", "ends in .html"), ("nowhere/page.html", "does not exist; create it first")]
)
def test_an_impossible_output_is_refused_before_anything_is_read(
    results: Path, tmp_path: Path, output: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        cli.app(["report", str(results), "-o", str(tmp_path / output)], standalone_mode=False)


def test_the_command_writes_the_page(results: Path, tmp_path: Path) -> None:
    assert cli.run(["report", str(results), "-o", str(tmp_path / "page.html"), "--title", "A & B"]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "<h1>A &amp; B</h1>" in text
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == ["page.html"]


@pytest.fixture
def browser_page(results: Path, tmp_path: Path) -> Iterator[Any]:
    """The report in a real Chromium, and all that it said, asked for or did."""
    from playwright.sync_api import sync_playwright

    file = tmp_path / "page.html"
    file.write_text(page_of(results, baseline="relu"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.heard = []  # type: ignore[attr-defined]
        page.on("console", lambda message: page.heard.append(message.text))  # type: ignore[attr-defined]
        page.on("pageerror", lambda error: page.heard.append(str(error)))  # type: ignore[attr-defined]
        page.on("dialog", lambda dialog: (page.heard.append("dialog"), dialog.dismiss()))  # type: ignore[attr-defined]
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or page.heard.append(r.url))  # type: ignore[attr-defined]
        page.goto(file.as_uri())
        yield page
        browser.close()


@pytest.mark.browser
class TestInABrowser:
    def test_it_loads_without_a_word_and_asks_for_nothing(self, browser_page: Any) -> None:
        assert browser_page.heard == []
        assert browser_page.locator("#chart svg path").count() > 3
        assert browser_page.locator("script").count() == 2  # a hostile name has added none

    def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(self, browser_page: Any) -> None:
        heading = browser_page.get_by_role("button", name="test accuracy %")
        column = "#table tbody tr td:nth-child(3)"
        heading.click()
        assert [text[:5] for text in browser_page.locator(column).all_inner_texts()] == ["90.25", "93.25", "95.25"]
        heading.press("Enter")
        assert [text[:5] for text in browser_page.locator(column).all_inner_texts()] == ["95.25", "93.25", "90.25"]
        assert browser_page.locator("th[aria-sort=descending]").count() == 1

    def test_the_filter_hides_rows_and_says_how_many_are_left(self, browser_page: Any) -> None:
        browser_page.get_by_label("Show rows with").fill("tanh")
        assert browser_page.locator("#table tbody tr:visible").count() == 1
        assert browser_page.locator("#count").inner_text() == "1 of 3"

    def test_pointing_at_the_curves_and_arrow_keys_read_values(self, browser_page: Any) -> None:
        browser_page.locator("#chart").hover()
        assert "relu" in browser_page.locator("#readout").inner_text()
        browser_page.locator("#chart").focus()
        browser_page.keyboard.press("End")
        assert browser_page.locator("#readout b").inner_text() == "epoch 3"
        assert "95.25" in browser_page.locator("#readout").inner_text()
        browser_page.keyboard.press("ArrowLeft")
        assert browser_page.locator("#readout b").inner_text() == "epoch 2"

    def test_a_variant_can_be_taken_off_the_chart_and_another_metric_chosen(self, browser_page: Any) -> None:
        before = browser_page.locator("#chart svg path").count()
        browser_page.locator("#legend button").first.click()
        assert browser_page.locator("#chart svg path").count() < before
        browser_page.get_by_label("Metric").select_option("dead_ratio")
        assert "max|f'(z)| = 0" in browser_page.locator("#about").inner_text()

    def test_a_phone_shows_it_without_scrolling_sideways(self, browser_page: Any) -> None:
        browser_page.set_viewport_size({"width": 390, "height": 844})
        assert browser_page.evaluate("document.documentElement.scrollWidth") <= 390
        assert browser_page.heard == []
