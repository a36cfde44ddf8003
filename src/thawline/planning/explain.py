"""Say what was measured and decided, in words that a newcomer understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thawline.evaluation.intervals import Z_95
from thawline.planning.choice import Gain, Honest, gain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.arms import Arm
    from thawline.planning.scenarios import ArmKind, Scenario

LEAST_HALF = 0.4
"""A thaw line counts as half if more than this share of the backbone's FLOPs learn."""


def verdict_of(chosen: Arm, first: Arm, honest: Honest, labels: NDArray[np.int64]) -> str:
    """Say in one sentence what to retrain, what that reaches, and what it gains over a new head.

    Args:
        first: A new linear head on the last layer of the frozen model.
        honest: What choosing reaches on samples that had no say in it.
        labels: (n,) of the samples that arms were judged on.
    """
    majority = float(np.bincount(labels).max() / len(labels))
    right = f"about {100 * honest.accuracy:.1f} % of unseen samples right"
    interval = f"(95 % {100 * honest.ci95[0]:.1f} to {100 * honest.ci95[1]:.1f})"
    if honest.at_least <= majority:
        return (
            f"Nothing was learned: {right} {interval} is not clearly more than the {100 * majority:.1f} % of always "
            "naming the commonest class. Check the labels, or bring more samples."
        )
    if chosen is first:
        return f"Retrain only the head, on the frozen model's last layer: {right} {interval}."
    over = gain(chosen, chosen.start or first, labels)
    more = f"{100 * over.accuracy:+.1f} points over a new head on the frozen last layer (n={over.n})"
    trial = "in a short trial"
    if chosen.learned:
        trial += f" on {chosen.learned} samples"
        more = f"{100 * over.accuracy:+.1f} points over a new head on the same samples (n={over.n})"
    if chosen.thaw == "none":
        return f"Retrain only the head ({chosen.name}): {right} {interval}, {more}."
    what = _what(chosen.thaw) + (", by pairs of samples" if chosen.by_pairs else "")
    if over.loss > 0:
        return f"Retrain {what}: {right} {trial} {interval}, {more}."
    return (
        f"Retrain {what}: {right} {trial} {interval}, no gain ({more}). So few samples say little about "
        "a whole training, which has nearly always gained on other data."
    )


def untried(thaw: str) -> str:
    """Say that a line is trained without having been tried."""
    return (
        f"The budget leaves time to train {_what(thaw)} but not to try it first: it ships if it is better on the "
        "validation set."
    )


def why_not(behind: Gain, *, shown_only: bool, in_trial: bool) -> str:
    """Say what an arm lost by, from the gain of the chosen one over it.

    Args:
        in_trial: Whether the chosen one was measured in a trial shorter than its whole training.
    """
    if behind.loss > 0:
        clearly = ", clearly" if behind.at_least(Z_95) > 0 else ""
        return f"log loss {behind.loss:.3f} higher{clearly} (SE {behind.loss_se:.3f}, n={behind.n})"
    less = f"log loss {-behind.loss:.3f} lower (SE {behind.loss_se:.3f}, n={behind.n})"
    if shown_only:
        return f"{less}: shown for comparison, never chosen"
    if behind.at_least(-Z_95) > 0:
        return f"{less}: chance may give as much"
    if in_trial:
        return f"{less}: a whole training is expected to gain more than its trial"
    return f"{less}: too small a gain for its trouble"


def against_guides(found: Scenario, chosen: Arm) -> str:
    """Say whether measuring agrees with what the guides would have tried."""
    same: dict[ArmKind, ArmKind] = {"thaw last half": "freeze first part", "freeze first part": "thaw last half"}
    kind = _kind(chosen)
    kinds = {kind, same.get(kind, kind)}
    if found.first_arm in kinds:
        return "Measuring agrees with what the guides try first."
    if kinds & set(found.then):
        return "Measuring prefers what the guides try next."
    return "Measuring overrules the guides here."


def _kind(arm: Arm) -> ArmKind:
    """Return what the guides would call an arm."""
    if arm.thaw == "none":
        return "last-layer linear" if arm.layer == "pooled" else "all-depth linear"
    if arm.thaw == "all":
        return "thaw all"
    return "thaw last half" if arm.thawed > LEAST_HALF else "thaw last block"


def _what(thaw: str) -> str:
    if thaw == "all":
        return "everything"
    return f"everything {thaw.replace(':', ' ')} on"
