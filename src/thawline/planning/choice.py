"""Choose between arms, and say how good the choice is on samples that had no say in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.evaluation.intervals import wilson
from thawline.randomness import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.arms import Arm

FROZEN_SPREAD, THAW_SPREAD = 0.07, 0.15
"""How far other heads, and thawed layers, commonly lie from the first head in log loss, as a share of its own: the
standard deviation of what one believes before measuring. A gain seen on few samples is believed in part only."""
FROZEN_PRICE, THAW_PRICE, PRICE_OF_ALL = 0.01, 0.02, 0.02
"""Shares of the first arm's log loss that another must save to be worth its trouble: another head; a thawed layer at
all; and, in proportion to the share of the backbone that learns, so much more."""
_BOOTSTRAPS = 400


@dataclass(frozen=True, slots=True)
class Gain:
    """What one arm has over another, on the samples that both were judged on."""

    loss: float
    """Mean log loss saved; above 0 the first arm is better."""
    loss_se: float
    """Standard error of that mean."""
    accuracy: float
    """Accuracy gained."""
    relative: float
    """``loss`` as a share of the other's log loss."""
    n: int

    def at_most(self, z: float) -> float:
        """Upper end of a one-sided interval, as a share of the other arm's log loss."""
        return (self.loss + z * self.loss_se) * self.relative / self.loss if self.loss else z * self.loss_se

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
    loss = float(saved.mean())
    return Gain(loss, error, float(right.mean()), loss / max(float(was.mean()), 1e-12), n)


def worth(arm: Arm, reference: Arm, labels: NDArray[np.int64]) -> float:
    """What an arm is believed to save of the reference's log loss, as a share of it, less the price of its trouble.

    The measured gain g with standard error s is drawn towards zero as by a normal belief around it with deviation t:
    g t^2 / (t^2 + s^2). So the luckiest of several arms on few samples is not taken for the best.

    Source:
        James and Stein 1961; shrinkage against the winner's curse as in Efron 2011, JASA 106:1602.
    """
    if arm is reference:
        return 0.0
    over = gain(arm, reference, labels)
    error = over.loss_se * abs(over.relative / over.loss) if over.loss else math.inf
    return float(_believed(np.float64(over.relative), np.float64(error), _spread(arm))) - arm.price


def _spread(arm: Arm) -> float:
    return FROZEN_SPREAD if arm.thaw == "none" else THAW_SPREAD


def _believed(relative: Any, error: Any, spread: Any) -> Any:
    return relative * spread**2 / (spread**2 + error**2)


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
    prices, spreads = np.array([arm.price for arm in arms]), np.array([_spread(arm) for arm in arms])
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
        of_best = right[int((_believed(mean / loss, error / loss, spreads) - prices).argmax())]
        outside = of_best[(weight == 0) & np.isfinite(of_best)]
        total, count = total + float(outside.sum()), count + len(outside)
    if not count:
        return Honest(math.nan, (0.0, 1.0), 0)
    accuracy, seen = total / count, int(reference.judged.sum())
    low, high = wilson(round(accuracy * seen), seen)  # the samples themselves are a draw
    return Honest(accuracy, (min(low, accuracy), max(high, accuracy)), seen)
