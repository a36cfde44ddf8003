"""How each target is scored, compared with simpler methods, and put into words: one object for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from thawline.evaluation.baselines import MeasuredBaseline, baselines
from thawline.evaluation.intervals import percentile_interval
from thawline.evaluation.label_scores import EVEN, Counts, clipped_losses, score_labels, weights
from thawline.evaluation.number_scores import r2, score_numbers
from thawline.evaluation.scoring import score
from thawline.evaluation.verdict import JUDGEMENT, PRETRAINED, WORTH, only_class, sign, verdict
from thawline.heads import fit_head
from thawline.heads.knn import mean_of_neighbours
from thawline.inputs.simple import Simple
from thawline.records import Score, Scores, Target

Floats = NDArray[np.float64]
_BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What simpler methods learn from, or are asked about."""

    features: NDArray[np.float32] | None
    """(N, D) of the pre-trained backbone; None without one."""
    simple: Any
    """(N, d), what the kind of input offers without a backbone; may be sparse."""
    truth: NDArray[Any]


class Evaluator(Protocol):
    """Scores one target."""

    target: ClassVar[Target]
    headline: ClassVar[str]
    """The metric that methods are compared by."""

    def score(
        self, truth: NDArray[Any], outputs: Floats, *, seed: int = 0, thresholds: Floats | None = None
    ) -> Scores: ...

    def baselines(
        self, train: Rows, test: Rows, n: int, *, simple: Simple, seed: int, groups: NDArray[np.int64] | None
    ) -> tuple[MeasuredBaseline, ...]:
        """Measure simpler methods on the same split; the arguments are those of ``evaluation.baselines``."""
        ...

    def verdict(
        self,
        scores: Scores,
        simpler: Sequence[MeasuredBaseline],
        truth: NDArray[Any],
        outputs: Floats,
        names: Sequence[str],
        *,
        subject: str = PRETRAINED,
    ) -> str:
        """Say in words whether the model was worth it, and what is odd about its answers."""
        ...


class ClassEvaluator:
    """One class for each sample."""

    target: ClassVar[Target] = "class"
    headline: ClassVar[str] = "accuracy"

    def score(self, truth: NDArray[Any], outputs: Floats, *, seed: int = 0, thresholds: Floats | None = None) -> Scores:
        return score(truth, outputs, outputs.shape[1], seed=seed)

    def baselines(
        self, train: Rows, test: Rows, n: int, *, simple: Simple, seed: int, groups: NDArray[np.int64] | None
    ) -> tuple[MeasuredBaseline, ...]:
        return baselines(
            train.features, train.simple, train.truth, test.features, test.simple, test.truth, n,
            simple=simple, seed=seed, groups=groups,
        )  # fmt: skip

    def verdict(
        self,
        scores: Scores,
        simpler: Sequence[MeasuredBaseline],
        truth: NDArray[Any],
        outputs: Floats,
        names: Sequence[str],
        *,
        subject: str = PRETRAINED,
    ) -> str:
        judged = verdict(scores, simpler, truth, outputs, subject=subject)
        only = only_class(truth, outputs, names)
        return judged if only is None else f"{judged} {only}"


class _Compared:
    """What labels and numbers share: methods are compared by the headline, in paired resamples of the samples."""

    headline: ClassVar[str]
    title: ClassVar[str]
    words: ClassVar[str]
    """What is predicted, for people."""
    constant: ClassVar[str]
    """Name of the baseline that looks at no sample."""
    constantly: ClassVar[str]

    def value(self, truth: NDArray[Any], outputs: Floats, weight: Floats) -> Floats:
        """Return the headline (B,) of samples that count by weights (B, N)."""
        raise NotImplementedError

    def told(self, truth: NDArray[Any], outputs: Floats) -> Floats:
        """Return (N,) what each sample loses, by which anything learned is told from nothing."""
        raise NotImplementedError

    def difference(self, truth: NDArray[Any], a: Floats, b: Floats, seed: int = 0) -> Score:
        """Return the headline of a less that of b, with a percentile interval over paired resamples."""
        n, ones = len(truth), np.ones((1, len(truth)))
        value = float((self.value(truth, a, ones) - self.value(truth, b, ones))[0])
        drawn = [self.value(truth, a, w) - self.value(truth, b, w) for w in weights(n, seed, _BOOTSTRAPS)]
        return Score(f"{self.headline}_difference", value, percentile_interval(np.concatenate(drawn), value), n)

    def learned(self, truth: NDArray[Any], outputs: Floats, constant: Floats, seed: int = 0) -> bool:
        """Say whether the outputs lose surely less than those of a method that looks at no sample."""
        saved = self.told(truth, constant) - self.told(truth, outputs)
        drawn = [w @ saved / len(saved) for w in weights(len(saved), seed, _BOOTSTRAPS)]
        return percentile_interval(np.concatenate(drawn), float(saved.mean()))[0] > 0

    def verdict(
        self,
        scores: Scores,
        simpler: Sequence[MeasuredBaseline],
        truth: NDArray[Any],
        outputs: Floats,
        names: Sequence[str],
        *,
        subject: str = PRETRAINED,
    ) -> str:
        without = [b for b in simpler if not b.uses_backbone]
        rival, reached = max(without, key=_main), scores.main.value
        constant = next((b for b in without if b.name == self.constant), None)
        if constant is not None and not self.learned(truth, outputs, constant.probabilities):
            return (
                f"Nothing was learned: the model cannot be told from {self.constantly}, {self.title} {reached:.3f} "
                f"against {_main(constant):.3f} (n={len(truth)}). Look at the {self.words}, or bring "
                "more samples."
            )
        gap = self.difference(truth, outputs, rival.probabilities)
        low, high = gap.ci95
        sentence = (
            f"{WORTH[sign(gap)]}: {subject} {JUDGEMENT[sign(gap)]} {rival.title}, {self.title} {reached:.3f} against "
            f"{_main(rival):.3f} (difference {gap.value:+.3f}, 95 % {low:+.3f} to {high:+.3f}, n={gap.n})."
        )
        best = max(simpler, key=_main)
        if not best.uses_backbone:
            return sentence
        gap = self.difference(truth, outputs, best.probabilities)
        return f"{sentence} The fitted model is {JUDGEMENT[sign(gap)]} {best.title} ({_main(best):.3f})."


