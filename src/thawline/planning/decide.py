"""Decide by measuring what to retrain: measure arms, choose one, write its plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from thawline.planning.afford import Affordable
from thawline.planning.budget import Budget
from thawline.planning.measuring import measure
from thawline.planning.planned import Planned
from thawline.planning.writing import write

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.ground import Ground


def decide(
    ground: Ground,
    backbone: Backbone,
    asked: FitPlan,
    planned: Callable[[str], FitPlan],
    watcher: Watcher,
    *,
    explain: bool = False,
    pairs: bool = False,
    budget: Budget | None = None,
    read: Affordable | None = None,
) -> Planned:
    """Measure, and return the plan of what came out best, with everything that was measured in it.

    The test set is never read. The verdict gives what the chosen arm reaches as an estimate that corrects for the
    choice; the run that follows measures it on the test set.

    Args:
        ground: With a validation set, should it come to training.
        asked: A plan that thaws nothing; everything but thaw, layer and head stays as it is.
        planned: From a way to the whole plan of a fit with it.
        watcher: Hears of progress.
        pairs: Try training by pairs, too, if fine-tuning is tried.
        explain: Measure size, likeness to the source and pixels also if the first head leaves nothing to decide.
        budget: What measuring and the fit that follows may take together.
        read: What was read at the last layer to find out how many samples the budget allows.
    Raises:
        DataError: All samples to learn from are one group, so that nothing can be held out.
    """
    started = time.perf_counter()
    spend, read = budget or Budget(), read or Affordable()
    found = measure(ground, backbone, asked, planned, watcher, explain=explain, pairs=pairs, budget=spend, read=read)
    choice = found.standing.choice()
    chosen, honest = choice.best(), choice.judged_honestly(asked.seed)
    plan = write(found, chosen, honest, asked, planned, spend)
    features_s = found.features.seconds
    return Planned(
        plan=plan,
        ground=ground.suiting(plan),
        budget=budget,
        computed=found.features.computed.get(plan.layer, 0),
        evidence=found.evidence,
        features_s=features_s,
        seconds=time.perf_counter() - started - (features_s - read.seconds),
        begun=found.lines.begun(plan) if found.lines and plan.trains else None,
    )
