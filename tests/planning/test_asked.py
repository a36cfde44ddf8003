"""What is asked of a plan: typed, checked together, and read back from the draft of a run that was stopped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from thawline.errors import UsageError
from thawline.planning import Asked, FitPlan
from thawline.planning.budget import Budget
from thawline.training.settings import StagePlan, TrainPlan


def test_every_problem_is_listed_at_once() -> None:
    problems = r"head: .*got 'forest'; sede: no such setting. Did you mean 'seed'.*"
    with pytest.raises(UsageError, match=problems):
        Asked.of(head="forest", sede=1)
    with pytest.raises(
        UsageError, match=r"seed: .*training.lr: .*got 11; training.epoch: no such .* Did you mean 'epochs'"
    ):
        Asked.of(seed=-1, training={"lr": 11, "epoch": 3})


def test_what_was_not_asked_is_left_to_the_plan() -> None:
    asked = Asked.of(seed=3, training={"lr": 0.1})
    assert (asked.settings, asked.training.model_dump(exclude_unset=True)) == ({"seed": 3}, {"lr": 0.1})
    assert Asked.of().settings == {}
    assert [Asked.of(thaw=thaw).thaw for thaw in (None, "", " auto ", "last:2")] == ["auto", "auto", "auto", "last:2"]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {
            "thaw": "last:2",
            "hidden": (),
            "fractions": (0.5, 0.25, 0.25),
            "training": {"epochs": 2, "crop_scale": (0.5, 1.0)},
        },
        {"head": "mlp", "hidden": (64, 8), "dropout": 0.5, "budget": Budget(90.0, 10**9)},
    ],
)
def test_it_survives_the_draft_of_a_run(asked: dict[str, Any]) -> None:
    before = Asked.of(**asked)
    after = Asked.from_json(json.loads(json.dumps(before.to_json())))
    assert (after.settings, after.training, after.thaw) == (before.settings, before.training, before.thaw)
    assert after.training.model_fields_set == before.training.model_fields_set
    if before.budget is None:
        assert after.budget is None
    else:
        assert after.budget is not None
        assert (after.budget.seconds, after.budget.bytes) == (before.budget.seconds, before.budget.bytes)


def test_a_draft_of_version_0_1_is_read() -> None:
    """As `thawline fit` wrote it before what is asked had types."""
    written = {
        "settings": {
            "thaw": "auto", "from_scratch": False, "head": "logistic", "hidden": [], "dropout": 0.0,
            "layer": "pooled", "fractions": [0.7, 0.15, 0.15], "seed": 7, "engine": "auto", "precision": "auto",
            "device": "auto",
        },
        "training": {"lr": 0.001, "epochs": 3},
        "budget": [600.0, None],
    }  # fmt: skip
    asked = Asked.from_json(written)
    assert asked.to_json() == written


def test_a_change_is_checked_again_and_leaves_open_what_was_open() -> None:
    plan = FitPlan.model_validate({"model": "embedded/x", "thaw": "last:2", "training": {"lr": 0.1}})
    assert plan.training is not None
    changed = plan.changed(training=plan.training.changed(refit=False), seed=4)
    assert changed.training == TrainPlan.model_validate({"lr": 0.1, "refit": False})
    assert changed.training.model_fields_set == {"lr", "refit"}
    assert (changed.model, changed.thaw, changed.seed) == ("embedded/x", "last:2", 4)
    with pytest.raises(ValidationError, match="hidden and dropout must come with head mlp"):
        plan.changed(dropout=0.5)
    stage = StagePlan(thaw="all", rung="input", epochs=3, views=0, adds=("a",))
    with pytest.raises(ValidationError, match="epochs"):
        stage.changed(epochs=0)