class LabelsEvaluator(_Compared):
    """Any number of labels for each sample."""

    target: ClassVar[Target] = "labels"
    headline: ClassVar[str] = "micro_f1"
    title: ClassVar[str] = "micro F1"
    words: ClassVar[str] = "labels"
    constant: ClassVar[str] = "frequency"
    constantly: ClassVar[str] = "giving every sample the same probabilities"

    def score(self, truth: NDArray[Any], outputs: Floats, *, seed: int = 0, thresholds: Floats | None = None) -> Scores:
        return score_labels(truth, outputs, thresholds=thresholds, seed=seed)

    def value(self, truth: NDArray[Any], outputs: Floats, weight: Floats) -> Floats:
        return Counts.of(truth, outputs >= EVEN).summed(weight).micro_f1()

    def told(self, truth: NDArray[Any], outputs: Floats) -> Floats:
        return clipped_losses(truth, outputs)

    def baselines(
        self, train: Rows, test: Rows, n: int, *, simple: Simple, seed: int, groups: NDArray[np.int64] | None
    ) -> tuple[MeasuredBaseline, ...]:
        frequency = train.truth.mean(axis=0)
        methods: list[_Method] = [
            (
                "frequency",
                "every label as probable as it is common",
                False,
                lambda: np.tile(frequency, (len(test.truth), 1)),
            )
        ]
        if train.features is not None:
            methods.append(_neighbours(train, test, prior=frequency))
        title = f"logistic regression for each label on {simple.sees}"
        methods.append((simple.name, title, False, lambda: _solved("logistic", train, test, n, seed, groups)))
        return _measured(self, methods, test.truth, seed)


class NumberEvaluator(_Compared):
    """One or more numbers for each sample."""

    target: ClassVar[Target] = "number"
    headline: ClassVar[str] = "r2"
    title: ClassVar[str] = "R2"
    words: ClassVar[str] = "numbers"
    constant: ClassVar[str] = "mean"
    constantly: ClassVar[str] = "always saying the mean"

    def score(self, truth: NDArray[Any], outputs: Floats, *, seed: int = 0, thresholds: Floats | None = None) -> Scores:
        return score_numbers(truth, outputs, seed=seed)

    def value(self, truth: NDArray[Any], outputs: Floats, weight: Floats) -> Floats:
        return np.asarray(r2(truth, outputs, weight).mean(axis=1))

    def told(self, truth: NDArray[Any], outputs: Floats) -> Floats:
        scale = truth.var(axis=0)
        return np.asarray((np.square(truth - outputs) / np.where(scale > 0, scale, 1)).mean(axis=1))

    def baselines(
        self, train: Rows, test: Rows, n: int, *, simple: Simple, seed: int, groups: NDArray[np.int64] | None
    ) -> tuple[MeasuredBaseline, ...]:
        mean, median = train.truth.mean(axis=0), np.median(train.truth, axis=0)
        methods: list[_Method] = [
            ("mean", "always the mean", False, lambda: np.tile(mean, (len(test.truth), 1))),
            ("median", "always the median", False, lambda: np.tile(median, (len(test.truth), 1))),
        ]
        if train.features is not None:
            methods.append(_neighbours(train, test, prior=None))
        title = f"ridge on {simple.sees}"
        methods.append((simple.name, title, False, lambda: _solved("ridge", train, test, n, seed, groups)))
        return _measured(self, methods, test.truth, seed)


_Method = tuple[str, str, bool, Callable[[], Floats]]
"""Key, title, whether it stands on the backbone's features, and what it predicts of the test set."""


def _measured(
    by: Evaluator, methods: Sequence[_Method], truth: NDArray[Any], seed: int
) -> tuple[MeasuredBaseline, ...]:
    found = []
    for name, title, uses_backbone, predict in methods:
        started = time.perf_counter()
        outputs = predict()
        seconds = time.perf_counter() - started
        found.append(
            MeasuredBaseline(name, title, by.score(truth, outputs, seed=seed), seconds, outputs, uses_backbone)
        )
    return tuple(found)


def _solved(kind: Any, train: Rows, test: Rows, n: int, seed: int, groups: NDArray[np.int64] | None) -> Floats:
    return fit_head(kind, train.simple, train.truth, n, groups=groups, seed=seed).head.predict_proba(test.simple)


def _neighbours(train: Rows, test: Rows, *, prior: Floats | None) -> _Method:
    assert train.features is not None and test.features is not None
    known, asked = train.features, test.features
    title = "mean of the five nearest neighbours on the same features"
    return "knn", title, True, lambda: mean_of_neighbours(known, train.truth.astype(np.float64), asked, prior=prior)


def _main(one: MeasuredBaseline) -> float:
    return one.scores.main.value


_EVALUATORS: dict[Target, Evaluator] = {
    "class": ClassEvaluator(),
    "labels": LabelsEvaluator(),
    "number": NumberEvaluator(),
}


def evaluator_for(target: Target) -> Evaluator:
    """Return what scores a target."""
    return _EVALUATORS[target]
