"""Fewer samples: the same ones every time, classes and parts in proportion, nothing on two sides."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.embedded import opened

import thawline as tl
from thawline.data import subset
from thawline.planning import Asked, make_plan
from thawline.planning.afford import Affordable, samples_within
from thawline.planning.budget import Budget
from thawline.planning.fit_plan import check_plan
from thawline.planning.ground import Ground
from thawline.planning.timing import FeaturesTimed, HeadTimed
from thawline.runs.request import DataMark


@pytest.fixture(scope="module")
def many() -> tl.Dataset:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 80, 20])
    pictures = np.clip(rng.normal(labels[:, None, None, None] * 60 + 60, 40, (400, 16, 16, 3)), 0, 255).astype(np.uint8)
    data = tl.open_data(pictures, labels)
    return replace(data, groups=np.arange(400))


def plan_of(samples: int, seed: int = 0, opened: int = 0) -> tl.FitPlan:
    return check_plan({"model": "any", "samples": samples, "seed": seed, "opened": opened}, "a test")


def sampled(data: tl.Dataset, plan: tl.FitPlan) -> tl.Dataset:
    """The samples that a plan reads."""
    return Ground.of(data, plan).data


def test_all_of_them_where_nothing_is_said(many: tl.Dataset) -> None:
    assert sampled(many, plan_of(0)) is many
    assert sampled(many, plan_of(400)) is many
    assert sampled(many, plan_of(5_000)) is many


def test_parts_and_classes_keep_their_proportions(many: tl.Dataset) -> None:
    fewer = sampled(many, plan_of(200))
    assert len(fewer) == 200
    whole, part = tl.split_data(many, validating=True), tl.split_data(fewer, validating=True)
    for name in ("train", "val", "test"):
        rows, kept = getattr(whole, name), getattr(part, name)
        assert len(kept) == pytest.approx(len(rows) / 2, abs=3)
        assert {fewer.digests[row] for row in kept} <= {many.digests[row] for row in rows}
        counts = np.bincount(many.labels[rows], minlength=3) / 2
        assert np.abs(np.bincount(fewer.labels[kept], minlength=3) - counts).max() <= 2
    assert "200 of 400 samples were read" in fewer.warnings[-1]


def test_fewer_are_among_more_and_the_seed_decides(many: tl.Dataset) -> None:
    few, more = (set(sampled(many, plan_of(n)).digests) for n in (60, 150))
    assert few < more
    assert few == set(sampled(many, plan_of(60)).digests)
    assert few != set(sampled(many, plan_of(60, seed=1)).digests)


def test_every_class_stays(many: tl.Dataset) -> None:
    fewer = sampled(many, plan_of(1))
    for part in ("train", "val", "test"):
        rows = getattr(tl.split_data(fewer, validating=True), part)
        assert set(fewer.labels[rows]) == {0, 1, 2}


def test_a_split_that_was_given_is_kept(many: tl.Dataset) -> None:
    given = np.where(np.arange(400) % 4 == 0, "test", "train")
    fewer = sampled(replace(many, given=given), plan_of(100))
    tested = {many.digests[row] for row in np.flatnonzero(given == "test")}
    assert {fewer.digests[row] for row in tl.split_data(fewer).test} <= tested


def affordable(data: tl.Dataset, backbone: tl.Backbone, budget: Budget) -> int:
    return samples_within(Ground.of(data, plan_of(0)), backbone, plan_of(0), budget).samples


def test_time_decides_how_many(many: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.05 s a picture, and heads for nothing: 8 s with 1.2 s to spare read 9/10 x 6.8 / 0.05 of them."""
    monkeypatch.setattr("thawline.planning.afford.time_features", lambda *_: FeaturesTimed(0.05 * 400, 0.05, 8, 0, 0.0))
    monkeypatch.setattr("thawline.planning.afford.time_head", lambda *_: HeadTimed(0.0, 8, 8))
    monkeypatch.setattr(Budget, "left", lambda self: self.seconds)
    backbone = opened()
    assert affordable(many, backbone, Budget(8.0)) == pytest.approx(0.9 * 6.8 / 0.05, abs=1)
    assert affordable(many, backbone, Budget(30.0)) == 0
    assert affordable(many, backbone, Budget(1.0)) == 30
    assert affordable(many, backbone, Budget(None, 10**6)) == 0
    few = subset(many, np.r_[:6, 300:306, 380:386])
    assert affordable(few, backbone, Budget(1.0)) == 0  # fewer than ten of each class


