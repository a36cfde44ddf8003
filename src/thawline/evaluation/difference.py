"""Measure how much better one classifier is than another on the same samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.errors import UsageError
from thawline.evaluation.intervals import Z_95, percentile_interval
from thawline.evaluation.scoring import check_predictions, clipped_log_losses
from thawline.randomness import early_generator
from thawline.records import Score

_BLOCK = 64
"""Resamples drawn at a time: 64 x 10,000 rows are 5 MB."""

PairedMetric = Literal["accuracy", "balanced_accuracy", "log_loss"]


def paired_difference(
    labels: ArrayLike,
    probabilities_a: ArrayLike,
    probabilities_b: ArrayLike,
    metric: PairedMetric = "accuracy",
    seed: int = 0,
    *,
    n_bootstrap: int = 1000,
) -> Score:
    """Return metric(a) - metric(b) with a 95 % interval for predictions on the same samples.

    Accuracy: the adjusted Wald interval of Bonett and Price. It keeps its coverage if the two hardly disagree, when a
    bootstrap would have no width. Balanced accuracy and log loss: percentile bootstrap of the paired rows, drawn
    within each class.

    Source:
        Bonett and Price 2012, Journal of Educational and Behavioral Statistics 37:479.
    Raises:
        UsageError: The metric is not one of the three.
        DataError: As ``score``.
    """
    if metric not in get_args(PairedMetric):
        raise UsageError(f"A paired difference can be of {', '.join(get_args(PairedMetric))}; got {metric!r}.")
    n_classes = np.asarray(probabilities_a).shape[-1]
    y, a = check_predictions(labels, probabilities_a, n_classes)
    _, b = check_predictions(labels, probabilities_b, n_classes)
    if metric == "accuracy":
        return _accuracy_difference(_correct(y, a), _correct(y, b))
    per_row = clipped_log_losses if metric == "log_loss" else _correct
    weight = np.full(len(y), 1 / len(y)) if metric == "log_loss" else _balancing_weight(y)
    return _bootstrapped(metric, y, (per_row(y, a) - per_row(y, b)) * weight, seed, n_bootstrap)


def _correct(y: NDArray[np.int64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(p.argmax(axis=1) == y, dtype=np.float64)


def _balancing_weight(y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (N,) weights that turn a sum over rows into the mean over classes of means over their rows."""
    support = np.bincount(y)
    return 1 / (support[y] * np.count_nonzero(support))


def _accuracy_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> Score:
    n = len(a)
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    p_a, p_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = Z_95 * math.sqrt((p_a + p_b - (p_a - p_b) ** 2) / (n + 2))
    value, centre = (only_a - only_b) / n, p_a - p_b
    return Score(
        "accuracy_difference", value, (max(-1.0, min(centre - half, value)), min(1.0, max(centre + half, value))), n
    )


def _bootstrapped(metric: str, y: NDArray[np.int64], terms: NDArray[np.float64], seed: int, n_bootstrap: int) -> Score:
    """Return a sum over rows with its interval; draws within classes leave the weight of each position as it is."""
    draws = np.concatenate([terms[rows].sum(axis=1) for rows in stratified_resamples(y, seed, n_bootstrap)])
    value = float(terms.sum())
    return Score(f"{metric}_difference", value, percentile_interval(draws, value), len(y))


def stratified_resamples(labels: NDArray[np.int64], seed: int, n_bootstrap: int) -> Iterator[NDArray[np.int64]]:
    """Yield blocks (B, N) of row numbers, each row of them drawn with replacement within each class."""
    rng = early_generator(seed, "PAIR")
    order = np.argsort(labels, kind="stable")
    size = np.bincount(labels)[labels[order]]  # (N,) rows of the class that position i draws from
    first = np.searchsorted(labels[order], labels[order])
    for start in range(0, n_bootstrap, _BLOCK):
        uniform = rng.random((min(_BLOCK, n_bootstrap - start), len(labels)))
        yield order[first + (uniform * size).astype(np.int64)]
