"""Choose between arms, and say how good the choice is on samples that had no say in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.evaluation.intervals import wilson
from thawline.randomness import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.arms import Arm

FROZEN_PRICE, THAW_PRICE, PRICE_OF_ALL = 0.01, 0.015, 0.01
"""Shares of the first arm's log loss that another must save to be worth its trouble: another head; a thawed layer at
all; and, in proportion to the share of the backbone that learns, so much more."""
_BOOTSTRAPS = 400


@dataclass(frozen=True, slots=True)
class Belief:
    """What one expects of a kind of arm before it is measured: that it changes little, or that it changes much.

    Gains in log loss, as shares of the first arm's, come from one of two normal distributions. A small gain with a
    large error is then put down to chance; a large one is believed nearly whole, which one narrow normal would not do.
    """

    little: float
    """Probability that the arm changes little."""
    mean: float
    """Where it changes much: the mean gain, with many samples."""
    half_way: float
    """Samples with which half of that mean is expected: who learns from few gains less by learning more."""

    def after(self, relative: Any, error: Any, n: int) -> Any:
        """Expected gain, given a measured one and its standard error; arrays go as well.

        Args:
            n: Samples that it learned from.
        """
        mean = self.mean * n / (n + self.half_way)
        narrow = _normal(relative, 0.0, NARROW**2 + error**2) * self.little
        wide = _normal(relative, mean, WIDE**2 + error**2) * (1 - self.little)
        drawn_narrow = relative * NARROW**2 / (NARROW**2 + error**2)
        drawn_wide = (mean * error**2 + relative * WIDE**2) / (WIDE**2 + error**2)
        both = np.maximum(narrow + wide, _TINY)
        return np.where(both > _TINY, (narrow * drawn_narrow + wide * drawn_wide) / both, drawn_wide)


_TINY = 1e-300
"""Density of what neither of the two explains; then it is the wide one."""
NARROW, WIDE = 0.05, 0.25
"""Standard deviations of a gain that is little, and of one that is not."""
FROZEN = Belief(little=0.5, mean=0.10, half_way=200)
"""Of other features of the frozen model."""
THAWED = Belief(little=0.3, mean=0.25, half_way=100)
"""Of a line with half of the backbone's FLOPs above it, or more: fine-tuning of 245 to 600 pictures that starts from
the solved head took a quarter of the errors away (benchmarks/thaw_lines.md)."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What one arm has over another, on the samples that both were judged on."""

    loss: float
    """Mean log loss saved; above 0 the first arm is better."""
    loss_se: float
    """Standard error of that mean."""
    accuracy: float
    """Accuracy gained."""
    of: float
    """Mean log loss of the other arm."""
    n: int

    @property
    def relative(self) -> float:
        """``loss`` as a share of the other arm's log loss."""
        return self.loss / self.of

    @property
    def relative_se(self) -> float:
        """``loss_se`` as such a share."""
        return self.loss_se / self.of

    def at_most(self, z: float) -> float:
        """Upper end of a one-sided interval, as a share of the other arm's log loss."""
        return self.relative + z * self.relative_se

    def at_least(self, z: float) -> float:
        """Lower end of a one-sided interval of the log loss saved."""
        return self.loss - z * self.loss_se


def gain(arm: Arm, over: Arm, labels: NDArray[np.int64]) -> Gain:
    """Compare two arms sample by sample."""
    both = arm.judged & over.judged
    was = over.losses(labels, both)[both]  # a temperature for other samples, too, would favour one of the two
    saved = was - arm.losses(labels, both)[both]
    right = (arm.correct(labels) - over.correct(labels))[both]
    n = int(both.sum())
    error = float(saved.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Gain(float(saved.mean()), error, float(right.mean()), max(float(was.mean()), 1e-12), n)


def worth(arm: Arm, reference: Arm, labels: NDArray[np.int64]) -> float:
    """What an arm is believed to save of the reference's log loss, as a share of it, less the price of its trouble.

    What one believes of such arms is changed by what was measured, as Bayes has it, so that the luckiest of several on
    few samples is not taken for the best.

    Source:
        Shrinkage against the winner's curse as in Efron 2011, JASA 106:1602.
    """
    if arm is reference:
        return 0.0
    over = gain(arm, reference, labels)
    error = min(over.relative_se, _UNKNOWN)  # of a single sample
    return float(_belief(arm).after(over.relative, error, int(reference.judged.sum()))) - arm.price


_UNKNOWN = 1e3


def _belief(arm: Arm) -> Belief:
    if arm.thaw == "none":
        return FROZEN
    return replace(THAWED, mean=THAWED.mean * min(arm.thawed / 0.5, 1.0))


def _normal(x: Any, mean: Any, variance: Any) -> Any:
    """Density, but for a constant factor."""
    return np.exp(-np.square(x - mean) / (2 * variance)) / np.sqrt(variance)


def best(arms: Sequence[Arm], labels: NDArray[np.int64], reference: Arm) -> Arm:
    """The arm that is worth most; the first among equals.

    Arms that were judged on some folds only are compared on those: each with the reference, which was judged on all.
    """
    return max(arms, key=lambda arm: worth(arm, reference, labels))


@dataclass(frozen=True, slots=True)
class Honest:
    """Accuracy of the choice itself, on samples that had no say in it."""

    accuracy: float
    ci95: tuple[float, float]
    n: int


def judged_honestly(arms: Sequence[Arm], labels: NDArray[np.int64], reference: Arm, seed: int) -> Honest:
    """Estimate what choosing gives: choose on a bootstrap sample, judge on the samples outside of it, many times.

    The best of several equal arms looks better than it is; a sample that did not help to choose does not flatter.

    Args:
        arms: As the choice had them; the reference among them.
    Source:
        Tsamardinos, Greasidou and Borboudakis 2018, Machine Learning 107:1895 (BBC-CV).
    """
    n = len(labels)
    was = np.stack([reference.losses(labels, arm.judged) for arm in arms])  # (A, n), nan where one was not judged
    saved = was - np.stack([arm.losses(labels, reference.judged) for arm in arms])
    right = np.stack([arm.correct(labels) for arm in arms])
    prices, at = np.array([arm.price for arm in arms]), list(arms).index(reference)
    beliefs = [_belief(arm) for arm in arms]
    judged = np.isfinite(saved)
    was, saved = np.where(judged, was, 0.0), np.where(judged, saved, 0.0)
    rng = generator(seed, "honest")
    total, count = 0.0, 0
    for _ in range(_BOOTSTRAPS):
        weight = np.bincount(rng.integers(0, n, n), minlength=n)
        inside = judged * weight  # (A, n)
        size = np.maximum(inside.sum(axis=1), 1)
        mean = (saved * inside).sum(axis=1) / size
        error = np.sqrt((np.square(saved - mean[:, None]) * inside).sum(axis=1) / size / size)
        loss = np.maximum((was * inside).sum(axis=1) / size, 1e-12)
        worths = np.array([b.after(m, e, n) for b, m, e in zip(beliefs, mean / loss, error / loss, strict=True)])
        worths[at] = 0.0
        of_best = right[int((worths - prices).argmax())]
        outside = of_best[(weight == 0) & np.isfinite(of_best)]
        total, count = total + float(outside.sum()), count + len(outside)
    if not count:
        return Honest(math.nan, (0.0, 1.0), 0)
    accuracy, seen = total / count, int(reference.judged.sum())
    low, high = wilson(round(accuracy * seen), seen)  # the samples themselves are a draw
    return Honest(accuracy, (min(low, accuracy), max(high, accuracy)), seen)
