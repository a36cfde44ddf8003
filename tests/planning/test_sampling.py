"""Fewer samples: the same ones every time, classes and parts in proportion, nothing on two sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import thawline as tl
from thawline.planning import make_plan
from thawline.planning.afford import samples_within
from thawline.planning.budget import Budget
from thawline.planning.fit_plan import check_plan
from thawline.planning.sampling import sampled


@pytest.fixture(scope="module")
def many() -> tl.Dataset:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 80, 20])
    pictures = np.clip(rng.normal(labels[:, None, None, None] * 60 + 60, 40, (400, 16, 16, 3)), 0, 255).astype(np.uint8)
    data = tl.open_data(pictures, labels)
    return replace(data, groups=np.arange(400))


def plan_of(samples: int, seed: int = 0) -> tl.FitPlan:
    return check_plan({"model": "any", "samples": samples, "seed": seed}, "a test")


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


def test_time_decides_how_many(many: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.05 s a picture, and heads for nothing: 8 s with 1 s to spare read 9/10 x 7 / 0.05 of them."""
    monkeypatch.setattr("thawline.planning.afford.time_features", lambda *_: (0.05 * 400, 0.05, 8))
    monkeypatch.setattr("thawline.planning.afford.head_seconds", lambda *_: 0.0)
    monkeypatch.setattr(Budget, "left", lambda self: self.seconds)
    backbone = tl.open_backbone(input_px=32)
    assert samples_within(many, backbone, plan_of(0), Budget(8.0)) == pytest.approx(0.9 * 7.0 / 0.05, abs=1)
    assert samples_within(many, backbone, plan_of(0), Budget(30.0)) == 0
    assert samples_within(many, backbone, plan_of(0), Budget(1.0)) == 30
    assert samples_within(many, backbone, plan_of(0), Budget(None, 10**6)) == 0


def test_a_fit_reads_no_more_than_its_plan_says(
    many: tl.Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("thawline.planning.afford.samples_within", lambda *_: 120)
    backbone = tl.open_backbone(input_px=32)
    planned = make_plan(many, backbone, budget=Budget(3600.0))
    assert planned.plan.samples == 120
    run = tl.fit(many, planned, backbone=backbone, run=tmp_path / "run")
    assert sum(run.report.content["n"].values()) == 120
    assert any("120 of 400 samples were read" in warning for warning in run.report.content["warnings"])
    again = tl.fit(many, run.plan, backbone=backbone, run=tmp_path / "again")  # no budget: the same samples
    assert again.report.accuracy == run.report.accuracy
