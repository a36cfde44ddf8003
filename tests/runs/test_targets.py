"""Fits of labels and numbers, from a table to predictions: every number in the run folder equals scikit-learn's."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytest import approx
from sklearn import metrics
from tests.embedded import opened

import thawline as tl
from thawline.errors import DataError, UsageError
from thawline.planning import Asked
from thawline.runs import Run, evaluate

pytestmark = pytest.mark.usefixtures("shared_cache")

PATCHES = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}
N = 72


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of pictures: patches of colours on noise are their labels; how bright the noise is, a number."""
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(N):
        light = int(rng.integers(30, 130))
        pixels = rng.integers(light - 30, light + 30, (48, 48, 3)).astype(np.uint8)
        has = [bool(rng.random() < share) for share in (0.5, 0.35, 0.25)]
        for place, (on, colour) in enumerate(zip(has, PATCHES.values(), strict=True)):
            if on:
                pixels[2 + 15 * place : 15 + 15 * place, 4:30] = colour
        Image.fromarray(pixels).save(folder / f"{i}.png")
        names = "|".join(name for name, on in zip(PATCHES, has, strict=True) if on)
        rows.append([f"{i}.png", names, f"{100 + light / 7:.3f}"])
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "tags", "light"], *rows])
    return folder / "t.csv"


def labelled(table: Path) -> tl.Dataset:
    return tl.open_data(table, label_column="tags", target="labels")


def measured(table: Path) -> tl.Dataset:
    return tl.open_data(table, label_column="light", target="number")


def fit(data: tl.Dataset, folder: Path, **asked: Any) -> Run:
    backbone = opened()
    return tl.fit(data, tl.plan(data, backbone, **asked), backbone=backbone, run=folder)


