"""Sort samples into strata whose shares a split, or a deal to folds, keeps: whatever it is that is learned of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BINS = 10
"""Strata of numbers: tenths."""
LEAST_IN_BIN = 5
"""Fewer samples make fewer strata of numbers."""


def strata(truth: NDArray[Any]) -> NDArray[np.int64]:
    """Return (N,) the stratum of each sample, numbered from 0.

    Args:
        truth: Classes (N,) int64 are strata themselves. Of labels (N, C) bool, the rarest that a sample has is its
            stratum, and samples without any are one. Numbers (N, C) float64 are cut into equal shares by their rank;
            of several numbers, by the mean of their ranks.
    Source:
        Rarest label first: Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-label Data".
    """
    if truth.dtype == np.bool_:
        return _rarest_label(truth)
    if truth.ndim == 2:
        return _bins(truth)
    return truth.astype(np.int64)


def _rarest_label(has: NDArray[np.bool_]) -> NDArray[np.int64]:
    counts = has.sum(axis=0)
    by_rarity = np.argsort(counts, kind="stable")
    ordered = has[:, by_rarity]
    rarest = np.where(ordered.any(axis=1), by_rarity[ordered.argmax(axis=1)], has.shape[1])
    return np.unique(rarest, return_inverse=True)[1].astype(np.int64)


def _bins(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    n = len(numbers)
    ranks = [np.searchsorted(np.sort(column), column).astype(np.float64) for column in numbers.T]  # equal numbers share
    mean = np.mean(ranks, axis=0)
    n_bins = max(min(MOST_BINS, n // LEAST_IN_BIN), 1)
    ordered = np.searchsorted(np.sort(mean), mean)  # (N,) 0..n-1
    return np.unique(ordered * n_bins // max(n, 1), return_inverse=True)[1].astype(np.int64)
