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
"""Fewer views in the boundary cache are not worth keeping."""


def within_bytes(plan: FitPlan, most: int, ladder: Ladder, n: int) -> FitPlan:
    """Return a plan that keeps no more views in the boundary cache than fit.

    Args:
        most: Bytes that the views may take.
        n: Samples whose views are kept.
    """
    precision = precision_of(plan)
    at = {rung.name: rung.row_bytes(precision) for rung in ladder.rungs}
    stages = tuple(_with_views(stage, most // max(at[stage.rung] * n, 1)) for stage in plan.stages)
    return plan.changed(stages=stages)


def within_seconds(plan: FitPlan, left: float, cost: Callable[[FitPlan], float]) -> FitPlan:
    """Return a plan that can be done in the seconds left, or the shortest there is; the clock cuts that one short.

    Epochs on all samples go first, then views in the boundary cache, down to two, then epochs before those.

    Args:
        plan: With one stage.
        cost: From a plan to the seconds that it takes.
    """
    assert plan.training is not None
    if cost(plan) <= left:
        return plan
    (stage,) = plan.stages

    def of(joint_epochs: int) -> FitPlan:
        return plan.changed(stages=(stage.changed(joint_epochs=joint_epochs),))

    # the more epochs or views, the longer it takes
    if joint := bisect_left(range(1, stage.joint_epochs + 1), True, key=lambda n: cost(of(n)) > left):
        return of(joint)
    plan = plan.changed(training=plan.training.changed(refit=False))

    def shorter(epochs: int, views: int) -> FitPlan:
        short = _with_views(stage.changed(epochs=epochs, joint_epochs=0), min(views, epochs))
        return plan.changed(stages=(short,))

    of_epochs = bisect_left(range(1, stage.epochs + 1), True, key=lambda n: cost(shorter(n, LEAST_VIEWS)) > left)
    epochs = max(of_epochs, 1)
    views = bisect_left(range(1, stage.views + 1), True, key=lambda n: cost(shorter(epochs, n)) > left)
    return shorter(epochs, max(views, LEAST_VIEWS))


def _with_views(stage: StagePlan, most: int) -> StagePlan:
    """Return a stage that keeps no more views than that, or none if so few are not worth keeping."""
    if stage.views <= most:
        return stage
    return stage.changed(views=most if most >= LEAST_VIEWS else 0)
