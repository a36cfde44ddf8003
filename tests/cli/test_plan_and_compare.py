"""``thawline plan`` and ``thawline compare`` as they are typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.toy_text import NAME, texts
from typer.testing import CliRunner

from thawline.cli.app import app
from thawline.planning import read_plan

pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.fixture
def photos(tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tiny_photos.parent)
    return tiny_photos


def run(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def test_a_plan_is_written_said_and_replayed(photos: Path) -> None:
    code, said, _ = run("plan", photos, "--quiet")
    assert code == 0
    assert "none skipped Weights: " in " ".join(said.split())
    assert "Retrain only the head" in " ".join(said.split())
    assert "the guides say" in " ".join(said.split())
    assert "candidate" in said
    assert "thawline fit" in said
    assert Path("plan.toml").is_file()
    code, said, _ = run("fit", photos, "--plan", "plan.toml", "--run", "runs/planned", "--json")
    assert (code, json.loads(said)["thaw"]) == (0, "none")


def test_the_json_of_a_plan(photos: Path) -> None:
    code, said, _ = run("plan", photos, "--json", "--out", "p.toml")
    assert code == 0
    content = json.loads(said)
    assert set(content) == {
        "plan", "chosen", "verdict", "reasons", "candidates", "forecast", "classes", "size", "similarity", "scenario",
        "warnings", "skipped",
    }  # fmt: skip
    assert set(content["chosen"]) == {"model", "thaw", "layer", "head", "stages"}
    for one in content["candidates"]:
        assert {"thaw", "score", "ci95", "seconds", "bytes", "memory", "why"} <= set(one)
    assert content["forecast"] is None  # it stands beside every candidate


def test_no_plan_is_lost(photos: Path) -> None:
    Path("plan.toml").write_text("mine")
    code, _, said = run("plan", photos)
    assert code == 2
    assert "--out must be a new file" in " ".join(said.split())
    assert Path("plan.toml").read_text() == "mine"
    code, _, said = run("plan", photos, "--out", "no/such/plan.toml")
    assert code == 2
    assert "must lie in a folder that exists" in " ".join(said.split())
    assert run("plan", photos, "--quiet", "--force", "--thaw", "last:1")[0] == 0
    assert Path("plan.toml").read_text() != "mine"


def test_a_thaw_that_was_asked_for_is_planned_without_measuring(photos: Path) -> None:
    code, said, _ = run("plan", photos, "--thaw", "last:2", "--epochs", "2", "--quiet")
    assert code == 0
    assert "candidate" not in said
    assert re.search(r"It will take about [\d.]+ s, [\d.]+ [KM]B in the cache, [\d.]+ [MG]B of memory", said)
    assert 'thaw = "last:2"' in Path("plan.toml").read_text()


def test_strategies_are_compared_and_resumed(photos: Path) -> None:
    words = ("compare", photos, "--only", "last-layer, svm", "--out", "c", "--quiet")
    code, said, _ = run(*words)
    assert code == 0
    verdict, table = said.split("on the test set  ", 1)
    assert "new linear head on the frozen model, accuracy 1.000" in " ".join(verdict.split())  # the first of two equals
    assert "linear SVM on the frozen model" in table
    assert "always the commonest class" in table
    again = run(*words, "--json")
    assert json.loads(again[1])["candidates"][0]["name"] == "last-layer"
    code, _, said = run("compare", photos, "--only", "forest")
    assert code == 2
    assert "strategies must be among" in " ".join(said.split())


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of 60 short texts of two classes."""
    made, labels = texts(60)
    rows = [f'"{text}",{("good", "bad")[label]}' for text, label in zip(made, labels, strict=True)]
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return Path("reviews.csv")


CURVE = ("--curve", "--model", NAME, "--thaw", "from:blocks.1", "--epochs", "1")


def test_a_plan_says_from_how_many_samples_a_class_fine_tuning_pays(reviews: Path) -> None:
    code, said, error = run("plan", reviews, *CURVE)
    assert code == 0, error
    plain = " ".join(said.split())
    assert "Fine-tuning " in plain and "samples a class" in plain
    assert "frozen head" in plain and "fine-tuned" in plain and "saved" in plain
    (sentence,) = [reason for reason in read_plan(Path("plan.toml")).reasons if reason.startswith("Fine-tuning ")]
    assert sentence in plain


@pytest.mark.slow
def test_the_json_of_a_curve(reviews: Path) -> None:
    code, said, _ = run("plan", reviews, *CURVE, "--json")
    assert code == 0
    content = json.loads(said)
    curve = content["curve"]
    assert curve["words"] in content["reasons"]
    assert curve["answer"] in ("from", "everywhere", "nowhere", "at first only")
    ns = [one["n"] for one in curve["reached"]]
    assert ns == sorted(ns)
    assert all(len(one["saved"]) == 3 for one in curve["reached"])


def test_a_curve_of_too_few_samples_says_how_many_it_needs(photos: Path) -> None:
    for picture in photos.rglob("*_0[5-9].png"):
        picture.unlink()
    code, _, said = run("plan", photos, "--curve", "--thaw", "last:1")
    assert code == 2
    assert "data must leave 4 samples a class to learn from" in " ".join(said.split())
