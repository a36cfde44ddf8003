"""95 % intervals of numbers that are measured on a few hundred samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.proportions import Z_95 as Z_95
from thawline.proportions import wilson as wilson

Z_95_ONE_SIDED = 1.6448536269514722
"""Quantile 0.95."""


def cross_validated(accuracy: float, n: int, *, of: int, folds: int, z: float = Z_95) -> tuple[float, float]:
    """Return an interval for an accuracy measured by cross-validation, by default of 95 %.

    Errors within a fold are those of one model, and the models of two folds have learned from many of the same samples,
    so that n samples tell less than n independent ones: of three folds, as much as 0.4 n.

    Args:
        accuracy: Share of the samples that were judged right.
        n: Samples that were judged.
        of: All samples; fewer are judged if not every fold is held out.
        folds: What they were dealt to.
        z: Standard errors that are allowed for.
    Source:
        Nadeau and Bengio 2003, Machine Learning 52:239: the variance of a mean over J folds is (1/J + n2/n1) times that
        of one fold of n2 samples, judged by a model that learned from n1.
    """
    counts_for = n / (1 + folds * n / of / (folds - 1))
    low, high = wilson(accuracy * counts_for, counts_for, z=z)
    return min(low, accuracy), max(high, accuracy)


def mean_of_proportions(successes: NDArray[np.int64], n: NDArray[np.int64]) -> tuple[float, float]:
    """Return a 95 % interval for the plain mean of K independent proportions.

    Each one's distance to its Wilson limits stands for its standard error (MOVER), so that the interval keeps a width
    where every proportion is 1 and a bootstrap would have none.

    Source:
        Zou, Huang and Zhang 2009, Computational Statistics & Data Analysis 53:1080.
    """
    limits = np.array([wilson(int(s), int(m)) for s, m in zip(successes, n, strict=True)])  # (K, 2)
    distance = np.abs(limits - (successes / n)[:, None])
    low, high = np.sqrt(np.square(distance).sum(axis=0)) / len(n)
    mean = float((successes / n).mean())
    return max(0.0, mean - float(low)), min(1.0, mean + float(high))


def percentile_interval(replicates: ArrayLike, value: float) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of bootstrap replicates, widened to hold the value itself."""
    low, high = np.quantile(np.asarray(replicates), (0.025, 0.975))
    return min(float(low), value), max(float(high), value)