def test_a_fit_reads_no_more_than_its_plan_says(
    many: tl.Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("thawline.planning.afford.samples_within", lambda *_: Affordable(120))
    backbone = opened()
    planned = make_plan(many, backbone, Asked.of(budget=Budget(3600.0)))
    assert planned.plan.samples == 120
    run = tl.fit(many, planned, backbone=backbone, run=tmp_path / "run")
    assert sum(run.report.content["n"].values()) == 120
    assert any("120 of 400 samples were read" in warning for warning in run.report.content["warnings"])
    again = tl.fit(many, run.plan, backbone=backbone, run=tmp_path / "again")  # no budget: the same samples
    assert again.report.accuracy == run.report.accuracy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes 2, 9 and 10: as numbers they stand in another order than as words."""
    place, rng = tmp_path_factory.mktemp("numbers"), np.random.default_rng(1)
    for name, n, grey in (("2", 90, 40), ("9", 40, 125), ("10", 20, 210)):  # easily told apart: no line is tried
        (place / name).mkdir()
        for i in range(n):
            pixels = np.clip(rng.normal(grey, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / name / f"{i}.png")
    return place


def test_what_is_opened_of_all_is_what_a_plan_takes_of_all(folder: Path) -> None:
    drawn, whole = tl.open_data(folder, most=60, seed=4), tl.open_data(folder)
    taken = sampled(whole, plan_of(0, seed=4, opened=60))
    assert (len(drawn), drawn.drawn) == (60, 60)
    assert (taken.files, taken.digests, taken.classes) == (drawn.files, drawn.digests, drawn.classes)
    assert np.array_equal(taken.labels, drawn.labels)
    assert taken.warnings == drawn.warnings
    assert DataMark.of(tl.open_data(**drawn.opened or {})) == DataMark.of(drawn)  # as a run that goes on asks
    assert sampled(taken, plan_of(0, seed=4, opened=60)) is taken
    assert sampled(drawn, plan_of(0, seed=4, opened=60)) is drawn
    few = sampled(whole, plan_of(0, seed=4, opened=1))
    assert few.files == tl.open_data(folder, most=1, seed=4).files
    assert sampled(drawn, plan_of(30, seed=4, opened=60)).digests == sampled(whole, plan_of(30, 4, 60)).digests


def test_a_plan_says_how_many_were_opened_and_repeats_what_they_gave(folder: Path, tmp_path: Path) -> None:
    backbone = opened()
    drawn = tl.open_data(folder, most=60)
    planned = make_plan(drawn, backbone, Asked.of(budget=Budget(3600.0)))
    assert (planned.plan.opened, planned.plan.samples) == (60, 0)
    run = tl.fit(drawn, planned, backbone=backbone, run=tmp_path / "run")
    assert run.report.content["features"] == {"computed": 60, "reused": 0}  # those that were timed, too
    assert any("60 of 150 samples were opened" in warning for warning in run.report.content["warnings"])
    for name, data in (("path", str(folder)), ("opened", tl.open_data(folder))):
        again = tl.fit(data, run.plan, backbone=backbone, run=tmp_path / name)
        assert again.report.log_loss == run.report.log_loss
        assert again.report.content["n"] == run.report.content["n"]


def test_a_line_that_was_asked_for_is_opened_for_alike(folder: Path, tmp_path: Path) -> None:
    drawn, backbone = tl.open_data(folder, most=60), opened()
    plan = tl.plan(drawn, backbone, thaw="last:2", training={"epochs": 1, "views": 0})
    assert (plan.thaw, plan.opened) == ("last:2", 60)
    run, again = (
        tl.fit(data, plan, backbone=backbone, run=tmp_path / str(at)) for at, data in enumerate((drawn, str(folder)))
    )
    assert again.report.log_loss == run.report.log_loss  # a training, too, is repeated on the same samples


def test_how_data_are_opened_for_a_plan_or_a_budget() -> None:
    assert plan_of(0).opening() == Asked.of().opening() == Asked.of(budget=Budget(None, 10**6)).opening() == {}
    assert plan_of(20, seed=3, opened=50).opening() == {"most": 50, "seed": 3}
    asked = Asked.of(seed=5, budget=Budget(9.0)).opening()
    assert asked["seed"] == 5
    assert asked["within"] == pytest.approx((9 - 1.2) / 4, abs=0.1)
    assert Asked.of(budget=Budget(5.0, None, time.monotonic() - 9)).opening()["within"] > 0


def test_a_pace_that_changes_is_followed(many: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first pictures, reading is half as slow again as it seemed: what is read ends in time all the same."""
    clock, stored = [0.0], [0]

    def read(data: tl.Dataset, backbone: object, plan: object, order: np.ndarray, n: int) -> FeaturesTimed:
        pace = 0.02 if stored[0] == 0 else 0.03
        stored[0] += n
        clock[0] += pace * n
        return FeaturesTimed(pace * (len(data) - stored[0]), pace, 8, n, pace * n)

    monkeypatch.setattr("thawline.planning.afford.time_features", read)
    monkeypatch.setattr("thawline.planning.afford.time_head", lambda *_: HeadTimed(0.0, 8, 8))
    monkeypatch.setattr(Budget, "left", lambda self: self.seconds - clock[0])
    n, computed, took_s = samples_within(Ground.of(many, plan_of(0)), opened(), plan_of(0), Budget(8.0))
    assert (computed, took_s) == (stored[0], pytest.approx(clock[0]))
    rest = 0.03 * (n - stored[0])
    assert 64 < stored[0] <= n < 400
    assert 6 < clock[0] + rest <= 8 - 1.2  # so much is spared for the end
