"""Say in one sentence whether the pre-trained model was worth it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from thawline.errors import UsageError
from thawline.evaluation.baselines import MeasuredBaseline
from thawline.evaluation.difference import paired_difference
from thawline.naming import quoted
from thawline.records import Score, Scores

MAJORITY = "majority"
PRETRAINED, FROM_SCRATCH = "the pre-trained features are", "the architecture trained from random weights is"
"""Subjects of a verdict."""


def verdict(
    scores: Scores,
    baselines: Sequence[MeasuredBaseline],
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    subject: str = PRETRAINED,
) -> str:
    """Compare the model with the best method that does without the pre-trained features.

    The best is the one with the highest test accuracy; picking it on the test set favours the baseline, never the
    model. If a baseline on the same features is better than that one, a second clause compares with it, too.

    Args:
        scores: Of the model.
        baselines: At least one that does not use the backbone.
        labels, probabilities: (N,) and (N, C) that ``scores`` were measured on.
        subject: ``PRETRAINED`` or ``FROM_SCRATCH``.
    Raises:
        UsageError: No baseline without the backbone.
    """
    without = [b for b in baselines if not b.uses_backbone]
    if not without:
        raise UsageError("A verdict needs a baseline that does without the pre-trained features, such as majority.")
    rival = max(without, key=_accuracy)
    commonest = next((b for b in without if b.name == MAJORITY), None)
    if commonest is not None and not _learned(labels, probabilities, commonest):
        gap = paired_difference(labels, probabilities, commonest.probabilities)
        sentence = (
            "Nothing was learned: the model cannot be told from always naming the commonest class, accuracy "
            f"{scores['accuracy'].value:.3f} against {_accuracy(commonest):.3f} (difference {gap.value:+.3f}, "
            f"95 % {gap.ci95[0]:+.3f} to {gap.ci95[1]:+.3f}, n={gap.n})."
        )
        if sign(paired_difference(labels, probabilities, rival.probabilities)) < 0:
            return f"{sentence} It is worse than {rival.title} ({_accuracy(rival):.3f}), which learned something."
        return f"{sentence} Look at the labels, or bring more samples."
    gap = paired_difference(labels, probabilities, rival.probabilities)
    low, high = gap.ci95
    sentence = (
        f"{WORTH[sign(gap)]}: {subject} {JUDGEMENT[sign(gap)]} {rival.title}, accuracy "
        f"{scores['accuracy'].value:.3f} against {_accuracy(rival):.3f} (difference {gap.value:+.3f}, "
        f"95 % {low:+.3f} to {high:+.3f}, n={gap.n})."
    )
    best = max(baselines, key=_accuracy)
    if not best.uses_backbone:
        return sentence
    gap = paired_difference(labels, probabilities, best.probabilities)
    return f"{sentence} The fitted model is {JUDGEMENT[sign(gap)]} {best.title} ({_accuracy(best):.3f})."


def only_class(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> str | None:
    """Say that a model names one class for samples of several; None if it names others too.

    Args:
        labels, probabilities: (N,) and (N, C).
        classes: (C,) names.
    """
    truth, named = np.asarray(labels), np.unique(np.asarray(probabilities).argmax(axis=1))
    if len(named) != 1 or len(np.unique(truth)) < 2:
        return None
    return f"The model names {quoted(classes[int(named[0])])} for all {len(truth):,} samples and no other class."


WORTH = {1: "Worth it", 0: "Undecided", -1: "Not worth it"}
JUDGEMENT = {1: "clearly better than", 0: "not distinguishable from", -1: "worse than"}


def _learned(labels: ArrayLike, probabilities: ArrayLike, commonest: MeasuredBaseline) -> bool:
    """Say whether classes or probabilities tell more than how common the classes are, beyond chance.

    If one class is rare, predicting it may never pay; the probabilities may be useful nevertheless.
    """
    right = paired_difference(labels, probabilities, commonest.probabilities)
    loss = paired_difference(labels, probabilities, commonest.probabilities, "log_loss")
    return right.ci95[0] > 0 or loss.ci95[1] < 0


def sign(gap: Score) -> int:
    """Return 1 or -1 if the whole interval of a difference lies on one side of 0, else 0."""
    return int(gap.ci95[0] > 0) - int(gap.ci95[1] < 0)


def _accuracy(baseline: MeasuredBaseline) -> float:
    return baseline.scores["accuracy"].value
