"""Budgets: read as people write them, and kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.embedded import opened
from tests.noisy_digits import noisy_digits

import thawline as tl
from thawline.backbones.lines import depth_rungs
from thawline.errors import UsageError
from thawline.planning import Asked, Ground, make_plan
from thawline.planning.arms import Arm
from thawline.planning.budget import Budget, parse_budget
from thawline.planning.timing import Paces, training_s
from thawline.planning.trials import Trials

pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.mark.parametrize(
    ("text", "seconds", "size"),
    [
        ("90s", 90, None),
        ("10min", 600, None),
        ("1.5 h", 5400, None),
        ("2GB", None, 2_000_000_000),
        ("500mb, 3 min", 180, 500_000_000),
    ],
)
def test_what_can_be_written(text: str, seconds: float | None, size: int | None) -> None:
    budget = parse_budget(text)
    assert (budget.seconds, budget.bytes) == (seconds, size)


@pytest.mark.parametrize("text", ["", "10", "min", "10 parsecs", "10min, 5min", "-3s", "1GB,2GB", "0.5s", "10min 2GB"])
def test_what_cannot(text: str) -> None:
    with pytest.raises(UsageError, match="--budget must"):
        parse_budget(text)


def test_what_is_left_runs_out() -> None:
    assert Budget().left() == math.inf
    assert 8 < Budget(10, None, time.monotonic() - 1).left() < 9.01
    assert Budget(10, None, time.monotonic() - 11).left() < 0


@pytest.fixture(scope="module")
def hard() -> tl.Dataset:
    """Digits with labels of which a third was drawn anew."""
    return noisy_digits(200, 40, 0.3)


def test_without_time_the_first_head_is_the_plan(hard: tl.Dataset) -> None:
    planned = make_plan(hard, opened(), Asked.of(budget=Budget(1.0, None, time.monotonic() - 1)))
    assert [one.name for one in planned.plan.candidates] == ["last layer, logistic"]
    assert "The budget leaves no time to try other ways." in planned.plan.reasons


def paces_of(data: tl.Dataset, seconds: float) -> Paces:
    """Such that the first part of a training, which its trial is, takes so long."""
    plan = tl.plan(data, opened(), thaw="from:layer1.1")
    held, (stage,) = Ground.of(data, plan).held_out(plan), plan.stages
    assert plan.training is not None
    steps = training_s(stage.epochs, Paces(0.0, 1.0, 0.0), len(held.train), len(held.val), plan.training)
    return Paces(0.0, seconds / steps, 0.0)


def test_a_trial_that_takes_too_much_is_given_up(hard: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    paces = paces_of(hard, 2_000)
    monkeypatch.setattr("thawline.planning.trials.time_stage", lambda *_: paces)
    planned = make_plan(hard, opened(), Asked.of(budget=parse_budget("10min")))
    assert planned.plan.thaw == "none"
    assert any(reason.startswith("The budget leaves no time to try thaw from:") for reason in planned.plan.reasons)
    assert len(planned.plan.candidates) > 4


def test_a_line_that_cannot_be_trained_whole_is_trained_for_what_is_left(
    hard: tl.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer epochs, and no more views than these show."""
    backbone = opened()
    monkeypatch.setattr(Trials, "judge", _sure)
    monkeypatch.setattr(Trials, "cost", lambda *_: (1e5, 0))
    whole = make_plan(hard, backbone).plan
    short = make_plan(hard, backbone, Asked.of(budget=Budget(seconds=5e3))).plan
    assert short.thaw == whole.thaw != "none"
    assert short.training is not None and not short.training.refit
    (long_stage,), (stage,) = whole.stages, short.stages
    assert 1 <= stage.epochs < long_stage.views
    assert stage.views <= stage.epochs
    assert any(reason.startswith("The budget leaves time for") for reason in short.reasons)


def _sure(self: Trials, setting: str, folds: range, before: Arm | None = None, *, over: str = "") -> Arm:
    """A trial that gets everything right, but for thawing everything."""
    logits = np.log(np.eye(3)[self.ground.field.labels] * (0.9 if setting != "all" else 0.5) + 0.1 / 3)
    return Arm(name=setting, thaw=setting, layer="pooled", head="logistic", logits=logits, seconds=1.0)


