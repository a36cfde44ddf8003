"""Check the rows that a head is fitted on, once and first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.errors import DataError
from thawline.heads.columns import is_sparse
from thawline.heads.tasks import task_of
from thawline.strata import strata


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """Features, labels and groups of the same N rows."""

    values: Any
    """(N, D) float32, finite; of logistic regression also a sparse matrix."""
    labels: NDArray[np.int64]
    """(N,) in 0..n_classes-1; at least two classes occur. With ``targets``, their strata."""
    groups: NDArray[np.int64]
    """(N,) 0..G-1; rows of one group are held out together."""
    n_classes: int
    """C, of classes, labels or numbers."""
    targets: NDArray[Any] | None = None
    """(N, C) bool, which labels a row has, or float64, its numbers; None: its class is learned."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def truth(self) -> NDArray[Any]:
        """What is learned of each row; see ``Dataset.truth``."""
        return self.labels if self.targets is None else self.targets

    def present(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the outputs that a fit tells apart, and what it learns of each row in their terms: of classes, those
        that occur, and their numbers among them."""
        if self.targets is not None:
            return np.arange(self.n_classes), self.targets
        present, labels = np.unique(self.labels, return_inverse=True)
        return present, labels.astype(np.int64)


def check_rows(values: ArrayLike, labels: ArrayLike, n_classes: int, groups: ArrayLike | None = None) -> TrainingRows:
    """Check rows and return them as a head needs them; without ``groups``, each row is a group of its own.

    Args:
        labels: (N,) classes; (N, C) bool, labels; or (N, C) float64, numbers.
    Raises:
        DataError: Shapes that do not agree, a feature that is not finite (names the first), a label that is no class,
            or fewer than two classes.
    """
    features: Any = values if is_sparse(values) else np.asarray(values, dtype=np.float32)
    classes = np.asarray(labels)
    by_row = task_of(classes).target == "class"
    if (
        features.ndim != 2
        or not min(features.shape)
        or (classes.shape if by_row else classes.shape[:1]) != features.shape[:1]
    ):
        raise DataError(f"A head needs features (N, D) with labels (N,); got {features.shape} with {classes.shape}.")
    if not np.isfinite(features.data if is_sparse(features) else features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise DataError(
            f"Features must be finite; row {row}, column {column} is {features[row, column]}. "
            "Extract them again in f32 precision."
        )
    if not by_row:
        numbered = _number_groups(groups, len(classes))
        return TrainingRows(features, strata(classes), numbered, n_classes, _checked(classes, n_classes))
    if not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0 or classes.max() >= n_classes:
        raise DataError(f"Labels must be whole numbers in 0..{n_classes - 1}; got {np.unique(classes)[[0, -1]]}.")
    if len(np.unique(classes)) < 2:
        raise DataError(f"A head needs rows of at least two classes; all {len(classes)} are of class {classes[0]}.")
    return TrainingRows(features, classes.astype(np.int64), _number_groups(groups, len(classes)), n_classes)


def _checked(targets: NDArray[Any], n: int) -> NDArray[Any]:
    if targets.shape[1] != n or not np.isfinite(targets).all():
        raise DataError(f"Targets must be finite, (N, {n}); got {targets.shape}.")
    return targets


def depth_scales(values: NDArray[np.float32], widths: Sequence[int]) -> NDArray[np.float32]:
    """Return the divisor of each column (D,) with which every depth weighs the same in an L2 penalty.

    Args:
        values: (N, D) features of several depths side by side.
        widths: Columns of each.
    Raises:
        DataError: The widths do not add up to D.
    """
    if min(widths) < 1 or sum(widths) != values.shape[1]:
        raise DataError(f"widths of depths must add up to {values.shape[1]} columns; got {list(widths)}.")
    scales, end = np.empty(values.shape[1], dtype=np.float32), 0
    for width in widths:
        own = slice(end, end := end + width)
        spread = float(np.sqrt(values[:, own].var(axis=0, dtype=np.float64).mean())) or 1.0
        scales[own] = spread * np.sqrt(len(widths) * width / values.shape[1])
    return scales


def _number_groups(groups: ArrayLike | None, n: int) -> NDArray[np.int64]:
    if groups is None:
        return np.arange(n)
    given = np.asarray(groups)
    if given.shape != (n,):
        raise DataError(f"Groups must be ({n},), one for each row; got {given.shape}.")
    return np.unique(given, return_inverse=True)[1].astype(np.int64)
