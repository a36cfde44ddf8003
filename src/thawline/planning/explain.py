"""Say what was measured and decided, in words that a newcomer understands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.evaluation.intervals import Z_95
from thawline.planning.choice import Gain, Honest, gain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.arms import Arm
    from thawline.planning.scenarios import ArmKind, Scenario
    from thawline.planning.similarity import SimilarityReport
    from thawline.planning.size import SizeReport

LEAST_HALF = 0.4
"""Share of the backbone's FLOPs that learn from which on a thaw line is called half."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much data there is, how like the source, and what the guides make of the two."""

    size: SizeReport
    similarity: SimilarityReport
    scenario: Scenario

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values for ``--json``."""
        return {
            "size": self.size.to_json(),
            "similarity": self.similarity.to_json(),
            "scenario": self.scenario.to_json(),
        }


def verdict_of(chosen: Arm, first: Arm, honest: Honest, labels: NDArray[np.int64]) -> str:
    """One sentence: what to retrain, what it reaches, and what that is more than a new head.

    Args:
        first: A new linear head on the last layer of the frozen model.
        honest: What choosing reaches on samples that had no say in it.
        labels: (n,) of the samples that arms were judged on.
    """
    majority = float(np.bincount(labels).max() / len(labels))
    reached = (
        f"about {100 * honest.accuracy:.1f} % right on samples not seen "
        f"(95 % {100 * honest.ci95[0]:.1f} to {100 * honest.ci95[1]:.1f})"
    )
    if honest.at_least <= majority:
        return (
            "Nothing was learned that could be told from always naming the commonest class "
            f"({100 * majority:.1f} %): {reached}. Look at the labels, or bring more samples, before anything else."
        )
    if chosen is first:
        return f"Retrain nothing but the head, on the frozen model's last layer: {reached}."
    over = gain(chosen, chosen.start or first, labels)
    more = f"{100 * over.accuracy:+.1f} points over a new head on the frozen last layer, on {over.n} samples"
    trial = "in a short trial"
    if chosen.learned:
        trial += f" on {chosen.learned} samples"
        more = f"{100 * over.accuracy:+.1f} points over a new head on the same, judged by {over.n} others"
    if chosen.thaw == "none":
        return f"Retrain nothing but the head ({chosen.name}): {reached}, {more}."
    if over.loss > 0:
        return f"Retrain {_what(chosen.thaw)}: {trial} {reached}, {more}."
    return (
        f"Retrain {_what(chosen.thaw)}: {trial} {reached}. That is no gain on a new head ({more}), but so few "
        "samples say little of a whole training, and on other data it has nearly always gained."
    )


def untried(thaw: str) -> str:
    """What is added where a line is trained without having been tried."""
    return (
        f"There is no time to try more, but to train {_what(thaw)}: that ships if it is better on the validation part."
    )


def why_not(behind: Gain, *, shown_only: bool, in_trial: bool) -> str:
    """What an arm lost by, from the gain of the chosen one over it.

    Args:
        in_trial: Whether the chosen one was measured in a trial shorter than its whole training.
    """
    if behind.loss > 0:
        clearly = "clearly " if behind.at_least(Z_95) > 0 else ""
        return f"log loss {clearly}higher, by {behind.loss:.3f} (SE {behind.loss_se:.3f}, n={behind.n})"
    less = f"log loss lower by {-behind.loss:.3f} (SE {behind.loss_se:.3f}, n={behind.n})"
    if shown_only:
        return f"{less}: shown for comparison, never chosen"
    if behind.at_least(-Z_95) > 0:
        return f"{less}: no more than chance may give"
    if in_trial:
        return f"{less}: a whole training is expected to give more than the trial did"
    return f"{less}: too little for its trouble"


def against_guides(found: Scenario, chosen: Arm) -> str:
    """Whether measuring agrees with what the guides would have tried."""
    same: dict[ArmKind, ArmKind] = {"thaw last half": "freeze first part", "freeze first part": "thaw last half"}
    kind = _kind(chosen)
    kinds = {kind, same.get(kind, kind)}
    if found.first_arm in kinds:
        return "Measuring agrees with what the guides try first."
    if kinds & set(found.then):
        return "Measuring prefers what the guides try next."
    return "Measuring overrules the guides here."


def _kind(arm: Arm) -> ArmKind:
    """What the guides would call an arm."""
    if arm.thaw == "none":
        return "last-layer linear" if arm.layer == "pooled" else "all-depth linear"
    if arm.thaw == "all":
        return "thaw all"
    return "thaw last half" if arm.thawed > LEAST_HALF else "thaw last block"


def _what(thaw: str) -> str:
    if thaw == "all":
        return "everything"
    return f"everything {thaw.replace(':', ' ')} on"
