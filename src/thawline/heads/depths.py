"""Fit ridge on the features of several depths together, and on each depth alone, in one pass over them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.errors import DataError
from thawline.heads.head import LinearHead
from thawline.heads.ridge import RidgePath, leave_one_out, solve_ridge, spectrum
from thawline.heads.row_space import is_wide, root_mean_square, row_space
from thawline.heads.training_rows import TrainingRows, check_rows

Weighting = Literal["column", "depth"]


@dataclass(frozen=True, slots=True, eq=False)
class FittedDepths:
    """A head on all depths together, and what each depth reaches alone."""

    head: LinearHead
    """Of kind ridge, for the depths' features side by side in the order given: (N, D1 + D2 + ...)."""
    path: RidgePath
    """Of all depths together."""
    depths: tuple[RidgePath, ...]
    """Of each depth alone, in the order given; all leave out the same rows."""
    seconds: float


def fit_depths(
    values: Sequence[ArrayLike],
    labels: ArrayLike,
    n_classes: int,
    *,
    groups: ArrayLike | None = None,
    weighting: Weighting = "column",
) -> FittedDepths:
    """Fit ridge on several depths side by side, lambda chosen by leave-one-out in closed form.

    Each depth is centred and divided by one global scale: units do not count. With fewer rows than columns, X X' of all
    depths together is the sum of X X' of each, so all together cost one more eigendecomposition.

    Args:
        values: For each depth its features (N, D_d), of the same N rows.
        labels: (N,) in 0..n_classes-1.
        groups: (N,) rows with equal numbers are left out together.
        weighting: ``column``: every column weighs the same, so that 1,280 columns weigh ten times as much as 128;
            ``depth``: every depth weighs the same.
    Raises:
        DataError: No depth, depths of different length, or what ``fit_head`` refuses.
    """
    started = time.perf_counter()
    parts = _check_depths(values, labels, n_classes, groups)
    rows, columns = parts[0], sum(part.values.shape[1] for part in parts)
    joined = np.empty((len(rows), columns))
    mean, scale = np.empty(columns), np.empty(columns)
    gram = np.zeros((len(rows), len(rows))) if is_wide(joined.shape) else None
    paths, end = [], 0
    for part in parts:
        width = part.values.shape[1]
        own = slice(end, end := end + width)
        centred, mean[own], own_scale = _scaled(part)
        weight = 1.0 if weighting == "column" else np.sqrt(columns / (len(parts) * width))
        joined[:, own], scale[own] = centred * weight, own_scale / weight
        own_gram = centred @ centred.T if gram is not None or is_wide(centred.shape) else None
        if gram is not None and own_gram is not None:
            gram += own_gram * weight**2
        space = row_space(centred, mean[own], np.asarray(own_scale), own_gram if is_wide(centred.shape) else None)
        paths.append(leave_one_out(spectrum(space, part), part))
    head, path = solve_ridge(spectrum(row_space(joined, mean, scale, gram), rows), rows)
    return FittedDepths(head=head, path=path, depths=tuple(paths), seconds=time.perf_counter() - started)


def judge_depths(
    values: Sequence[ArrayLike], labels: ArrayLike, n_classes: int, *, groups: ArrayLike | None = None
) -> tuple[RidgePath, ...]:
    """Judge ridge on each depth alone, as ``fit_depths`` does, and fit no head.

    Args and raises are those of ``fit_depths``.
    """
    paths = []
    for part in _check_depths(values, labels, n_classes, groups):
        centred, mean, scale = _scaled(part)
        paths.append(leave_one_out(spectrum(row_space(centred, mean, np.asarray(scale)), part), part))
    return tuple(paths)


def _scaled(part: TrainingRows) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return features (N, D) of one depth, centred and divided by one global scale; their mean (D,), and the scale."""
    centred = part.values.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    scale = root_mean_square(centred)
    centred /= scale
    return centred, mean, scale


def _check_depths(
    values: Sequence[ArrayLike], labels: ArrayLike, n_classes: int, groups: ArrayLike | None
) -> list[TrainingRows]:
    if not values:
        raise DataError("Depths must be at least one array of features (N, D); got none.")
    return [check_rows(depth, labels, n_classes, groups) for depth in values]