TICK_S = 0.05


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Goes on whenever training looks at it, and only then: however slow the machine is, as much fits in."""
    ticks = count()

    def now() -> float:
        return TICK_S * next(ticks)

    for module in ("loop", "stages"):
        monkeypatch.setattr(f"thawline.training.{module}.time", SimpleNamespace(monotonic=now))
    return now


def _ends_in(seconds: float, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float] = time.monotonic) -> None:
    monkeypatch.setattr("thawline.runs.measure._ends_at", lambda *_, **__: clock() + seconds)


def test_training_follows_the_clock(
    hard: tl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]
) -> None:
    """10,000 epochs cannot be had in five seconds: the rate falls to zero by the clock, and the receipt is clean."""
    _ends_in(5.0, monkeypatch, clock)
    backbone = opened()
    plan = tl.plan(hard, backbone, thaw="last:2", training={"epochs": 10_000, "views": 0})
    run = tl.fit(hard, plan, backbone=backbone, run=tmp_path / "run")
    assert run.report.content["receipt"] == "clean"
    trained = [stage for stage in run.report.content["stages"] if "epochs" in stage["details"]]
    assert len(trained) >= 1
    for stage in trained:
        assert 0 < stage["details"]["epochs"] < 10_000
    assert sum(stage["seconds"] for stage in trained) == pytest.approx(5.0, abs=0.5)


def test_a_training_cut_short_that_harmed_is_rolled_back(
    hard: tl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]
) -> None:
    _ends_in(4.0, monkeypatch, clock)
    backbone = opened()
    plan = tl.plan(hard, backbone, thaw="last:2", training={"epochs": 10_000, "views": 0, "lr": 1.0})
    run = tl.fit(hard, plan, backbone=backbone, run=tmp_path / "run")
    assert run.report.content["thawed"] == "none"
    assert [stage["details"]["kept"] for stage in run.report.content["stages"] if "epochs" in stage["details"]] == [
        False
    ]
    _ends_in(-1.0, monkeypatch, clock)
    untrained = tl.fit(hard, plan, backbone=backbone, run=tmp_path / "untrained")
    assert run.report.log_loss == untrained.report.log_loss


def test_without_time_to_train_the_solved_head_ships(
    hard: tl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ends_in(-1.0, monkeypatch)
    backbone = opened()
    run = tl.fit(hard, tl.plan(hard, backbone, thaw="last:2"), backbone=backbone, run=tmp_path / "run")
    assert run.report.content["thawed"] == "none"
    plain = tl.fit(hard, tl.plan(hard, backbone, thaw="none"), backbone=backbone, run=tmp_path / "plain")
    assert run.report.accuracy.n == plain.report.accuracy.n
    assert run.bundle.head.kind == "logistic"


def test_a_training_cut_short_gives_way_to_the_best_frozen_head(
    hard: tl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the head that it started from, where one at all depths is known to be better."""
    _ends_in(-1.0, monkeypatch)
    backbone = opened()
    depths = ",".join(depth_rungs(backbone.ladder))
    plan = tl.plan(hard, backbone, thaw="last:2", otherwise=depths)
    run = tl.fit(hard, plan, backbone=backbone, run=tmp_path / "run")
    assert run.report.content["thawed"] == "none"
    assert run.bundle.layer == depths
    remark = "thaw last:2 in the time that the budget left did not beat"
    assert any(remark in said for said in run.report.content["warnings"])
    at_depths = tl.fit(hard, tl.plan(hard, backbone, layer=depths), backbone=backbone, run=tmp_path / "depths")
    # both have learned from the same samples, divided into train and val in the one only
    assert run.report.log_loss.value == pytest.approx(at_depths.report.log_loss.value, rel=1e-6)


@pytest.mark.parametrize(("enough", "kept"), [(10, "none"), (1_000, "last:2")])
def test_a_whole_training_gives_way_where_enough_samples_tell(
    hard: tl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: int, kept: str
) -> None:
    monkeypatch.setattr("thawline.runs.measure.ENOUGH_TO_TELL", enough)
    backbone = opened()
    ruin = {"epochs": 2, "views": 0, "lr": 1.0, "refit": False}
    plan = tl.plan(hard, backbone, thaw="last:2", otherwise="pooled", training=ruin)
    run = tl.fit(hard, plan, backbone=backbone, run=tmp_path / "run")
    assert run.report.content["thawed"] == kept
    assert any("did not beat" in said for said in run.report.content["warnings"]) == (kept == "none")


@pytest.mark.slow
def test_a_training_ships_where_it_beats_the_best_frozen_head(
    hard: tl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thawline.runs.measure.ENOUGH_TO_TELL", 10)
    backbone = opened()
    start = backbone.ladder.rungs[1].name  # what a head can read there is worse than what training makes of it
    plan = tl.plan(hard, backbone, thaw="last:2", otherwise=start, training={"epochs": 10})
    run = tl.fit(hard, plan, backbone=backbone, run=tmp_path / "run")
    assert run.report.content["thawed"] == "last:2"
    assert run.bundle.layer == "pooled"


def test_with_a_budget_the_plan_names_the_head_that_ships_otherwise(
    hard: tl.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trials, "judge", _sure)
    backbone = opened()
    plan = make_plan(hard, backbone, Asked.of(budget=Budget(seconds=5e3))).plan
    frozen = [one for one in plan.candidates if one.thaw == "none" and one.head == "logistic"]
    assert plan.thaw != "none"
    assert plan.otherwise == frozen[0].layer  # candidates are ordered, best first
    assert make_plan(hard, backbone).plan.otherwise == ""


@pytest.mark.parametrize(("seconds", "trained"), [(450.0, True), (2_000.0, False)])
def test_a_line_with_no_time_to_be_tried_is_trained_where_there_is_time_for_that(
    hard: tl.Dataset, monkeypatch: pytest.MonkeyPatch, seconds: float, trained: bool
) -> None:
    """A trial of 450 s of ten minutes would not leave time for half of what follows it."""
    paces = paces_of(hard, seconds)
    monkeypatch.setattr("thawline.planning.trials.time_stage", lambda *_: paces)
    plan = make_plan(hard, opened(), Asked.of(budget=parse_budget("10min"))).plan
    assert (plan.thaw != "none") == trained
    assert ("The budget leaves time to train" in plan.verdict) == trained
    if trained:
        frozen = [one for one in plan.candidates if one.head == "logistic" and one.layer != "pixels"]
        assert {one.thaw for one in frozen} == {"none"}
        assert (plan.layer, plan.otherwise) == ("pooled", next(one.layer for one in frozen if one.behind is None))
        (stage,), (whole,) = plan.stages, tl.plan(hard, opened(), thaw=plan.thaw).stages
        assert stage.epochs == whole.epochs and stage.joint_epochs < whole.joint_epochs


@pytest.mark.slow
def test_a_small_disk_keeps_fewer_views(hard: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trials, "judge", _sure)
    backbone = opened()
    plans = [
        make_plan(hard, backbone, Asked.of(budget=budget)).plan
        for budget in (None, Budget(bytes=10**6), Budget(bytes=10))
    ]
    assert len({plan.thaw for plan in plans}) == 1
    views = [plan.stages[0].views for plan in plans]
    assert views[0] > views[1] >= views[2] == 0
