"""Fit temperatures: one number divides all decisions before the softmax makes probabilities of them."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray

from thawline.heads.head import softmax

LEAST, MOST = 1e-3, 1e3
"""Bounds for decisions. They have no unit of their own: least squares aims at -1 and +1 whatever the log loss wants."""
NET_MOST = 20.0
"""Bound, and its inverse the other one, for logits of a net that was trained by log loss: their unit is right but for
smoothing and over-confidence. A few dozen samples that are all right would ask for a temperature of 0."""
TOLERANCE = 1e-4
"""Of its logarithm."""


def fit_temperature(decisions: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return the temperature in [1e-3, 1e3] with the smallest log loss of softmax(decisions / T), and that loss.

    The loss is convex in b = 1 / T: its slope in b changes sign at the only minimum. Newton steps find it; a step that
    would leave the bracket is replaced by its middle.

    Args:
        decisions: (N, C)
        labels: (N,)
    """
    rows = np.arange(len(labels))
    decisions = decisions - decisions[rows, labels][:, None]  # from the label's own, so that slopes need no gather
    low, high = -np.log(MOST), -np.log(LEAST)  # of log b
    at = 0.0
    while high - low > TOLERANCE:
        shares = softmax(decisions * np.exp(at)) * decisions
        expected = shares.sum(axis=1)
        slope = expected.mean()
        low, high = (at, high) if slope < 0 else (low, at)
        bend = slope + np.exp(at) * (np.vdot(shares, decisions) - np.vdot(expected, expected)) / len(rows)
        step = -slope / bend if bend > 0 else np.inf
        if abs(step) < TOLERANCE:
            break
        at = at + step if low < at + step < high else (low + high) / 2
    temperature = float(np.exp(-at))
    return temperature, mean_log_loss(decisions / temperature, labels)


def fit_net_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the divisor of a net's logits, 1/20 to 20, at which their log loss is least.

    Args:
        logits: (N, C)
        labels: (N,)
    Source:
        Guo et al. 2017, arXiv:1706.04599; judging by it: Berta et al. 2025, arXiv:2501.19195.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits * math.exp(-log_temperature), axis=1)[rows, labels].mean())

    # Brent's search, not the Newton steps above: those end up to 1e-4 beside it, and bundles hold the bits of this one.
    bound = math.log(NET_MOST)
    return math.exp(float(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))


def row_log_losses(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return -log softmax at the label (N,) of logits (N, C)."""
    logits = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return cast(NDArray[np.float64], losses)


def mean_log_loss(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean of -log softmax at the label."""
    return float(row_log_losses(logits, labels).mean())