def written(run: Run) -> list[dict[str, str]]:
    with (run.folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_of_labels(planted: Path, tmp_path: Path) -> None:
    data = labelled(planted)
    run = fit(data, tmp_path / "run", thaw="none")
    content = json.loads((run.folder / "metrics.json").read_text())
    assert content["target"] == "labels" and content["headline"] == "micro_f1"
    assert content["classes"] == list(data.outputs) == ["blue", "green", "red"]
    assert [row["class"] for row in content["class_counts"]] == content["classes"]
    assert sum(row[part] for row in content["class_counts"] for part in ("train", "val", "test")) == data.truth.sum()
    rows = written(run)
    assert list(rows[0]) == ["file", "true", "labels", "p(blue)", "p(green)", "p(red)"]
    p = np.array([[float(row[f"p({name})"]) for name in data.outputs] for row in rows])
    truth = np.array([[name in row["true"].split("|") for name in data.outputs] for row in rows])
    given = np.array([[name in row["labels"].split("|") for name in data.outputs] for row in rows])
    np.testing.assert_array_equal(given, p >= 0.5)
    test = {name: metric["value"] for name, metric in content["test"].items()}
    assert test["micro_f1"] == approx(metrics.f1_score(truth, given, average="micro"))
    assert test["macro_f1"] == approx(metrics.f1_score(truth, given, average="macro"))
    assert test["mean_average_precision"] == approx(metrics.average_precision_score(truth, p, average="macro"))
    best = np.array([content["thresholds"][name] for name in data.outputs])
    assert test["macro_f1_best"] == approx(metrics.f1_score(truth, p >= best, average="macro"))
    assert test["micro_f1"] > 0.9 and run.report.main.value == test["micro_f1"]
    assert set(content["baselines"]) == {"frequency", "knn", "pixels"}
    assert run.plan.target == "labels" and run.plan.head == "logistic"

    found = tl.load_bundle(run.folder).predict([planted.parent / row["file"] for row in rows])
    np.testing.assert_array_equal(found.probabilities, p)
    assert found.labels == tuple(row["labels"] for row in rows)
    said = found.to_json()["predictions"][0]
    assert said["labels"] == [name for name in data.outputs if name in rows[0]["labels"].split("|")]
    assert list(said["probabilities"]) == list(data.outputs)
    tuned = tl.load_bundle(run.folder).predict(planted.parent / rows[0]["file"], threshold="best")
    assert tuned.label_sets[0] == tuple(name for name, has in zip(data.outputs, p[0] >= best, strict=True) if has)
    assert "micro F1" in run._repr_html_() and "Labels" in run.report_path.read_text()

    judged = evaluate(run, data)
    assert judged.n == N and judged.scores["micro_f1"].value > 0.9
    with pytest.raises(DataError, match="was read for target number; the run has target labels"):
        evaluate(run, measured(planted))
    with pytest.raises(UsageError, match="above 0 and below 1, or best; got 2"):
        tl.load_bundle(run.folder).predict(planted.parent / "0.png", threshold=2.0)


def test_a_run_of_numbers_that_thaws(planted: Path, tmp_path: Path) -> None:
    data = measured(planted)
    run = fit(data, tmp_path / "run", thaw="last:1", training={"epochs": 2, "evaluations": 1})
    content = json.loads((run.folder / "metrics.json").read_text())
    assert content["receipt"] == "clean" and content["thawed"] == "last:1" and run.plan.head == "ridge"
    assert content["ranges"]["light"] == {"low": data.truth.min(), "high": data.truth.max()}
    rows = written(run)
    truth, guess = (np.array([float(row[name]) for row in rows]) for name in ("true light", "light"))
    test = {name: metric["value"] for name, metric in content["test"].items()}
    assert test["r2"] == approx(metrics.r2_score(truth, guess))
    assert test["rmse"] == approx(metrics.root_mean_squared_error(truth, guess))
    assert test["mae"] == approx(metrics.mean_absolute_error(truth, guess))
    assert set(content["baselines"]) == {"mean", "median", "knn", "pixels", "probe"}
    assert content["baselines"]["mean"]["r2"]["value"] < 0.05 < 0.8 < content["baselines"]["probe"]["r2"]["value"]
    assert test["r2"] > 0.8
    trained = content["stages"][1]
    assert trained["score_name"] == "squared error on the validation set"
    assert 1 - trained["details"]["val_accuracy"] == approx(trained["score"])
    found = tl.load_bundle(run.folder).predict([planted.parent / row["file"] for row in rows])
    np.testing.assert_allclose(found.numbers[:, 0], guess, rtol=1e-6)
    assert found.to_json()["predictions"][0]["numbers"]["light"]["value"] == approx(guess[0])
    assert "R2" in run.report_path.read_text()


def test_intervals_of_numbers_hold_what_they_promise(planted: Path, tmp_path: Path) -> None:
    data = measured(planted)
    run = fit(data, tmp_path / "run", thaw="none")
    half = json.loads((run.folder / "metrics.json").read_text())["half_widths"]["light"]
    rows = written(run)
    assert all(float(row["light high"]) - float(row["light"]) == approx(half) for row in rows)
    inside = [float(row["light low"]) <= float(row["true light"]) <= float(row["light high"]) for row in rows]
    assert np.mean(inside) > 0.8


@pytest.mark.slow
def test_plans_of_numbers_decide_by_measuring(planted: Path, tmp_path: Path) -> None:
    run = tl.fit(measured(planted), backbone=opened(), run=tmp_path / "run")
    names = {one.name for one in run.plan.candidates}
    assert {"last layer, ridge", "all depths, ridge", "no backbone: 16 x 16 pixels, ridge"} <= names
    assert any(name.startswith("fine-tuning") for name in names)
    chosen = next(one for one in run.plan.candidates if one.behind is None)
    assert chosen.score > 0.8
    assert run.plan.verdict.startswith("Retrain")


@pytest.mark.slow
def test_plans_of_labels_end_where_the_first_head_is_enough(planted: Path, tmp_path: Path) -> None:
    run = tl.fit(labelled(planted), backbone=opened(), run=tmp_path / "run")
    (only,) = run.plan.candidates
    assert only.name == "last layer, logistic" and only.score > 0.7
    assert run.plan.verdict.startswith("Retrain")


@pytest.mark.slow
@pytest.mark.parametrize("read", [labelled, measured])
@pytest.mark.parametrize("asked", [{"head": "mlp", "hidden": (16,)}, {"from_scratch": True, "thaw": "all"}])
def test_nets_without_a_solved_head_learn_too(planted: Path, tmp_path: Path, read: Any, asked: dict[str, Any]) -> None:
    data = read(planted)
    run = fit(data, tmp_path / "run", **asked, training={"epochs": 30, "evaluations": 2, "lr": 3e-3})
    simple = run.report.content["baselines"]["mean" if data.target == "number" else "frequency"]
    assert run.report.main.value > simple[run.report.headline]["value"] + 0.2
    row = written(run)[0]
    again = tl.load_bundle(run.folder).predict(planted.parent / row["file"])
    first = next(name for name in row if name not in ("file", "true", "labels", "true light"))
    assert again.probabilities[0, 0] == approx(float(row[first]), rel=1e-5)


def test_what_needs_classes_says_so(planted: Path) -> None:
    data = labelled(planted)
    with pytest.raises(UsageError, match=r"head must be logistic or mlp for target labels; got svm \(--head\)"):
        tl.plan(data, opened(), head="svm")
    with pytest.raises(UsageError, match="class_weights must be none for target labels"):
        tl.plan(data, opened(), thaw="last:1", training={"class_weights": "balanced"})
    with pytest.raises(UsageError, match="the guides' networks tell classes apart"):
        tl.plan(data, opened(), baselines=("guides",))
    with pytest.raises(UsageError, match="compare is for data with one class for each sample"):
        tl.compare(data, opened())
    with pytest.raises(UsageError, match="rank is for data with one class for each sample"):
        tl.rank(data, ["embedded/resnet18_half"])
    numbers = tl.plan(measured(planted), opened(), thaw="none")
    with pytest.raises(UsageError, match="plan was made for target number; t was read for target labels"):
        tl.fit(data, numbers, backbone=opened())


def topics_of(real_data: Path, folder: Path) -> Path:
    """Write every fifth question of banking77 with the words of its intent's name that other intents share."""
    intents = json.loads((real_data / "text" / "banking77" / "categories.json").read_text())
    topics = {"card", "cash", "exchange", "payment", "pending", "transfer", "verify", "withdrawal"}
    assert all(sum(word in intent.split("_") for intent in intents) >= 2 for word in topics)
    with (real_data / "text" / "banking77" / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::5]
    with (folder / "banking.csv").open("w", newline="") as file:
        sets = [json.dumps([word for word in row["category"].split("_") if word in topics]) for row in rows]
        csv.writer(file).writerows(
            [["text", "topics"], *([row["text"], own] for row, own in zip(rows, sets, strict=True))]
        )
    return folder / "banking.csv"


@pytest.mark.slow
def test_topics_of_real_questions(real_data: Path, tmp_path: Path) -> None:
    """Topics are made of real intents, as no set of texts with several labels is at hand."""
    data = tl.open_data(topics_of(real_data, tmp_path), label_column="topics")
    assert data.kind == "text" and data.target == "labels"
    run = tl.fit(data, Asked.of(thaw="none"), run=tmp_path / "run")
    content = run.report.content
    assert set(content["baselines"]) >= {"frequency", "tfidf", "knn"}
    assert run.report.main.value > 0.75 and content["baselines"]["frequency"]["micro_f1"]["value"] < 0.1
    p = run.bundle.predict(["My card has not arrived yet", "The exchange rate is wrong"])
    assert "card" in p.label_sets[0] and "exchange" in p.label_sets[1]
