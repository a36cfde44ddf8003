"""95 % intervals for what is measured on a few hundred samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054
"""Quantile 0.975 of the normal distribution."""
Z_95_ONE_SIDED = 1.6448536269514722
"""Quantile 0.95."""


def wilson(successes: float, n: float, *, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, by default of 95 %, without continuity correction.

    Args:
        successes: Need not be whole, nor need ``n``, where samples count for less than one each.
        n: Of how many.
        z: Standard errors that are allowed for.

    Source:
        Wilson 1927, JASA 22:209; recommended for small n by Brown, Cai and DasGupta 2001.
    Raises:
        ValueError: Not 0 <= successes <= n, or n is 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"A proportion needs 0 <= successes <= n and n > 0; got {successes} of {n}.")
    p, z2 = successes / n, z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half


def cross_validated(accuracy: float, n: int, *, of: int, folds: int, z: float = Z_95) -> tuple[float, float]:
    """Return an interval for an accuracy measured by cross-validation, by default of 95 %.

    Errors within a fold are those of one model, and the models of two folds have learned from many of the same samples,
    so that n samples tell less than n independent ones: of three folds, as much as 0.4 n.

    Args:
        accuracy: Share of the samples that were judged right.
        n: Samples that were judged.
        of: Samples there are; fewer are judged where not every fold's turn came.
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
