"""Choose between arms, and say how good the choice is on samples that had no say in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.evaluation.intervals import Z_95_ONE_SIDED, cross_validated
from thawline.planning.arms import N_FOLDS
from thawline.randomness import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.arms import Arm

PRICE = 0.01
"""Share of the first arm's log loss that another must save to be worth its trouble."""
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
    n: int

    def at_least(self, z: float) -> float:
        """Lower end of a one-sided interval of the log loss saved."""
        return self.loss - z * self.loss_se


def gain(arm: Arm, over: Arm, labels: NDArray[np.int64]) -> Gain:
    """Compare two arms sample by sample."""
    both = arm.judged & over.judged
    # a temperature for other samples, too, would favour one of the two
    saved = (over.losses(labels, both) - arm.losses(labels, both))[both]
    right = (arm.correct(labels) - over.correct(labels))[both]
    n = int(both.sum())
    error = float(saved.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Gain(float(saved.mean()), error, float(right.mean()), n)


@dataclass(frozen=True, slots=True)
class Belief:
    """What is expected of a gain before it is measured, as a share of the first arm's log loss: a normal distribution.

    Source:
        Shrinkage against the winner's curse as in Efron 2011, JASA 106:1602.
    """

    mean: float
    sd: float

    def after(self, measured: float, error: float) -> float:
        """Expected gain, given a measured one and its standard error."""
        return (self.mean * error**2 + measured * self.sd**2) / (self.sd**2 + error**2)

    def density(self, measured: float, error: float) -> float:
        """Of measuring this, but for a constant factor."""
        variance = self.sd**2 + error**2
        return math.exp(max(-((measured - self.mean) ** 2) / (2 * variance), -700.0)) / math.sqrt(variance)


NOTHING, MUCH = Belief(0.0, 0.05), Belief(0.10, 0.25)
"""Other features of the frozen model: as likely as not they change next to nothing, else they may change much."""
LINE = Belief(0.15, 0.20)
"""What the line in the middle takes of what the best frozen features leave. Fine-tuning up to 600 pictures from there
took 4 to 27 % of a new head's errors away on four data sets, 17 % in the mean (benchmarks/thaw_lines.md); a part of
that would have come from earlier features alone."""
SHORT = Belief(-0.15, 0.15)
"""What a trial of a line shows less than the whole training gives: it is a third as long, on two thirds of the samples.
From the cells of benchmarks/judgement.md with 50 and 200 samples, where both were measured."""
OTHER_LINE_SD, SHORT_BOTH_SD = 0.08, 0.10
"""How much two lines differ, and how far off the difference of their trials is: these fall short in the same way."""
LESS_THAN_MIDDLE = -0.10
"""What a line nearer to the end is expected to have over the one in the middle."""


def more_than_middle(n: int) -> float:
    """What thawing everything is expected to have over the line in the middle: nothing, with 150 samples and fewer.

    With up to 600 it took another 6 % of the errors away, in the mean of four data sets (-2 to 20 %;
    benchmarks/thaw_lines.md); with 50 it made no difference, in the mean of 21 cells of benchmarks/judgement.md. It
    takes twice as long.

    Args:
        n: Samples to learn from.
    """
    return min(max(0.04 * math.log2(n / 150), -0.05), 0.10)


class Choice:
    """Arms that were judged, the first of them being what the others are compared with."""

    def __init__(self, arms: Sequence[Arm], labels: NDArray[np.int64], n_folds: int = N_FOLDS) -> None:
        """Compare them sample by sample.

        Args:
            arms: The first was judged on all samples; frozen ones come before lines, and a line before what is compared
                with it.
            labels: (n,)
            n_folds: Folds that the samples were dealt to.
        """
        self.arms, first = tuple(arms), arms[0]
        self._right = np.stack([arm.correct(labels) for arm in arms])  # (A, n), nan where one was not judged
        names = [arm.name for arm in arms]
        self._over = [names.index(arm.over) if arm.over else 0 for arm in arms]
        began = [arm.start or first for arm in arms]
        self._was = np.stack([head.losses(labels, arm.judged) for arm, head in zip(arms, began, strict=True)])
        compared = [(a, arms[over] if over else head) for a, over, head in zip(arms, self._over, began, strict=True)]
        self._saved = np.stack([b.losses(labels, a.judged) - a.losses(labels, b.judged) for a, b in compared])
        self._n, self._n_folds = len(labels), n_folds

    def worths(self, weight: NDArray[Any] | None = None) -> list[float]:
        """What each arm is believed to save, as a share of the first one's log loss, less the price of its trouble.

        What one believes of such arms is changed by what was measured, as Bayes has it, so that the luckiest of several
        on few samples is not taken for the best. Lines are believed in step by step: the one in the middle goes on from
        the best of the frozen features, as training begins where these end; the others from the one in the middle.

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
                step = more_than_middle(self._n) if arm.thaw == "all" else LESS_THAN_MIDDLE
                belief = Belief(step * (1 - base), OTHER_LINE_SD)
                believed[i] = base + belief.after(measured, math.hypot(error, SHORT_BOTH_SD))
        return [0.0, *(gained - PRICE for gained in believed[1:])]

    def best(self) -> Arm:
        """The arm that is worth most; the first among equals."""
        worths = self.worths()
        return self.arms[worths.index(max(worths))]

    def _measured(self, i: int, weight: NDArray[Any]) -> tuple[float, float]:
        """What an arm saved over the one it goes on from, as a share of the log loss of a new head; and its error."""
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
        """Estimate what choosing gives: choose on a bootstrap sample, judge on the samples outside it, many times.

        The best of several equal arms looks better than it is; a sample that did not help to choose does not flatter.

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
        interval = partial(cross_validated, accuracy, seen, of=self._n, folds=self._n_folds)
        return Honest(accuracy, interval(), interval(z=Z_95_ONE_SIDED)[0], seen)


_UNKNOWN = 1e3
"""Error of a gain that was not measured."""


def _either(measured: float, error: float) -> float:
    """Expected gain of what changes either next to nothing or much, the two being equally likely beforehand."""
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
