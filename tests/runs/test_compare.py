"""Strategies side by side: on one split, each a run of its own, and again without running anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import thawline as tl
from thawline.errors import RunError, UsageError
from thawline.listening import Silent
from thawline.runs import Comparison, open_run
from thawline.runs.strategies import STRATEGIES

ONLY = ("plan", "last-layer", "all-depths", "earlier-layer")


@pytest.fixture
def data(tiny_photos: Path) -> tl.Dataset:
    return tl.open_data(tiny_photos)


@pytest.fixture(scope="module")
def found(_tiny_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Four strategies; all tests read them, so none may change them."""
    folder = tmp_path_factory.mktemp("comparison") / "compared"
    return tl.compare(tl.open_data(_tiny_photos), tl.open_backbone(), folder=folder, only=ONLY)


@pytest.fixture
def folder(found: Comparison, tmp_path: Path) -> Path:
    """The folder of the four; yours to change."""
    return shutil.copytree(found.folder, tmp_path / "compared")


def test_all_were_tested_on_the_same_samples(found: Comparison) -> None:
    tested = [(one.run.folder / "predictions.csv").read_text().splitlines() for one in found.strategies]
    files = [[line.split(",")[0] for line in lines] for lines in tested]
    assert [one.name for one in found.strategies] == [name for name in STRATEGIES if name in ONLY]
    assert all(other == files[0] for other in files)


def test_each_did_what_its_name_says(found: Comparison) -> None:
    plans = {one.name: one.plan for one in found.strategies}
    assert plans["last-layer"].layer == "pooled"
    assert "," in plans["all-depths"].layer
    assert "," not in plans["earlier-layer"].layer != "pooled"
    assert plans["plan"].verdict


def test_the_object_is_the_contract(found: Comparison) -> None:
    content = found.to_json()
    assert set(content) == {"folder", "data", "verdict", "warnings", "chosen", "candidates", "baselines"}
    assert set(content["chosen"]) == {"model", "thaw", "layer", "head", "verdict"}
    for one in content["candidates"]:
        assert set(one) == {
            "name", "title", "thaw", "layer", "head", "score", "ci95", "why", "trainable", "seconds", "bytes", "test",
            "run",
        }  # fmt: skip
        assert one["test"] == open_run(Path(one["run"])).report.content["test"]
    planned = next(one for one in content["candidates"] if one["name"] == "plan")
    assert planned["why"] == "chosen"
    assert planned["score"] is not None
    written = json.loads((found.folder / "comparison.json").read_text())
    assert {key: written[key] for key in content} == json.loads(json.dumps(content))


def test_the_verdict_is_of_the_plans_choice(found: Comparison) -> None:
    plan = next(one for one in found.strategies if one.name == "plan")
    assert found.verdict.startswith("The plan chose a logistic head on the last layer: accuracy")
    assert f"{plan.accuracy.value:.3f}" in found.verdict


def test_a_notebook_shows_every_method(found: Comparison) -> None:
    assert (
        repr(found)
        == f"Comparison({str(found.folder)!r}: {', '.join(ONLY[:2])}, earlier-layer, all-depths; {found.verdict})"
    )
    html = found._repr_html_()
    assert all(one.title in html for one in found.strategies)
    assert found.verdict in html and "logistic regression on 16 x 16 pixels" in html


def test_the_page_shows_every_strategy_and_loads_nothing(found: Comparison) -> None:
    page = found.page.read_text()
    for one in found.strategies:
        assert one.title[1:] in page
    assert "Logistic regression on 16 x 16 pixels" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in page


def test_again_runs_nothing(found: Comparison, data: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thawline.runs.comparison.fit", None)
    again = tl.compare(data, tl.open_backbone(), folder=found.folder, only=ONLY)
    assert again.to_json() == found.to_json()


def test_a_strategy_that_was_not_asked_for_before_is_added(folder: Path, data: tl.Dataset, warm_cache: Path) -> None:
    more = tl.compare(data, tl.open_backbone(), folder=folder, only=("svm", "last-layer"))
    assert [one.name for one in more.strategies] == ["last-layer", "svm"]
    assert more.verdict.startswith("Highest on the test set")


def test_one_that_was_stopped_is_resumed(
    data: tl.Dataset, tmp_path: Path, warm_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(Silent):
        def progress(self, phase: str, done: int, total: int) -> None:
            if "features" not in phase and done:
                raise KeyboardInterrupt

    settings = {"folder": tmp_path / "c", "only": ("mlp-head",)}
    with pytest.raises(KeyboardInterrupt):
        tl.compare(data, tl.open_backbone(), listener=Stops(), **settings)
    assert not (tmp_path / "c" / "mlp-head").exists()
    monkeypatch.setattr("thawline.runs.comparison.fit", None)  # it is resumed, not begun again
    assert tl.compare(data, tl.open_backbone(), **settings).strategies[0].accuracy.n > 0


def test_networks_on_pixels_stand_beside_them(
    data: tl.Dataset, tmp_path: Path, warm_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thawline.training.pixel_nets.MOST_EPOCHS", 2)
    settings = {"folder": tmp_path / "c", "only": ("last-layer", "pixel-mlp", "pixel-cnn")}
    found = tl.compare(data, tl.open_backbone(), **settings)
    assert list(found.baselines)[-2:] == ["pixel-mlp", "pixel-cnn"]
    assert found.baselines["pixel-cnn"]["accuracy"]["n"] == found.strategies[0].accuracy.n
    assert "Small CNN on 32 x 32 pixels" in found.page.read_text()
    monkeypatch.setattr("thawline.runs.comparison._from_pixels", None)  # they are not trained again
    assert tl.compare(data, tl.open_backbone(), **settings).baselines == found.baselines


def test_what_is_refused(data: tl.Dataset, folder: Path, tmp_path: Path) -> None:
    backbone = tl.open_backbone()
    with pytest.raises(
        UsageError, match=r"must be among plan, last-layer.*got 'last_layer'. Did you mean 'last-layer'"
    ):
        tl.compare(data, backbone, only=("last_layer",))
    with pytest.raises(RunError, match="it is of other data, weights or settings"):
        tl.compare(data, backbone, folder=folder, only=ONLY, seed=1)
    with pytest.raises(UsageError, match="must include one that uses the model, such as last-layer; got pixel-cnn"):
        tl.compare(data, backbone, only=("pixel-cnn",))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="holds other files"):
        tl.compare(data, backbone, folder=tmp_path / "full")
    with pytest.raises(RunError, match="is a file"):
        tl.compare(data, backbone, folder=tmp_path / "full" / "letter.txt")
    (folder / "comparison.json").write_text("{")
    with pytest.raises(RunError, match=r"comparison\.json is damaged"):
        tl.compare(data, backbone, folder=folder, only=ONLY)
