"""Shorten a plan until its fit keeps within a budget of seconds, or of bytes on the disk."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING

from thawline.planning.asking import precision_of

if TYPE_CHECKING:
    from thawline.backbones.ladder import Ladder
    from thawline.planning.fit_plan import FitPlan
    from thawline.training.settings import StagePlan

LEAST_VIEWS = 2
"""Fewer in the boundary cache are not worth keeping."""


def within_bytes(plan: FitPlan, most: int, ladder: Ladder, n: int) -> FitPlan:
    """A plan that keeps no more views in the boundary cache than fit.

    Args:
        most: Bytes that they may take.
        n: Samples whose views are kept.
    """
    precision = precision_of(plan)
    at = {rung.name: rung.row_bytes(precision) for rung in ladder.rungs}
    stages = tuple(_with_views(stage, most // max(at[stage.rung] * n, 1)) for stage in plan.stages)
    return plan.model_copy(update={"stages": stages})


def within_seconds(plan: FitPlan, left: float, cost: Callable[[FitPlan], float]) -> FitPlan:
    """A plan that can be done in the seconds left, or the shortest there is; what the clock still finds too long, it
    cuts short.

    Training again on the validation part goes first; then views in the boundary cache, down to two; then epochs.

    Args:
        plan: With one stage.
        cost: Seconds that a plan takes.
    """
    assert plan.training is not None
    if cost(plan) <= left:
        return plan
    plan = plan.model_copy(update={"training": plan.training.model_copy(update={"refit": False})})
    (stage,) = plan.stages

    def of(epochs: int, views: int) -> FitPlan:
        shorter = _with_views(stage.model_copy(update={"epochs": epochs}), min(views, epochs))
        return plan.model_copy(update={"stages": (shorter,)})

    # the more epochs or views, the longer it takes
    epochs = max(bisect_left(range(1, stage.epochs + 1), True, key=lambda n: cost(of(n, LEAST_VIEWS)) > left), 1)
    views = max(bisect_left(range(1, stage.views + 1), True, key=lambda n: cost(of(epochs, n)) > left), LEAST_VIEWS)
    return of(epochs, views)


def _with_views(stage: StagePlan, most: int) -> StagePlan:
    """A stage that keeps no more views than that; none where so few are left that they are not worth keeping."""
    if stage.views <= most:
        return stage
    return stage.model_copy(update={"views": most if most >= LEAST_VIEWS else 0})
