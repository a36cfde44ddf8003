"""The losses that linear heads minimise: value, slope and curvature for each row."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Loss(Protocol):
    """A convex loss of the decisions (A, K, N) of A problems for K classes of N rows."""

    def penalty_factor(self, n_classes: int) -> float:
        """Return f in: C x sum of losses + f ||W||^2 / 2."""
        ...

    def unweighted(self, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the best bias (F, K) without any feature, from the class frequencies (F, K)."""
        ...

    def losses_and_slopes(self, decisions: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Return the loss (A, N) of each row and its derivatives (A, K, N); overwrites the decisions."""
        ...

    def bends(self, slopes: Floats, labels: NDArray[np.int64]) -> Floats:
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
