"""The span of the training rows in coordinates that do not correlate; every linear head is solved there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class RowSpace:
    """Centred features, divided by one number, as X = U sqrt(e) V'.

    Every direction that an L2 penalty keeps lies in the span of the rows, so R <= min(N, D) columns hold all that can
    be learned. In them X'X is diagonal, which makes ridge a division and preconditions every other loss.

    The mean and the scale come from all rows, held out or not. That leaks nothing: the bias is not penalised, so
    centring changes no solution, and the scale is only the unit in which a strength is counted.
    """

    centred: NDArray[np.float64]
    """X (N, D)"""
    mean: NDArray[np.float64]
    """(D,)"""
    scale: NDArray[np.float64]
    """Divisor of the centred features: () for all, or (D,) if columns were weighted."""
    eigenvalues: NDArray[np.float64]
    """e (R,), ascending, above zero."""
    basis: NDArray[np.float64]
    """V (D, R)"""
    left_of_wide: NDArray[np.float64] | None
    """U (N, R) if D > N."""

    def left(self) -> NDArray[np.float64]:
        """Return U (N, R)."""
        if self.left_of_wide is not None:
            return self.left_of_wide
        return self.centred @ self.basis / np.sqrt(self.eigenvalues)

    def to_features(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn weights (K, R) on the coordinates U sqrt(e) into weights (K, D) on features as they come."""
        return weight @ self.basis.T / self.scale


def scale_features(values: NDArray[np.float32]) -> RowSpace:
    """Centre (N, D), divide by one global scale and find the row space."""
    centred = values.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    scale = root_mean_square(centred)
    centred /= scale
    return row_space(centred, mean, np.asarray(scale))


def root_mean_square(centred: NDArray[np.float64]) -> float:
    """Return the global scale of centred features; 1 for constant features."""
    return float(np.sqrt(np.vdot(centred, centred) / centred.size)) or 1.0


def row_space(
    centred: NDArray[np.float64],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    gram: NDArray[np.float64] | None = None,
) -> RowSpace:
    """Eigendecompose the smaller of X X' and X' X.

    Args:
        centred: X (N, D), centred and scaled.
        mean, scale: (D,) and () or (D,): how to come from features to X.
        gram: X X' (N, N), if it is known and D > N.
    """
    wide = is_wide(centred.shape)
    if gram is None:
        gram = centred @ centred.T if wide else centred.T @ centred
    eigenvalues, vectors = np.linalg.eigh(gram)
    # Directions at rounding level carry nothing at the penalties tried, and dividing by their length would.
    kept = eigenvalues > max(eigenvalues[-1], 1.0) * len(eigenvalues) * np.finfo(np.float64).eps
    eigenvalues, vectors = eigenvalues[kept], np.ascontiguousarray(vectors[:, kept])
    if not wide:
        return RowSpace(centred, mean, scale, eigenvalues, vectors, None)
    return RowSpace(centred, mean, scale, eigenvalues, centred.T @ vectors / np.sqrt(eigenvalues), vectors)


def is_wide(shape: tuple[int, ...]) -> bool:
    """Say whether X X' is the smaller one."""
    return shape[1] > shape[0]
