"""Several linear classifiers on the same features, and the passes over the features that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.heads.losses import Floats, Loss


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What F problems have learned so far."""

    weight: Floats
    """(F, K, R)"""
    bias: Floats
    """(F, K); -inf for a class that has no counted row."""
    iterations: int = 0
    """Of the problem that took most."""


@dataclass(frozen=True, slots=True, eq=False)
class Problems:
    """F problems on the same rows; row i counts in problem f where ``counted[f, i]``."""

    scores: Floats
    """(N, M), centred; its precision, float32 or float64, is that of the work."""
    turn: Floats | None
    """(M, R) with orthonormal columns, if the scores are not yet in coordinates that do not correlate."""
    eigenvalues: NDArray[np.float64]
    """(R,) of X'X in those coordinates; the preconditioner is made from them."""
    labels: NDArray[Any]
    """(N,) in 0..K-1; or (N, K) bool, which of the labels a row has."""
    counted: NDArray[np.bool_]
    """(F, N)"""
    n_classes: int
    loss: Loss
    blocks: tuple[tuple[slice, int], ...] = ()
    """Consecutive rows, and the number of the one problem in which they do not count, -1 where they count in all: that
    problem passes over them. Where there are no blocks, all problems go over all rows."""

    def start(self) -> Weights:
        """Return the exact solutions at infinite regularisation."""
        one_hot = self.labels.astype(np.float64) if self.labels.ndim == 2 else np.eye(self.n_classes)[self.labels]
        frequency = self.counted.astype(np.float64) @ one_hot / self.counted.sum(axis=1)[:, None]
        weight = np.zeros((*frequency.shape, len(self.eigenvalues)), self.scores.dtype)
        return Weights(weight, self.loss.unweighted(frequency).astype(self.scores.dtype))

    def decisions(self, weight: Floats, bias: Floats, which: NDArray[np.intp]) -> Floats:
        """Return (A, K, N), new, for weights (A, K, R) and biases (A, K) of problems (A,); 0 where passed over."""
        flat = self._turned(weight)
        if not self.blocks:
            product: Floats = (flat @ self.scores.T).reshape(*bias.shape, -1)
            product += bias[:, :, None]
            return product
        parts = flat.reshape(*bias.shape, flat.shape[1])
        decisions = np.zeros((*bias.shape, len(self.labels)), flat.dtype)
        for rows, held_out in self.blocks:
            own = which != held_out  # (A,)
            product = parts[own].reshape(-1, flat.shape[1]) @ self.scores[rows].T
            decisions[own, :, rows] = product.reshape(-1, self.n_classes, product.shape[1]) + bias[own, :, None]
        return decisions

    def held_out_decisions(self, at: Weights) -> Floats:
        """Return (N, K): each row's by the problem in which it does not count; nan for rows that count in all."""
        flat = self._turned(at.weight)
        parts = flat.reshape(*at.bias.shape, flat.shape[1])
        given = np.full((len(self.labels), self.n_classes), np.nan, self.scores.dtype)
        blocks = dict((f, rows) for rows, f in self.blocks)
        for f, counted in enumerate(self.counted):
            rows = blocks.get(f, np.flatnonzero(~counted))
            given[rows] = self.scores[rows] @ parts[f].T + at.bias[f]
        return given

    def back(self, slopes: Floats, which: NDArray[np.intp]) -> Floats:
        """Return the sum of slopes (A, K, N) x features as (A, K, R)."""
        if not self.blocks:
            flat = slopes.reshape(-1, slopes.shape[2]) @ self.scores
        else:
            flat = np.zeros((len(which), self.n_classes * self.scores.shape[1]), slopes.dtype)
            for rows, held_out in self.blocks:
                own = which != held_out  # (A,)
                part = slopes[own, :, rows]
                flat[own] += (part.reshape(-1, part.shape[2]) @ self.scores[rows]).reshape(-1, flat.shape[1])
            flat = flat.reshape(-1, self.scores.shape[1])
        if self.turn is not None:
            flat = flat @ self.turn
        return flat.reshape(len(which), self.n_classes, flat.shape[1])

    def _turned(self, weight: Floats) -> Floats:
        """Return (A x K, M) of weights (A, K, R)."""
        flat = weight.reshape(weight.shape[0] * weight.shape[1], weight.shape[2])
        return flat if self.turn is None else flat @ self.turn.T

    def top(self, n_columns: int) -> Floats:
        """Return the coordinates (N, n) in which the features spread most."""
        if self.turn is None:
            return self.scores[:, self.scores.shape[1] - n_columns :]
        return self.scores @ self.turn[:, self.turn.shape[1] - n_columns :]
