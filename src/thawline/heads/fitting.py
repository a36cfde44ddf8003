"""Fit any kind of head: features and labels in, a fitted head and every strength that was tried out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from thawline.errors import UsageError, nearest
from thawline.heads.columns import is_sparse
from thawline.heads.head import Head, LinearHead
from thawline.heads.tasks import task_of
from thawline.heads.training_rows import TrainingRows, check_rows, depth_scales

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.listening import Progress

WORTH_THREADS = 2**22
"""Features, N x D, from which matrix products are large enough to be shared between threads."""

HeadKind = Literal["logistic", "ridge", "svm", "knn"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FittedHead:
    """A head, and how its strength was chosen."""

    head: Head
    chosen: float
    """C of logistic and svm, lambda of ridge (on features scaled to unit variance overall), k of knn."""
    path: tuple[dict[str, float], ...]
    """Each strength tried, with ``mean``, the log loss on rows that were held out; empty if none was tried."""
    cv_log_loss: float | None
    """Log loss of the chosen strength on rows that were held out; None if none could be."""
    held_out_logits: NDArray[np.float64] | None
    """(N, C) logits of each training row by a fit that had seen neither it nor its group; nan if there was no such
    fit."""
    widths: tuple[int, ...]
    """Columns of each depth if the features of several depths stand side by side; else empty."""
    seconds: float


def fit_head(
    kind: HeadKind,
    values: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    *,
    groups: ArrayLike | None = None,
    widths: Sequence[int] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> FittedHead:
    """Fit a head on training rows; rows that are held out in turn choose its strength.

    Args:
        kind: ``logistic`` or ``svm`` (cross-validated), ``ridge`` or ``knn`` (leave-one-out).
        values: (N, D) features; of logistic heads, and of ridge for numbers, also a sparse
            matrix of float32 in rows (CSR).
        labels: (N,) in 0..n_classes-1; or (N, n_classes) bool, labels of which a row may have several, or float64,
            numbers. A class without a row gets next to no probability.
        groups: (N,) rows with equal numbers are held out together (duplicates, one patient).
        widths: Columns of each depth, if the features of several depths stand side by side. Every depth then weighs the
            same, whatever its unit and its number of columns. Linear heads only.
        seed: Decides the folds.
        progress: Called with strengths tried and strengths foreseen.
    Raises:
        UsageError: The kind is not known, or cannot take depths.
        DataError: Features that are not finite, labels that are no classes, or fewer than two classes.
    """
    if kind not in get_args(HeadKind):
        raise UsageError(f"Head must be one of {', '.join(get_args(HeadKind))}; got {kind!r}.{nearest(kind, _KINDS)}")
    if widths and kind == "knn":
        raise UsageError("Head knn must have the features of one depth; got several. Choose logistic, ridge or svm.")
    if is_sparse(values) and kind != "logistic" and not (kind == "ridge" and np.ndim(labels) == 2):
        raise UsageError(f"Sparse features must go with a logistic head, or with ridge for numbers; got {kind}.")
    started = time.perf_counter()
    rows, scales = _weighed(check_rows(values, labels, n_classes, groups), widths)
    task = task_of(rows.truth)
    if kind not in task.heads:
        raise UsageError(f"Head for target {task.target} must be {' or '.join(task.heads)}; got {kind}.")
    with _fitting_threads(rows):
        head, chosen, path, loss, logits = _FIT[kind](rows, seed, progress)
    return FittedHead(
        head=_for_raw_features(head, scales),
        chosen=chosen,
        path=path,
        cv_log_loss=loss,
        held_out_logits=logits,
        widths=tuple(widths),
        seconds=time.perf_counter() - started,
    )


def held_out_logits(
    kind: Literal["logistic", "svm"],
    values: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    fold: NDArray[np.int64],
    *,
    groups: ArrayLike | None = None,
    widths: Sequence[int] = (),
) -> NDArray[np.float64]:
    """Ask about each fold a head that was fitted on the others; the rows of the others choose its strength.

    One search serves all folds, which costs a fraction of ``fit_head`` for each. The mean and the unit of the features
    come from all rows, which tells no head anything: see ``RowSpace``.

    Args:
        values, labels, n_classes, groups, widths: As in ``fit_head``.
        fold: (N,) 0..F-1; rows of one group share a fold.
    Returns:
        (N, n_classes); nan where the other folds have rows of one class only. A class that the other folds lack gets
        -1e4.
    Raises:
        DataError: As ``fit_head``.
    """
    from thawline.heads.logistic import loss_of
    from thawline.heads.losses import SquaredHinge
    from thawline.heads.path import held_out_logits
    from thawline.heads.row_space import scale_features
    from thawline.heads.temperature import fit_temperature

    rows, _ = _weighed(check_rows(values, labels, n_classes, groups), widths)
    with _fitting_threads(rows):
        if is_sparse(rows.values):
            from thawline.heads.sparse import held_out_sparse

            return held_out_sparse(rows, fold)
        space = scale_features(rows.values)
        if kind == "logistic":
            return held_out_logits(rows, space, loss_of(rows), lambda decisions, labels: 1.0, fold)
        return held_out_logits(rows, space, SquaredHinge(), lambda d, labels: fit_temperature(d, labels)[0], fold)


def _fitting_threads(rows: TrainingRows) -> AbstractContextManager[object]:
    """Keep small problems on one thread: there is little to share, and waiting threads use up processors."""
    if rows.values.size >= WORTH_THREADS:
        return nullcontext()
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits


_Outcome = tuple[Head, float, tuple[dict[str, float], ...], float | None, "NDArray[np.float64] | None"]


def _logistic(rows: TrainingRows, seed: int, progress: Progress | None) -> _Outcome:
    from thawline.heads.logistic import fit_logistic  # a prediction needs none of these modules

    if is_sparse(rows.values):
        from thawline.heads.sparse import fit_sparse

        head, path = fit_sparse(rows, seed=seed, progress=progress)
        return head, path.strength, path.steps, path.log_loss, None
    head, path = fit_logistic(rows, seed=seed, progress=progress)
    return head, path.strength, path.steps, path.log_loss, path.held_out_logits


def _svm(rows: TrainingRows, seed: int, progress: Progress | None) -> _Outcome:
    from thawline.heads.svm import fit_svm

    head, path = fit_svm(rows, seed=seed, progress=progress)
    return head, path.strength, path.steps, path.log_loss, path.held_out_logits


def _ridge(rows: TrainingRows, seed: int, progress: Progress | None) -> _Outcome:
    if is_sparse(rows.values):
        from thawline.heads.sparse import fit_sparse_ridge

        head, penalty, steps = fit_sparse_ridge(rows, seed=seed)
        return head, penalty, steps, None, None
    from thawline.heads.ridge import fit_ridge

    head, path = fit_ridge(rows)
    return head, path.penalty, path.steps, path.log_loss, path.held_out_logits


def _knn(rows: TrainingRows, seed: int, progress: Progress | None) -> _Outcome:
    from thawline.heads.knn import fit_knn

    head, loss, logits = fit_knn(rows, seed=seed)
    return head, float(head.k), (), loss, logits


_FIT = {"logistic": _logistic, "ridge": _ridge, "svm": _svm, "knn": _knn}
_KINDS = tuple(_FIT)


def refit_head(
    fitted: FittedHead, values: ArrayLike, labels: ArrayLike, n_classes: int, *, groups: ArrayLike | None = None
) -> Head:
    """Fit the same kind of head at the strength chosen before, on other (usually more) rows.

    Args:
        fitted: Holds the kind and the chosen strength.
        values, labels, n_classes, groups: As in ``fit_head``.
    """
    rows, scales = _weighed(check_rows(values, labels, n_classes, groups), fitted.widths)
    with _fitting_threads(rows):
        return _for_raw_features(_REFIT[fitted.head.kind](rows, fitted), scales)


def _weighed(rows: TrainingRows, widths: Sequence[int]) -> tuple[TrainingRows, NDArray[np.float32] | None]:
    """Divide the columns of each depth by one number, so that every depth weighs the same."""
    if not widths:
        return rows, None
    scales = depth_scales(rows.values, widths)
    return replace(rows, values=rows.values / scales), scales


def _for_raw_features(head: Head, scales: NDArray[np.float32] | None) -> Head:
    """Return the head for features as they come; it was fitted on features divided by ``scales`` (D,)."""
    if scales is None:
        return head
    linear = cast(LinearHead, head)
    return replace(linear, weight=linear.weight / scales)


def _refit_logistic(rows: TrainingRows, fitted: FittedHead) -> Head:
    from thawline.heads.logistic import fit_at

    return fit_at(rows, fitted.chosen)


def _refit_svm(rows: TrainingRows, fitted: FittedHead) -> Head:
    from thawline.heads.svm import fit_at

    return fit_at(rows, fitted.chosen, cast(LinearHead, fitted.head).temperature)


def _refit_ridge(rows: TrainingRows, fitted: FittedHead) -> Head:
    from thawline.heads.ridge import fit_ridge

    return fit_ridge(rows, penalties=(fitted.chosen / rows.values.shape[1],))[0]


def _refit_knn(rows: TrainingRows, fitted: FittedHead) -> Head:
    from thawline.heads.knn import fit_knn

    return fit_knn(rows, k=int(fitted.chosen))[0]


_REFIT = {"logistic": _refit_logistic, "ridge": _refit_ridge, "svm": _refit_svm, "knn": _refit_knn}
