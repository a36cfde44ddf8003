"""Plans that are shortened: to what fits, and to no less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import thawline as tl
from thawline.planning.fit_plan import check_plan
from thawline.planning.shortening import LEAST_VIEWS, within_bytes, within_seconds


def plan_of(epochs: int, views: int, joint_epochs: int = 0) -> tl.FitPlan:
    stage = {"thaw": "all", "rung": "input", "epochs": epochs, "joint_epochs": joint_epochs, "views": views, "adds": []}
    return check_plan({"model": "any", "thaw": "all", "training": {}, "stages": [stage]}, "a test")


def cost(plan: tl.FitPlan) -> float:
    (stage,) = plan.stages
    assert plan.training is not None
    return 20 * stage.views + 7 * stage.epochs + 11 * stage.joint_epochs * plan.training.refit


@given(epochs=st.integers(1, 12), joint_epochs=st.integers(0, 12), views=st.integers(0, 8), left=st.floats(-10, 400))
def test_what_fits_has_as_many_epochs_as_can_be_and_then_views(
    epochs: int, joint_epochs: int, views: int, left: float
) -> None:
    plan = plan_of(epochs, min(views, epochs + joint_epochs), joint_epochs)
    short = within_seconds(plan, left, cost)
    if cost(plan) <= left:
        assert short == plan
        return
    assert short.training is not None
    (stage,) = short.stages
    before = cost(plan) - 11 * joint_epochs
    if joint_epochs and before + 11 <= left:  # epochs on all samples go first, as many as must
        assert short.training.refit
        assert stage == plan.stages[0].changed(joint_epochs=int((left - before) // 11))
        return
    assert (short.training.refit, stage.joint_epochs) == (False, 0)
    most = plan.stages[0].views
    ways = [(e, min(most, e, v)) for e in range(1, epochs + 1) for v in range(LEAST_VIEWS, max(most, LEAST_VIEWS) + 1)]
    kept = [(e, v if v == most or v >= LEAST_VIEWS else 0) for e, v in ways]
    fit = [(e, v) for e, v in kept if 20 * v + 7 * e <= left]
    if fit:
        assert (stage.epochs, stage.views) == max(fit)
    else:
        assert stage.epochs == 1


def test_epochs_on_all_samples_go_first() -> None:
    plan = plan_of(10, 4, joint_epochs=6)
    (stage,) = plan.stages
    for left, joint_epochs in ((cost(plan) - 1, 5), (cost(plan) - 60, 0)):
        short = within_seconds(plan, left, cost)
        assert short.stages == (stage.changed(joint_epochs=joint_epochs),)
        assert short.training is not None and short.training.refit == (joint_epochs > 0)
        assert cost(short) <= left


def test_a_plan_of_a_hundred_thousand_epochs_is_shortened_at_once() -> None:
    tried = []
    within_seconds(plan_of(100_000, 0, 100_000), 700.0, lambda plan: tried.append(plan) or cost(plan))
    assert len(tried) < 70


@pytest.mark.parametrize(("room", "kept"), [(10**9, 6), (4_000, 4), (1_999, 0), (0, 0)])
def test_a_small_disk_keeps_as_many_views_as_fit(room: int, kept: int) -> None:
    ladder = tl.open_backbone(input_px=32).ladder
    plan = within_bytes(plan_of(10, 6), room * 32 * 32 * 3, ladder, n=1_000)  # pixels, a byte each
    assert plan.stages[0].views == kept


def test_float32_takes_twice_the_room() -> None:
    ladder = tl.open_backbone(input_px=32).ladder
    line, plan = ladder.rungs[-2], plan_of(10, 8)
    stages = (plan.stages[0].changed(rung=line.name),)
    for precision, views in (("bf16", 8), ("f32", 4)):
        asked = plan.changed(precision=precision, stages=stages)
        assert within_bytes(asked, 8_000 * line.bytes_per_sample, ladder, n=1_000).stages[0].views == views
