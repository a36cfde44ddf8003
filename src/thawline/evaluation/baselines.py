"""Measure what simpler methods reach on the same split: a pre-trained model must beat them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.evaluation.scoring import score
from thawline.heads import fit_head
from thawline.inputs.simple import Simple
from thawline.records import Baseline, Target

_PIXELS = Simple("pixels", "16 x 16 pixels")
METHODS = {
    "majority": "always the commonest class",
    "pixels": "logistic regression on 16 x 16 pixels",
    "tfidf": "logistic regression on TF-IDF of words and characters",
    "words": "logistic regression on averaged word vectors",
    "knn": "five nearest neighbours on the model's features",
}
"""The baselines of runs, by their keys in ``--json``, and what they are: pixels of pictures, TF-IDF and vectors of
words of texts."""
OF_TARGETS: Mapping[Target, Mapping[str, str]] = {
    "class": {},
    "labels": {
        "frequency": "every label as probable as it is common",
        "pixels": "logistic regression for each label on 16 x 16 pixels",
        "tfidf": "logistic regression for each label on TF-IDF of words and characters",
        "words": "logistic regression for each label on averaged word vectors",
        "knn": "mean of the five nearest neighbours on the model's features",
    },
    "number": {
        "mean": "always the mean",
        "median": "always the median",
        "pixels": "ridge on 16 x 16 pixels",
        "tfidf": "ridge on TF-IDF of words and characters",
        "words": "ridge on averaged word vectors",
        "knn": "mean of the five nearest neighbours on the model's features",
    },
}
"""What they are where labels or numbers are learned."""
GUIDES = {
    "guide-mlp": "three-layer MLP on the pixels",
    "guide-cnn": "CNN of three blocks on the pixels",
    "guide-words": "mean of word vectors, learned from nothing",
}
"""Networks that guides begin with, trained only if they are asked for."""
GUIDES_OF = {"image": ("guide-mlp", "guide-cnn"), "text": ("guide-words",)}
"""Kind of input -> those of its guides."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredBaseline(Baseline):
    """A baseline that can be compared sample by sample."""

    probabilities: NDArray[np.float64]
    """(N, C) on the test set."""
    uses_backbone: bool
    """Whether it stands on the pre-trained model's features, too."""


def baselines(
    train_features: NDArray[np.float32] | None,
    train_simple: Any,
    train_labels: ArrayLike,
    test_features: NDArray[np.float32] | None,
    test_simple: Any,
    test_labels: ArrayLike,
    n_classes: int,
    *,
    simple: Simple = _PIXELS,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> tuple[MeasuredBaseline, ...]:
    """Fit on the training set and score on the test set: majority class, kNN on features, simple features.

    Args:
        train_features, test_features: (N, D); None without a pre-trained model.
        train_simple, test_simple: (N, d), what the kind of input offers without a backbone; may be sparse.
        simple: What these are.
        groups: (N,) of the training set, held out together while the strength for these is chosen.
    Returns:
        ``majority`` (class frequencies as probabilities), ``knn`` (where there are features) and what learned from
        simple features.
    """
    y = np.asarray(train_labels)

    def majority() -> NDArray[np.float64]:
        frequency = np.bincount(y, minlength=n_classes) / len(y)
        return np.tile(frequency, (test_simple.shape[0], 1))

    def knn() -> NDArray[np.float64]:
        assert train_features is not None and test_features is not None
        return fit_head("knn", train_features, y, n_classes, groups=groups, seed=seed).head.predict_proba(test_features)

    def on_simple() -> NDArray[np.float64]:
        fitted = fit_head("logistic", train_simple, y, n_classes, groups=groups, seed=seed)
        return fitted.head.predict_proba(test_simple)

    def measure(
        name: str, title: str, predict: Callable[[], NDArray[np.float64]], *, uses_backbone: bool
    ) -> MeasuredBaseline:
        started = time.perf_counter()
        p = predict()
        seconds = time.perf_counter() - started
        return MeasuredBaseline(name, title, score(test_labels, p, n_classes, seed=seed), seconds, p, uses_backbone)

    measured = [measure("majority", "always the commonest class", majority, uses_backbone=False)]
    if train_features is not None:
        measured.append(measure("knn", "five nearest neighbours on the same features", knn, uses_backbone=True))
    measured.append(measure(simple.name, f"logistic regression on {simple.sees}", on_simple, uses_backbone=False))
    return tuple(measured)
