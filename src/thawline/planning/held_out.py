"""Means over rows that were held out, with intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from thawline.evaluation.intervals import Z_95


def mean_interval(
    terms: NDArray[np.float64], groups: NDArray[np.int64], lowest: float, highest: float
) -> tuple[float, float]:
    """Return a 95 % interval for the mean of terms (N,) in [lowest, highest]; groups are the units.

    A normal interval with made-up rows at both ends of the range, so that it keeps a width if all rows agree: two at
    each end for shares (Agresti and Coull), one for differences (Bonett and Price).

    Args:
        terms: (N,), of shares in [0, 1] or of differences around 0.
        groups: (N,) numbered 0..G-1; rows of one group count as one draw.
    Source:
        Agresti and Coull 1998, The American Statistician 52:119; Bonett and Price 2012, Journal of Educational and
        Behavioral Statistics 37:479.
    """
    made_up = [lowest, highest] * (2 if lowest == 0 else 1)
    sums = np.concatenate([np.bincount(groups, weights=terms), made_up])
    counts = np.concatenate([np.bincount(groups), np.ones(len(made_up))])
    centre = sums.sum() / counts.sum()
    half = Z_95 * math.sqrt(np.square(sums - centre * counts).sum()) / counts.sum()
    value = float(terms.mean())
    return float(max(lowest, min(centre - half, value))), float(min(highest, max(centre + half, value)))


def with_all_shares(
    decisions: NDArray[np.float64], targets: NDArray[np.float64], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return decisions (N, C) on rows left out, with the bias of a fit that knows the class shares of all rows.

    Leaving out a row takes one from its own class, and the bias of a least-squares fit is the class shares of the rest.
    With features that tell little, that alone makes every answer wrong: a head that learned nothing comes out far below
    chance. So the bias is that of all rows; the weights stay those of the fit without the row.

    Args:
        decisions: (N, C) of ridge, for each row from the fit without its group, before any temperature.
        targets: (N, C) of -1 and +1.
        groups: (N,) numbered 0..G-1, at least two.
    """
    sizes = np.bincount(groups)[:, None]
    sums = np.stack([np.bincount(groups, weights=column) for column in targets.T], axis=1)  # (G, C)
    mean, n = targets.mean(axis=0), len(targets)
    without = (n * mean - sums) / (n - sizes)  # (G, C)
    shifted: NDArray[np.float64] = decisions + (mean - without)[groups]
    return shifted
