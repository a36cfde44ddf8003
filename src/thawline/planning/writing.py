"""From what was measured to the plan: the best arm, shortened to the budget, with every candidate and reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from thawline.planning.choice import gain, of_folds
from thawline.planning.explain import against_guides, untried, verdict_of, why_not
from thawline.planning.fit_plan import Candidate
from thawline.planning.line_arms import Cost
from thawline.planning.shortening import within_bytes, within_seconds
from thawline.planning.standing import is_shippable
from thawline.planning.timing import peak_memory
from thawline.planning.ways import Way

if TYPE_CHECKING:
    from collections.abc import Callable

    from thawline.planning.arms import Arm
    from thawline.planning.budget import Budget
    from thawline.planning.choice import Honest
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.measuring import Measurements


def write(
    found: Measurements,
    chosen: Arm,
    honest: Honest,
    asked: FitPlan,
    planned: Callable[[str], FitPlan],
    budget: Budget,
) -> FitPlan:
    """Return the plan of the chosen arm, or of the line that there is time to train but not to try.

    Args:
        honest: What choosing reaches on samples that had no say in it.
        asked: A plan that thaws nothing.
        planned: From a way to the whole plan of a fit with it.
    """
    standing, labels = found.standing, found.standing.field.truth
    without_trial = found.lines.untried if found.lines else ""
    way, reasons = without_trial or chosen.way, list(found.reasons)
    thaw = Way.read(way).thaw
    plan = asked if thaw == "none" else _within_budget(planned(way), found, budget, reasons)
    verdict = verdict_of(chosen, standing.first, honest, labels)
    if without_trial:
        verdict += f" {untried(thaw)}"
    if (evidence := found.evidence) is not None:
        words = evidence.size.words, evidence.similarity.words, evidence.scenario.words
        reasons += [*words, against_guides(evidence.scenario, chosen)]
    return plan.changed(
        layer="pooled" if without_trial else chosen.layer,
        otherwise=standing.frozen.layer if thaw != "none" and budget.seconds is not None else "",
        head=chosen.head,
        verdict=verdict,
        reasons=tuple(reasons),
        candidates=tuple(_candidate(arm, chosen, found) for arm in standing.ordered()),
    )


def _within_budget(plan: FitPlan, found: Measurements, budget: Budget, reasons: list[str]) -> FitPlan:
    """Shorten a plan so that its fit keeps within the budget, and add what that leaves out to the reasons."""
    assert found.lines is not None
    if budget.bytes is not None:
        plan = within_bytes(plan, budget.bytes, found.lines.ladder, len(found.standing.field.rows))
    if plan.training is None or budget.seconds is None:
        return plan
    short = within_seconds(plan, found.lines.left(), found.lines.seconds)
    if short.training != plan.training:
        reasons.append("The budget leaves no time to go on with all samples.")
    (before,), (after,) = plan.stages, short.stages
    if after.epochs < before.epochs:
        reasons.append(f"The budget leaves time for {after.epochs} epoch{'s' if after.epochs > 1 else ''}.")
    return short


def _objective(arm: Arm) -> Literal["", "cross-entropy", "contrastive"]:
    if arm.thaw == "none":
        return ""
    return "contrastive" if arm.by_pairs else "cross-entropy"


def _candidate(arm: Arm, chosen: Arm, found: Measurements) -> Candidate:
    field = found.standing.field
    labels, judged = field.truth, arm.judged
    right, n = arm.correct(labels)[judged], int(judged.sum())
    score = float(right.sum()) / n
    behind = gain(chosen, arm, labels)
    solved = Cost(found.standing.solving_s(arm), 0, peak_memory())
    cost = found.lines.costs.get(arm.way, solved) if found.lines else solved
    why = "chosen"
    if arm is not chosen:
        why = why_not(
            behind, shown_only=not is_shippable(arm), in_trial=chosen.thaw != "none", loss=field.task.loss_name
        )
    return Candidate(
        name=arm.name,
        thaw=arm.thaw,
        objective=_objective(arm),
        layer=arm.layer,
        head=arm.head,
        score=score,
        ci95=of_folds(field.task, right, score, n, of=len(labels), folds=field.n_folds),
        log_loss=float(np.nanmean(arm.losses(labels))),
        n=n,
        behind=None if arm is chosen else (round(behind.loss, 4), round(behind.loss_se, 4)),
        seconds=round(cost.seconds, 2),
        bytes=cost.bytes,
        memory=cost.memory,
        why=why,
    )
