"""Records show themselves: one line in a terminal, a card in a notebook, and no name can break out of either."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import thawline as tl
from thawline.planning.fit_plan import Candidate
from thawline.records import Features, Skipped
from thawline.runs import Run, RunReport, open_run
from thawline.showing import MAX_ROWS, card, counted, few, printable, table_html

GOLDEN = Path(__file__).parent / "golden" / "0.1.0-thawed"
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\x00\u202e\u05d0'


class Card(HTMLParser):
    """The tags of a card, which must nest, its cells by row, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"th", "td"} & set(self.open[-2:]):
            self.rows[-1][-1] += data


@pytest.fixture
def data(tiny_photos: Path) -> tl.Dataset:
    return tl.open_data(tiny_photos)


def plan(**changes: object) -> tl.FitPlan:
    found = {"name": "head", "thaw": "none", "layer": "pooled", "head": "logistic", "score": 0.9, "ci95": (0.8, 0.95)}
    forecast = {"log_loss": 0.25, "n": 40, "seconds": 1234.5, "bytes": 0, "why": "chosen"}
    one = Candidate(**found, **forecast)
    return tl.FitPlan(model="embedded/tiny", candidates=(one,), verdict="Frozen.", **changes)


def test_a_data_set_shows_its_classes(data: tl.Dataset) -> None:
    assert repr(data) == "Dataset('photos': 30 samples, 3 classes (disc, square, stripes))"
    rows = Card(data._repr_html_()).rows
    assert rows == [["class", "samples"], ["disc", "10"], ["square", "10"], ["stripes", "10"]]
    given = replace(data, given=np.array(["train", "test"] * 15), skipped=(Skipped("a", "b"),), warnings=("Few.",))
    assert repr(given).endswith("(disc, square, stripes), 1 file skipped)")
    shown = Card(given._repr_html_())
    assert shown.rows[:2] == [["class", "train", "val", "test"], ["disc", "5", "0", "5"]]
    assert "Few." in shown.text


def test_a_split_shows_its_sizes(data: tl.Dataset) -> None:
    split = tl.split_data(data)
    sizes = f"{len(split.train)} training, {len(split.val)} validation, {len(split.test)} test"
    assert repr(split) == f"Split({sizes}; {split.origin})"
    dropped = replace(split, dropped=np.array([1, 2]))
    assert Card(dropped._repr_html_()).rows[-1] == ["dropped", "2"]
    assert split.origin in Card(split._repr_html_()).text


def test_features_and_scores_show_no_array() -> None:
    values = np.zeros((398, 1280), np.float32)
    features = Features(values, "pooled", "f32", "openvino", "why", "key", 390, 8, 1.0)
    assert repr(features) == "Features(398 x 1,280 at 'pooled', openvino f32, 390 computed, 8 reused)"


def test_a_plan_shows_its_decision_and_candidates() -> None:
    made = plan()
    assert (
        repr(made)
        == str(made)
        == ("FitPlan(model='embedded/tiny', thaw='none', head='logistic' at 'pooled', seed=0, 1 candidate measured)")
    )
    shown = Card(made._repr_html_())
    assert ["thaw", "none"] in shown.rows
    assert shown.rows[-1] == ["head", "0.900", "0.800 to 0.950", "40", "0.250", "1,234.5", "chosen"]
    assert "Frozen." in shown.text


def test_a_run_shows_its_verdict_and_the_simpler_methods() -> None:
    run = open_run(GOLDEN)
    accuracy = run.report.accuracy
    assert repr(run) == f"Run({str(GOLDEN)!r}: thaw last:2, accuracy {accuracy})"
    assert repr(run.report) == f"RunReport(accuracy {accuracy})"
    shown = Card(run._repr_html_())
    assert run.report.verdict in shown.text
    assert "3 classes (disc, square, stripes): 22 training, 4 validation, 4 test samples." in shown.text
    assert [row[0] for row in shown.rows[1:]] == [
        "this model",
        "always the commonest class",
        "five nearest neighbours on the model's features",
        "logistic regression on 16 x 16 pixels",
        "a new linear head on the frozen model",
    ]
    assert shown.rows[1][1] == f"{100 * accuracy.value:.1f} %"


def test_no_name_breaks_out(data: tl.Dataset, tmp_path: Path) -> None:
    hostile = replace(data, name=HOSTILE, classes=(HOSTILE, "b", "c"), warnings=(HOSTILE,))
    content = open_run(GOLDEN).report.content
    run = Run(tmp_path / HOSTILE.replace("/", "_"), RunReport(content | {"verdict": HOSTILE, "classes": [HOSTILE]}))
    split = replace(tl.split_data(data), origin=HOSTILE)
    for shown in (hostile, run, split, plan(reasons=(HOSTILE,), layer=HOSTILE)):
        html = shown._repr_html_()
        assert set(Card(html).tags) <= {"div", "h4", "p", "table", "thead", "tbody", "tr", "th", "td", "bdi"}
        assert html.count("\u05d0") == len(re.findall("<bdi>[^<]*\u05d0[^<]*</bdi>", html)) > 0
        assert "\x00" not in html and "\u202e" not in html
        assert "\n" not in repr(shown)


def test_long_tables_and_names_are_cut_and_counted() -> None:
    rows = Card(table_html(("class", "n"), [(f"c{i}", i) for i in range(MAX_ROWS + 1002)])).rows
    assert len(rows) == 1 + MAX_ROWS + 1 and rows[-1] == ["and 1,002 more"]
    assert few(["a", "b", "c"], 2) == "a, b and 1 more" and few(["a"]) == "a"
    assert (counted(1, "class", "classes"), counted(1000, "file")) == ("1 class", "1,000 files")
    assert len(printable("x" * 1000)) == 80
    assert len(card("x" * 1000, ["y" * 9000])) < 1200
