"""Runs and comparisons beside the networks of the guides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import thawline as tl
from thawline.data.digits import open_digits
from thawline.errors import UsageError
from thawline.listening import Silent
from thawline.planning import Asked, Ground
from thawline.runs.guides import guide_baselines
from thawline.training import guide_nets


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide_nets, "WIDTHS", (50, 50, 50))
    monkeypatch.setattr(guide_nets, "MOST_EPOCHS", 12)


def test_a_run_reports_them_and_weighs_them_in_its_verdict(tmp_path: Path) -> None:
    asked = Asked.of(thaw="none", baselines=("guides",))
    run = tl.fit(open_digits(20), asked, run=tmp_path / "run")
    metrics = run.report.content["baselines"]
    assert {"guide-mlp", "guide-cnn"} < metrics.keys()
    for name in ("guide-mlp", "guide-cnn"):
        assert metrics[name]["accuracy"]["n"] == 600
        assert metrics[name]["accuracy"]["ci95"][0] > 0.15  # chance is 0.1
    best = max((name for name in metrics if name != "knn"), key=lambda name: metrics[name]["accuracy"]["value"])
    assert f"against {metrics[best]['accuracy']['value']:.3f}" in run.report.verdict
    page = run.report_path.read_text("utf-8")
    assert "hree-layer MLP on the pixels, 8 x 8" in page
    assert run.plan.baselines == ("guides",)


def test_what_is_finished_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, backbone = open_digits(5), tl.open_backbone()
    plan = tl.plan(data, backbone, thaw="none", baselines=("guides",))
    ground = Ground.of(data, plan)
    measured, missing = guide_baselines(ground.data, ground.split, plan, tmp_path, Silent())
    assert missing == ()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["guide-cnn.npy", "guide-mlp.npy"]
    monkeypatch.setattr(guide_nets, "fit_guide", None)
    again, _ = guide_baselines(ground.data, ground.split, plan, tmp_path, Silent())
    assert [one.name for one in again] == ["guide-mlp", "guide-cnn"]
    for one, other in zip(measured, again, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)


def test_a_budget_that_is_used_up_says_so(tmp_path: Path) -> None:
    data, backbone = open_digits(5), tl.open_backbone()
    plan = tl.plan(data, backbone, thaw="none", baselines=("guides",))
    ground = Ground.of(data, plan)
    measured, missing = guide_baselines(ground.data, ground.split, plan, tmp_path, Silent(), ends_at=0.0)
    assert measured == ()
    assert missing == (
        "The budget left no time to train these baselines: three-layer MLP on the pixels, CNN of three blocks on the "
        "pixels.",
    )


@pytest.mark.slow
def test_a_comparison_trains_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, backbone = open_digits(5), tl.open_backbone()
    found = tl.compare(data, backbone, folder=tmp_path / "all", only=["last-layer"], baselines=["guides"])
    assert {"guide-mlp", "guide-cnn"} < found.baselines.keys()
    assert "CNN of three blocks on the pixels" in found.page.read_text("utf-8")
    monkeypatch.setattr(guide_nets, "fit_guide", None)
    again = tl.compare(data, backbone, folder=tmp_path / "all", only=["last-layer"], baselines=["guides"])
    assert again.baselines == found.baselines
    assert [path.name for path in (tmp_path / "all").iterdir() if path.name.startswith(".")] == []
    assert json.loads((tmp_path / "all" / "comparison.json").read_text("utf-8"))["baselines"].keys() >= {"guide-mlp"}


def test_there_are_no_other_baselines_to_ask_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"baselines.0: Input should be 'guides', got 'guide'"):
        Asked.of(baselines=("guide",))
    with pytest.raises(UsageError, match="baselines"):
        tl.compare(open_digits(5), tl.open_backbone(), folder=tmp_path / "all", only=["svm"], baselines=["guide"])
    assert not (tmp_path / "all").exists()
