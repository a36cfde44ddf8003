"""Choose between arms, and estimate how good the choice is on samples that had no say in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.evaluation.intervals import Z_95, Z_95_ONE_SIDED, cross_validated
from thawline.heads.tasks import Task, task_of
from thawline.planning.arms import N_FOLDS
from thawline.randomness import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.arms import Arm

PRICE = 0.01
"""Another arm must save this share of the first arm's log loss to be worth its trouble."""
_BOOTSTRAPS = 400


@dataclass(frozen=True, slots=True)
class Gain:
    """Gain of one arm over another, on the samples that both were judged on."""

    loss: float
    """Mean log loss saved; above 0, the first arm is better."""
    loss_se: float
    """Standard error of that mean."""
    accuracy: float
    """Accuracy gained."""
    n: int

    def at_least(self, z: float) -> float:
        """Return the lower end of a one-sided interval of the log loss saved."""
        return self.loss - z * self.loss_se


def gain(arm: Arm, over: Arm, labels: NDArray[Any]) -> Gain:
    """Compare two arms sample by sample."""
    both = arm.judged & over.judged
    # one temperature on the common samples: a temperature fitted on more would favour one of the two
    saved = (over.losses(labels, both) - arm.losses(labels, both))[both]
    right = (arm.correct(labels) - over.correct(labels))[both]
    n = int(both.sum())
    error = float(saved.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Gain(float(saved.mean()), error, float(right.mean()), n)


@dataclass(frozen=True, slots=True)
class Belief:
    """Normal distribution of a gain before it is measured, as a share of the first arm's log loss.

    Source:
        Shrinkage against the winner's curse as in Efron 2011, JASA 106:1602.
    """

    mean: float
    sd: float

    def after(self, measured: float, error: float) -> float:
        """Return the expected gain, given a measured one and its standard error."""
        return (self.mean * error**2 + measured * self.sd**2) / (self.sd**2 + error**2)

    def density(self, measured: float, error: float) -> float:
        """Return the density of measuring this gain, but for a constant factor."""
        variance = self.sd**2 + error**2
        return math.exp(max(-((measured - self.mean) ** 2) / (2 * variance), -700.0)) / math.sqrt(variance)


NOTHING, MUCH = Belief(0.0, 0.05), Belief(0.10, 0.25)
"""Other features of the frozen model: half of them change next to nothing, half may change much."""
LINE = Belief(0.15, 0.20)
"""Share that the line in the middle saves of what the best frozen features leave. Fine-tuning up to 600 pictures from
there removed 4 to 27 % of a new head's errors on four data sets, 17 % in the mean (benchmarks/thaw_lines.md); earlier
features alone would have removed a part of that."""
SHORT = Belief(-0.15, 0.15)
"""Gain of a trial less that of the whole training, of which a trial is about the first third, on two thirds of the
samples. From the cells of benchmarks/judgement.md with 50 and 200 samples; their trials were as long, with a falling
rate, and no part of the training. No committed benchmark has measured it again since."""
EVERYTHING_SD, SHORT_BOTH_SD = 0.08, 0.10
"""Spread of the difference of two lines, and error of the difference of their trials, which fall short alike."""


def more_than_middle(n: int) -> float:
    """Return the expected gain of thawing everything over the line in the middle: none with 150 samples and fewer.

    With up to 600 samples it removed another 6 % of the errors, in the mean of four data sets (-2 to 20 %;
    benchmarks/thaw_lines.md). With 50 it made no difference, in the mean of 21 cells of benchmarks/judgement.md. It
    takes twice as long.

    Args:
        n: Samples to learn from.
    """
    return min(max(0.04 * math.log2(n / 150), -0.05), 0.10)


class Choice:
    """Arms that were judged; the others are compared with the first."""

    def __init__(self, arms: Sequence[Arm], labels: NDArray[Any], n_folds: int = N_FOLDS) -> None:
        """Compare them sample by sample.

        Args:
            arms: The first was judged on all samples. Frozen arms come before lines, and a line comes before the arms
                that are compared with it.
            labels: (n,) classes, or (n, C) labels or numbers.
            n_folds: Number of folds that the samples were dealt to.
        """
        self.arms, first = tuple(arms), arms[0]
        self._right = np.stack([arm.correct(labels) for arm in arms])  # (A, n), nan where one was not judged
        names = [arm.name for arm in arms]
        self._over = [names.index(arm.over) if arm.over else 0 for arm in arms]
        began = [arm.start or first for arm in arms]
        self._was = np.stack([head.losses(labels, arm.judged) for arm, head in zip(arms, began, strict=True)])
        compared = [(a, arms[over] if over else head) for a, over, head in zip(arms, self._over, began, strict=True)]
        self._saved = np.stack([b.losses(labels, a.judged) - a.losses(labels, b.judged) for a, b in compared])
        self._n, self._n_folds, self._task = len(labels), n_folds, task_of(labels)

    def worths(self, weight: NDArray[Any] | None = None) -> list[float]:
        """Return what each arm is believed to save, as a share of the first arm's log loss, less its price.

        Measurements update prior beliefs by Bayes' rule, so the luckiest of several arms on few samples is not taken
        for the best. The belief in the middle line builds on the best of the frozen features, where its training
        starts; the belief in everything builds on the middle line.

        Args:
            weight: (n,) how often each sample counts; by default once.
        """
        weight = np.ones(self._n) if weight is None else weight
        believed = [0.0] * len(self.arms)
        frozen = 0.0
        for i, arm in enumerate(self.arms[1:], start=1):
            measured, error = self._measured(i, weight)
            if arm.thaw == "none":
                believed[i] = _either(measured, error)
                frozen = max(frozen, believed[i])
            elif not self._over[i]:
                belief = Belief(frozen + LINE.mean * (1 - frozen), LINE.sd)
                believed[i] = belief.after(measured - SHORT.mean, math.hypot(error, SHORT.sd))
            else:
                base = believed[self._over[i]]
                belief = Belief(more_than_middle(self._n) * (1 - base), EVERYTHING_SD)
                believed[i] = base + belief.after(measured, math.hypot(error, SHORT_BOTH_SD))
        return [0.0, *(gained - PRICE for gained in believed[1:])]

    def best(self) -> Arm:
        """Return the arm that is worth most; the first among equals."""
        worths = self.worths()
        return self.arms[worths.index(max(worths))]

    def _measured(self, i: int, weight: NDArray[Any]) -> tuple[float, float]:
        """Return what an arm saved over its rival, as a share of a new head's log loss; and the standard error."""
        weight = np.where(np.isfinite(self._saved[i]), weight, 0)
        n = weight.sum()
        if n < 2:
            return 0.0, _UNKNOWN
        saved, was = np.nan_to_num(self._saved[i]), np.nan_to_num(self._was[i])
        mean = float(saved @ weight) / n
        error = math.sqrt(float(np.square(saved - mean) @ weight) / (n - 1) / n)
        loss = max(float(was @ weight) / n, 1e-12)
        return mean / loss, error / loss

    def judged_honestly(self, seed: int) -> Honest:
        """Estimate the accuracy of the choice: choose on a bootstrap sample, judge on the samples outside, many times.

        The best of several equal arms looks better than it is; samples that did not help to choose do not flatter it.

        Source:
            Tsamardinos, Greasidou and Borboudakis 2018, Machine Learning 107:1895 (BBC-CV).
        """
        rng = generator(seed, "honest")
        total, count, judged = 0.0, 0, 0
        for _ in range(_BOOTSTRAPS):
            weight = np.bincount(rng.integers(0, self._n, self._n), minlength=self._n)
            worths = self.worths(weight)
            of_best = self._right[worths.index(max(worths))]
            known = np.isfinite(of_best)
            outside = of_best[(weight == 0) & known]
            total, count, judged = total + float(outside.sum()), count + len(outside), judged + int(known.sum())
        if not count:
            return Honest(math.nan, (0.0, 1.0), 0.0, 0)
        accuracy, seen = total / count, round(judged / _BOOTSTRAPS)  # a line may have been tried on one fold only
        best = self._right[self.arms.index(self.best())]
        interval = partial(
            of_folds, self._task, best[np.isfinite(best)], accuracy, seen, of=self._n, folds=self._n_folds
        )
        return Honest(accuracy, interval(), interval(z=Z_95_ONE_SIDED)[0], seen)


def of_folds(
    task: Task, right: NDArray[np.float64], mean: float, n: int, *, of: int, folds: int, z: float = Z_95
) -> tuple[float, float]:
    """Return an interval of a mean of ``right`` (n,) measured by cross-validation; see ``cross_validated``."""
    if task.target != "number":
        return cross_validated(mean, n, of=of, folds=folds, z=z)
    low, high = task.interval(right, n / (1 + folds * n / of / (folds - 1)), z)
    shift = mean - float(right.mean())
    return low + shift, min(high + shift, 1.0)


_UNKNOWN = 1e3
"""Standard error given to a gain that was not measured."""


def _either(measured: float, error: float) -> float:
    """Return the expected gain of an arm that changes either next to nothing or much, equally likely beforehand."""
    narrow, wide = NOTHING.density(measured, error), MUCH.density(measured, error)
    return (narrow * NOTHING.after(measured, error) + wide * MUCH.after(measured, error)) / (narrow + wide)


@dataclass(frozen=True, slots=True)
class Honest:
    """Accuracy of the choice itself, on samples that had no say in it."""

    accuracy: float
    ci95: tuple[float, float]
    at_least: float
    """Lower end of a one-sided interval of 95 %."""
    n: int
