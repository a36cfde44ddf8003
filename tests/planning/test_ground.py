"""One ground for a plan: deciding, forecasting and fitting see the same samples in the same sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thawline as tl
from thawline.planning import Asked, FitPlan, Ground, make_plan
from thawline.planning.fit_plan import check_plan


@pytest.fixture(scope="module")
def data() -> tl.Dataset:
    """A given split without a validation set; the classes are told apart by brightness."""
    labels = np.arange(120) % 3
    rng = np.random.default_rng(0)
    pictures = np.clip(rng.normal(labels[:, None, None, None] * 70 + 50, 30, (120, 16, 16, 3)), 0, 255).astype(np.uint8)
    opened = tl.open_data(pictures, labels, given=["train"] * 90 + ["test"] * 30)
    return replace(opened, groups=np.arange(120))


def plan_of(**settings: Any) -> FitPlan:
    return check_plan({"model": "any", **settings}, "a test")


def test_a_plan_that_trains_has_a_validation_set_and_another_has_none(data: tl.Dataset) -> None:
    trains, solves = Ground.of(data, plan_of(thaw="all")), Ground.of(data, plan_of())
    assert (len(solves.split.train), len(solves.split.val)) == (90, 0)
    assert len(trains.split.val) > 0
    assert set(trains.split.train) | set(trains.split.val) == set(solves.split.train)
    assert trains.suiting(plan_of(thaw="last:2")) is trains
    back = trains.suiting(plan_of())
    assert np.array_equal(back.split.train, solves.split.train)
    assert back.split.origin == solves.split.origin
    assert back.data is data


@pytest.mark.parametrize("thaw", ["last:2", "all"])
def test_a_fine_tuning_at_one_line_is_judged_by_a_third(data: tl.Dataset, thaw: str) -> None:
    plan = plan_of(thaw=thaw)
    ground = Ground.of(data, plan)
    held, split = ground.held_out(plan), ground.split
    assert np.array_equal(held.val, ground.field.rows[ground.field.inside(0)])
    assert len(held.val) == 30
    assert set(split.val) <= set(held.val)
    assert np.array_equal(np.union1d(held.train, held.val), np.union1d(split.train, split.val))
    assert not set(held.train) & set(held.val)
    assert (np.diff(held.train) > 0).all() and (np.diff(held.val) > 0).all()
    assert np.array_equal(held.test, split.test)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"thaw": "progressive"},
        {"thaw": "last:2", "head": "mlp"},
        {"head": "mlp"},
        {"from_scratch": True, "thaw": "all"},
    ],
    ids=["nothing thawed", "progressive", "mlp above", "mlp", "from scratch"],
)
def test_other_trainings_are_judged_by_the_validation_set(data: tl.Dataset, settings: dict[str, Any]) -> None:
    plan = plan_of(**settings)
    ground = Ground.of(data, plan)
    assert ground.held_out(plan) is ground.split


def test_what_cannot_be_dealt_is_judged_by_the_validation_set(
    data: tl.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(thaw="last:2")
    same = Ground.of(replace(data, groups=np.zeros(120, np.int64)), plan)
    assert same.held_out(plan) is same.split
    monkeypatch.setattr("thawline.planning.arms.MOST_ROWS", 89)  # of 90
    many = Ground.of(data, plan)
    assert many.held_out(plan) is many.split
    monkeypatch.setattr("thawline.planning.arms.MOST_ROWS", 90)
    assert many.held_out(plan) is not many.split


def test_fewer_samples_keep_the_set_that_they_had(data: tl.Dataset) -> None:
    whole = Ground.of(data, plan_of(thaw="all"))
    fewer = whole.fewer(60)
    again = Ground.of(data, plan_of(thaw="all", samples=60))
    assert fewer.data.digests == again.data.digests
    for part in ("train", "val", "test"):
        digests = {data.digests[row] for row in getattr(whole.split, part)}
        assert {fewer.data.digests[row] for row in getattr(fewer.split, part)} <= digests
        assert np.array_equal(getattr(fewer.split, part), getattr(again.split, part))


def test_deciding_and_fitting_stand_on_one_ground(
    data: tl.Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The data are split once for a run that trains, not once for each room that needs the split."""
    made = []
    of = Ground._of
    monkeypatch.setattr(Ground, "_of", classmethod(lambda cls, *a, **o: made.append(of(*a, **o)) or made[-1]))
    asked = Asked.of(thaw="last:2", training={"epochs": 1, "views": 0, "refit": False})
    run = tl.fit(data, asked, backbone=tl.open_backbone(input_px=32), run=tmp_path / "run")  # type: ignore[arg-type]
    assert len(made) == 1
    split = made[0].split
    assert run.report.content["n"] == {"train": len(split.train), "val": len(split.val), "test": len(split.test)}


def test_what_was_decided_by_measuring_is_fitted_without_a_validation_set(data: tl.Dataset) -> None:
    planned = make_plan(data, tl.open_backbone(input_px=32))
    assert planned.plan.thaw == "none"
    assert planned.ground is not None
    assert (len(planned.ground.split.train), len(planned.ground.split.val)) == (90, 0)
