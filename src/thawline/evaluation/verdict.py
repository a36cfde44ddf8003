"""One sentence: was the pre-trained model worth it?"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from thawline.errors import UsageError
from thawline.evaluation.baselines import MeasuredBaseline
from thawline.evaluation.difference import paired_difference
from thawline.records import Score, Scores


def verdict(scores: Scores, baselines: Sequence[MeasuredBaseline], labels: ArrayLike, probabilities: ArrayLike) -> str:
    """Compare the model with the best method that does without the pre-trained features.

    The best is the one with the highest test accuracy; picking it on the test set favours the baseline, never the
    model. Where a baseline on the same features stands above that one, a second clause compares with it, too.

    Args:
        scores: Of the model.
        baselines: At least one that does not use the backbone.
        labels, probabilities: (N,) and (N, C) that ``scores`` were measured on.
    Raises:
        UsageError: No baseline without the backbone.
    """
    without = [b for b in baselines if not b.uses_backbone]
    if not without:
        raise UsageError("A verdict needs a baseline that does without the pre-trained features, such as majority.")
    rival = max(without, key=_accuracy)
    gap = paired_difference(labels, probabilities, rival.probabilities)
    model = scores["accuracy"]
    sentence = (
        f"Accuracy {model.value:.3f} (95 % {_span(model)}, n={model.n}) against {_accuracy(rival):.3f} for "
        f"{rival.title}, a difference of {gap.value:+.3f} (95 % {_span(gap, signed=True)}): "
        f"the pre-trained features are {_judgement(gap)} {rival.title}"
    )
    best = max(baselines, key=_accuracy)
    if not best.uses_backbone:
        return sentence + "."
    gap = paired_difference(labels, probabilities, best.probabilities)
    return f"{sentence}; the fitted head is {_judgement(gap)} {best.title} ({_accuracy(best):.3f})."


def _accuracy(baseline: MeasuredBaseline) -> float:
    return baseline.scores["accuracy"].value


def _span(number: Score, *, signed: bool = False) -> str:
    low, high = number.ci95
    return f"{low:+.3f} to {high:+.3f}" if signed else f"{low:.3f} to {high:.3f}"


def _judgement(gap: Score) -> str:
    if gap.ci95[0] > 0:
        return "clearly better than"
    return "worse than" if gap.ci95[1] < 0 else "not distinguishable from"
