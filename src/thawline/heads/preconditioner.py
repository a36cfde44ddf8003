"""Find coordinates in which the Hessian of a linear classifier is close to the identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thawline.heads.losses import Floats
from thawline.heads.problems import Problems

TOP, BLOCK = 24, 400
"""Directions in which features spread most. Their Hessian, with the bias and across the classes, is used as it is, but
for no more of them than make a matrix of 400 rows. All other directions use their own curvature only."""
LEAST_CURVATURE = 1e-5
"""A class that is never in doubt has none, and a step of 1 / sqrt(0) would be infinite."""
DAMPING = 1e-6
"""Share of the trace that is added to the diagonal: the softmax has no curvature along changes that all classes share,
and rounding must not make it negative."""


@dataclass(frozen=True, slots=True, eq=False)
class Preconditioner:
    """A linear map for each of F problems, between weights and coordinates, both (A, K x R + K) for A of them."""

    unit: Floats
    """(F, K, R) weights of a unit step: 1 / sqrt(h e / N + penalty), h being the mean curvature of the loss for a class
    and e the eigenvalues."""
    bias_unit: Floats
    """(F, K)"""
    inverse: Floats | None
    """(K x T + K,) squared: inverse of the lower Cholesky factor of the Hessian in the T top directions and the bias, a
    mean over the problems; each class's directions, then its bias."""

    def gradient(self, which: NDArray[np.intp], by_weight: Floats, by_bias: Floats) -> Floats:
        """Turn a gradient by weight (A, K, R) and bias (A, K) into one by coordinates; overwrites it."""
        if self.inverse is None:
            return _join(by_weight * self.unit[which], by_bias * self.bias_unit[which])
        top = self._top(by_weight, by_bias) @ self.inverse.T
        by_weight *= self.unit[which]
        return _join(*self._replaced(by_weight, top))

    def moved(self, which: NDArray[np.intp], direction: Floats) -> tuple[Floats, Floats]:
        """Turn a direction in coordinates into what it adds to weight (A, K, R) and bias (A, K)."""
        _, n_classes, rank = self.unit.shape
        weight = direction[:, : n_classes * rank].reshape(len(direction), n_classes, rank)
        bias = direction[:, n_classes * rank :]
        if self.inverse is None:
            return weight * self.unit[which], bias * self.bias_unit[which]
        top = self._top(weight, bias) @ self.inverse
        return self._replaced(weight * self.unit[which], top)

    def _top(self, weight: Floats, bias: Floats) -> Floats:
        """Return (A, K x T + K)."""
        first = weight.shape[2] - self._n_top()
        return np.concatenate([weight[:, :, first:], bias[:, :, None]], axis=2).reshape(len(bias), -1)

    def _replaced(self, weight: Floats, top: Floats) -> tuple[Floats, Floats]:
        parts = top.reshape(*weight.shape[:2], -1)
        weight[:, :, weight.shape[2] - self._n_top() :] = parts[:, :, :-1]
        return weight, parts[:, :, -1]

    def _n_top(self) -> int:
        return 0 if self.inverse is None else len(self.inverse) // self.unit.shape[1] - 1


def precondition(
    problems: Problems, slopes: Floats, row_weight: Floats, penalty: NDArray[np.float64]
) -> Preconditioner:
    """Make the coordinates from the curvature where the problems stand.

    Args:
        slopes: (F, K, N) derivatives of the losses.
        row_weight: (F, N)
        penalty: (F,)
    """
    dtype = slopes.dtype
    bends = problems.loss.bends(slopes, problems.labels)
    own = bends * (1 - bends) if problems.loss.coupled else bends
    curvature = np.maximum(np.einsum("akn,an->ak", own, row_weight).astype(np.float64), LEAST_CURVATURE)
    # The Hessian in coordinates that do not correlate, as if its curvature were the same for every row: diagonal.
    hessian = curvature[:, :, None] * (problems.eigenvalues / len(problems.labels)) + penalty[:, None, None]
    unit, bias_unit = (1 / np.sqrt(hessian)).astype(dtype), (1 / np.sqrt(curvature)).astype(dtype)
    n_top = min(TOP, len(problems.eigenvalues), BLOCK // problems.n_classes - 1)
    if n_top < 1:
        return Preconditioner(unit, bias_unit, None)
    # One for all problems: folds differ little, and making it costs as much as a pass over the features.
    mean_weight = row_weight.mean(axis=0)  # (N,)
    counted = np.maximum(mean_weight, np.finfo(dtype).tiny)
    mean_bends = np.einsum("akn,an->kn", bends, row_weight) / (len(row_weight) * counted)
    block = _block(problems.top(n_top), mean_bends, mean_weight, coupled=problems.loss.coupled).astype(np.float64)
    # Factorised in float64: what is added to all classes alike bends no softmax, so the block has as many eigenvalues
    # of 0 as one class has columns. In float32 their rounding, 400 x 1e-7 of the trace, would outweigh the damping.
    damping = np.full((problems.n_classes, n_top + 1), penalty.mean())
    damping[:, -1] = LEAST_CURVATURE
    block[np.diag_indices_from(block)] += damping.ravel() + DAMPING * np.trace(block)
    # The inverse, as it is made once and multiplied by in each step.
    return Preconditioner(unit, bias_unit, np.linalg.inv(np.linalg.cholesky(block)).astype(dtype))


def _block(top: Floats, bends: Floats, row_weight: Floats, *, coupled: bool) -> Floats:
    """Return the Hessian (K x (T + 1), K x (T + 1)) of the mean loss in the top directions (N, T) and the bias."""
    columns = np.concatenate([top, np.ones((len(top), 1), top.dtype)], axis=1)  # (N, T + 1)
    width = columns.shape[1]
    hessian = np.zeros((len(bends) * width, len(bends) * width), top.dtype)
    own = bends
    if coupled:
        # The second derivatives are diag(p) - p p', times x x': the second term of all pairs of classes is one product.
        spread = (bends.T[:, :, None] * (columns * np.sqrt(row_weight)[:, None])[:, None]).reshape(len(top), -1)
        hessian = -(spread.T @ spread)
        # p (1 - p) with 1 - p as the sum of the others, which keeps its digits where p is nearly 1.
        own = bends * ((1 - np.eye(len(bends), dtype=top.dtype)) @ bends)
    for k, bend in enumerate(own):
        here = slice(k * width, (k + 1) * width)
        hessian[here, here] = (columns * (bend * row_weight)[:, None]).T @ columns
    return hessian


def _join(weight: Floats, bias: Floats) -> Floats:
    return np.concatenate([weight.reshape(len(bias), weight[0].size), bias], axis=1)
