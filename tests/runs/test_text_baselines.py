"""Baselines, strategies and reports of runs on texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.toy_text import text_dataset, toy_encoder

import thawline as tl
from thawline.errors import UsageError
from thawline.planning import Asked
from thawline.runs.strategies import PIXELS, STRATEGIES, chosen


@pytest.fixture
def run(tmp_path: Path) -> tl.Run:
    asked = Asked.of(thaw="none", baselines=("guides",))
    return tl.fit(text_dataset(90), asked, backbone=toy_encoder(), run=tmp_path / "run")


def test_a_run_on_texts_stands_beside_baselines_of_texts(run: tl.Run) -> None:
    content = run.report.content
    assert set(content["baselines"]) == {"majority", "knn", "tfidf", "words", "guide-words"}
    assert not set(content["baselines"]) & {"pixels", "guide-mlp", "guide-cnn"}
    assert content["kind"] == "text"
    page = run.report_path.read_text("utf-8")
    assert "ogistic regression on TF-IDF of words and characters" in page
    assert "ean of word vectors, learned from nothing" in page
    assert "ogistic regression on averaged word vectors" in page
    assert "picture" not in page.split("</style>")[1]


def test_mistakes_are_shown_as_texts(tmp_path: Path) -> None:
    data = text_dataset(90)
    run = tl.fit(data, Asked.of(thaw="none"), backbone=toy_encoder(), run=tmp_path / "run")
    page = run.report_path.read_text("utf-8")
    assert run.report.accuracy.value < 1, "a toy that makes no mistake shows none"
    assert '<p class="said" dir="auto">' in page


def test_networks_on_pixels_are_no_strategy_for_texts() -> None:
    assert chosen([], "text") == (list(STRATEGIES), [])
    assert chosen([], "image") == (list(STRATEGIES), list(PIXELS))
    with pytest.raises(UsageError, match=r"got 'pixel-mlp'\. It is for pictures"):
        chosen(["last-layer", "pixel-mlp"], "text")


def test_a_comparison_on_texts_has_the_baselines_of_texts(tmp_path: Path) -> None:
    found = tl.compare(
        text_dataset(90), toy_encoder(), folder=tmp_path / "all", only=["last-layer"], baselines=["guides"]
    )
    assert {"majority", "knn", "tfidf", "guide-words"} <= found.baselines.keys()
    assert "TF-IDF of words and characters" in found.page.read_text("utf-8")


def test_vectors_of_words_are_no_baseline_for_themselves(tmp_path: Path) -> None:
    run = tl.fit(
        text_dataset(60), Asked.of(thaw="none"), backbone=tl.open_backbone("embedded/words"), run=tmp_path / "r"
    )
    assert set(run.report.content["baselines"]) == {"majority", "knn", "tfidf"}
