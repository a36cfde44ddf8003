"""Say what was measured and decided, in words that a newcomer understands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.evaluation.intervals import Z_95, Z_95_ONE_SIDED
from thawline.heads.tasks import task_of
from thawline.planning.choice import Gain, Honest, gain
from thawline.records import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.arms import Arm
    from thawline.planning.scenarios import ArmKind, Scenario

LEAST_HALF = 0.4
"""A thaw line counts as half if more than this share of the backbone's FLOPs learn."""


def verdict_of(chosen: Arm, first: Arm, honest: Honest, labels: NDArray[Any]) -> str:
    """Say in one sentence what to retrain, what that reaches, and what it gains over a new head.

    Args:
        first: A new linear head on the last layer of the frozen model.
        honest: What choosing reaches on samples that had no say in it.
        labels: (n,) classes of the samples that arms were judged on; or their labels or numbers (n, C).
    """
    words = _WORDS[task_of(labels).target]
    right, interval = words.right(honest.accuracy), words.interval(honest.ci95)
    if (nothing := words.no_better_than(chosen, honest, labels)) is not None:
        return f"Nothing was learned: {right} {interval} is not clearly more than {nothing}, or bring more samples."
    if chosen is first:
        return f"Retrain only the head, on the frozen model's last layer: {right} {interval}."
    over = gain(chosen, chosen.start or first, labels)
    gained = words.gained(over.accuracy)
    more = f"{gained} over a new head on the frozen last layer (n={over.n})"
    trial = "in a short trial"
    if chosen.learned:
        trial += f" on {chosen.learned} samples"
        more = f"{gained} over a new head on the same samples (n={over.n})"
    if chosen.thaw == "none":
        return f"Retrain only the head ({chosen.name}): {right} {interval}, {more}."
    what = _what(chosen.thaw) + (", by pairs of samples" if chosen.by_pairs else "")
    if over.loss > 0:
        return f"Retrain {what}: {right} {trial} {interval}, {more}."
    return (
        f"Retrain {what}: {right} {trial} {interval}, no gain ({more}). So few samples say little about "
        "a whole training, which has nearly always gained on other data."
    )


class _ClassWords:
    """How the verdict names what the choice reaches."""

    what = "right"

    def right(self, accuracy: float) -> str:
        return f"about {100 * accuracy:.1f} % of unseen samples {self.what}"

    def interval(self, ci95: tuple[float, float]) -> str:
        return f"(95 % {100 * ci95[0]:.1f} to {100 * ci95[1]:.1f})"

    def gained(self, accuracy: float) -> str:
        return f"{100 * accuracy:+.1f} points"

    def no_better_than(self, chosen: Arm, honest: Honest, truth: NDArray[Any]) -> str | None:
        """Name what knows nothing, and what to check, if the choice is not clearly better; else None."""
        majority = float(np.bincount(truth).max() / len(truth))
        if honest.at_least > majority:
            return None
        return f"the {100 * majority:.1f} % of always naming the commonest class. Check the labels"


class _LabelsWords(_ClassWords):
    what = "with all labels right"

    def no_better_than(self, chosen: Arm, honest: Honest, truth: NDArray[Any]) -> str | None:
        return None if _tells(chosen, truth) else "what the same probabilities for every sample reach. Check the labels"


class _NumberWords(_ClassWords):
    def right(self, accuracy: float) -> str:
        return f"R2 of about {accuracy:.3f} on unseen samples"

    def interval(self, ci95: tuple[float, float]) -> str:
        return f"(95 % {ci95[0]:.3f} to {ci95[1]:.3f})"

    def gained(self, accuracy: float) -> str:
        return f"{accuracy:+.3f} of R2"

    def no_better_than(self, chosen: Arm, honest: Honest, truth: NDArray[Any]) -> str | None:
        return None if _tells(chosen, truth) else "the 0 of always saying the mean. Check the numbers"


_WORDS: dict[Target, _ClassWords] = {"class": _ClassWords(), "labels": _LabelsWords(), "number": _NumberWords()}


def _tells(chosen: Arm, truth: NDArray[Any]) -> bool:
    """Say whether an arm loses surely less than one answer for all samples, the mean of what is true."""
    task, seen = task_of(truth), chosen.judged
    constant = task.logits(np.tile(truth[seen].mean(axis=0), (int(seen.sum()), 1)))
    saved = task.row_losses(constant, truth[seen]) - chosen.losses(truth)[seen]
    return bool(saved.mean() > Z_95_ONE_SIDED * saved.std(ddof=1) / math.sqrt(len(saved))) if len(saved) > 1 else False


def untried(thaw: str) -> str:
    """Say that a line is trained without having been tried."""
    return (
        f"The budget leaves time to train {_what(thaw)} but not to try it first: it ships if it is better on the "
        "validation set."
    )


def why_not(behind: Gain, *, shown_only: bool, in_trial: bool, loss: str = "log loss") -> str:
    """Say what an arm lost by, from the gain of the chosen one over it.

    Args:
        in_trial: Whether the chosen one was measured in a trial shorter than its whole training.
        loss: What the arms lose, for people.
    """
    if behind.loss > 0:
        clearly = ", clearly" if behind.at_least(Z_95) > 0 else ""
        return f"{loss} {behind.loss:.3f} higher{clearly} (SE {behind.loss_se:.3f}, n={behind.n})"
    less = f"{loss} {-behind.loss:.3f} lower (SE {behind.loss_se:.3f}, n={behind.n})"
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
