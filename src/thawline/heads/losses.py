"""The losses that linear heads minimise: value, slope and curvature for each row."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Loss(Protocol):
    """A convex loss of the decisions (A, K, N) of A problems for K classes of N rows; labels (N,), or (N, K) bool."""

    def penalty_factor(self, n_classes: int) -> float:
        """Return f in: C x sum of losses + f ||W||^2 / 2."""
        ...

    def unweighted(self, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the best bias (F, K) without any feature, from the class frequencies (F, K)."""
        ...

    def losses_and_slopes(self, decisions: Floats, labels: NDArray[Any]) -> tuple[Floats, Floats]:
        """Return the loss (A, N) of each row and its derivatives (A, K, N); overwrites the decisions."""
        ...

    def bends(self, slopes: Floats, labels: NDArray[Any]) -> Floats:
        """Return v (A, K, N), from the derivatives, such that a row's second derivatives (K, K) are diag(v), less
        v v' if the classes are ``coupled``."""
        ...

    @property
    def coupled(self) -> bool: ...


class LogLoss:
    """Log loss of the softmax; inf for a row whose class a problem lacks (bias -inf)."""

    coupled = True

    def penalty_factor(self, n_classes: int) -> float:
        """With two classes scikit-learn penalises the difference of the weight vectors: twice as much."""
        return 2.0 if n_classes == 2 else 1.0

    def unweighted(self, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):  # log 0 = -inf is meant: the class stays out of the softmax
            return cast(NDArray[np.float64], np.log(frequency))

    def losses_and_slopes(self, decisions: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
        rows = np.arange(len(labels))
        decisions -= decisions.max(axis=1, keepdims=True)
        own = decisions[:, labels, rows]  # (A, N), a copy
        np.exp(decisions, out=decisions)
        total = decisions.sum(axis=1)
        decisions /= total[:, None]
        decisions[:, labels, rows] -= 1
        return np.log(total) - own, decisions

    def bends(self, slopes: Floats, labels: NDArray[np.int64]) -> Floats:
        probabilities = slopes.copy()
        probabilities[:, labels, np.arange(len(labels))] += 1
        return probabilities


class SquaredHinge:
    """One class against the rest: max(0, 1 - y z)^2, y being +1 for the row's own class and -1 for every other."""

    coupled = False

    def penalty_factor(self, n_classes: int) -> float:
        return 1.0

    def unweighted(self, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        return 2 * frequency - 1

    def losses_and_slopes(self, decisions: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
        rows = np.arange(len(labels))
        decisions[:, labels, rows] *= -1
        decisions += 1
        np.maximum(decisions, 0, out=decisions)
        losses = np.einsum("akn,akn->an", decisions, decisions)
        decisions *= 2
        decisions[:, labels, rows] *= -1
        return losses, decisions

    def bends(self, slopes: Floats, labels: NDArray[np.int64]) -> Floats:
        return np.where(slopes != 0, slopes.dtype.type(2), slopes.dtype.type(0))


LEAST_SHARE = 1e-6
"""Share of a label that no counted row has, or that all have, as the start of its bias sees it: log 0 is no start."""


class BinaryLogLoss:
    """Each label by itself, yes or no: the log loss of a sigmoid, added over the labels (N, K)."""

    coupled = False

    def penalty_factor(self, n_classes: int) -> float:
        """scikit-learn's LogisticRegression has one weight vector for yes and no."""
        return 1.0

    def unweighted(self, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        share = np.clip(frequency, LEAST_SHARE, 1 - LEAST_SHARE)
        return cast(NDArray[np.float64], np.log(share / (1 - share)))

    def losses_and_slopes(self, decisions: Floats, labels: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        has = labels.T.astype(decisions.dtype)  # (K, N)
        small = np.exp(-np.abs(decisions))
        losses = (np.maximum(decisions, 0) - has * decisions + np.log1p(small)).sum(axis=1)
        slopes = np.where(decisions >= 0, 1, small) / (1 + small) - has
        return losses, slopes

    def bends(self, slopes: Floats, labels: NDArray[np.bool_]) -> Floats:
        probabilities = slopes + labels.T.astype(slopes.dtype)
        return cast(Floats, probabilities * (1 - probabilities))
