"""Fit logistic regression on many columns of which each row has few, such as the terms of a text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thawline.heads.columns import column_space
from thawline.heads.folds import stratified_group_folds
from thawline.heads.head import LinearHead
from thawline.heads.logistic import loss_of
from thawline.heads.path import ABSENT_LOGIT, N_FOLDS, StrengthPath, choose_strength, held_out_logits
from thawline.heads.solver import solve
from thawline.heads.tasks import task_of
from thawline.heads.training_rows import TrainingRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.listening import Progress

STRENGTHS = tuple(10 ** (half / 2) for half in range(1, 6))
"""Values of C, for rows of length 1 or so, as scikit-learn counts them: those of TF-IDF are nearly always between."""
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Of ridge, likewise."""
MOST_TO_CHOOSE = 3_000
"""Rows that choose C, at most: it changes little with more, and all rows are fitted once at the end."""
ALL_FOLDS = 1_000
"""Rows up to which each fold is held out in turn; beyond, one is."""
ROUGH = 2e-3
"""Tolerance of the fits that choose C."""
TOLERANCE, ITERATIONS = 1e-3, 60
"""Of the last fit: from there on no more than the third digit of the log loss changes."""


def fit_sparse(
    rows: TrainingRows, *, seed: int = 0, progress: Progress | None = None
) -> tuple[LinearHead, StrengthPath]:
    """Choose C by cross-validated log loss on some of the rows, then fit on all of them.

    Args:
        rows: Their features are sparse.
    Source:
        Objective: sklearn.linear_model.LogisticRegression.
    """
    space, taken = column_space(rows.values), _taken(rows, seed)
    some = _some(rows, taken)
    one_fold = len(some) > ALL_FOLDS
    path = choose_strength(
        some,
        space.of(taken),
        loss_of(rows),
        lambda decisions, labels: 1.0,
        strengths=STRENGTHS,
        seed=seed,
        progress=progress,
        one_fold=one_fold,
        tolerance=ROUGH,
    )
    present, labels = rows.present()
    problems = space.problems(labels, len(present), loss_of(rows), np.ones((1, len(rows)), dtype=np.bool_))
    # What some of the rows taught is a good start for all of them, unless they lack a class.
    start = path.start if path.start is not None and len(some.present()[0]) == len(present) else problems.start()
    fitted = solve(problems, path.strength, start, tolerance=TOLERANCE, max_iterations=ITERATIONS)
    weight = np.zeros((rows.n_classes, rows.values.shape[1]))
    weight[np.ix_(present, space.order)] = fitted.weight[0]
    bias = np.full(rows.n_classes, ABSENT_LOGIT)
    bias[present] = fitted.bias[0]
    head = LinearHead("logistic", weight, bias, target=task_of(rows.truth).target)
    return head, replace(path, held_out_logits=None, start=None)


def fit_sparse_ridge(rows: TrainingRows, *, seed: int = 0) -> tuple[LinearHead, float, tuple[dict[str, float], ...]]:
    """Choose a penalty by the squared error of rows held out, then fit numbers on all rows.

    Returns:
        The head, the penalty, and what each of those tried reached.
    Source:
        sklearn.linear_model.Ridge, by conjugate gradients.
    """
    from sklearn.linear_model import Ridge

    fold = stratified_group_folds(rows.labels, rows.groups, N_FOLDS, seed)
    chosen, steps, truth = PENALTIES[-1], [], rows.truth
    if fold.max() > 0:
        inside = fold == 0
        for penalty in PENALTIES:
            model = Ridge(penalty, solver="sparse_cg").fit(rows.values[~inside], truth[~inside])
            error = model.predict(rows.values[inside]).reshape(-1, rows.n_classes) - truth[inside]
            steps.append({"lambda": penalty, "mean": float(np.square(error).mean())})
        chosen = min(reversed(steps), key=lambda step: step["mean"])["lambda"]
    model = Ridge(chosen, solver="sparse_cg").fit(rows.values, truth)
    weight = np.asarray(model.coef_, np.float64).reshape(rows.n_classes, -1)
    bias = np.asarray(model.intercept_, np.float64).reshape(rows.n_classes)
    return LinearHead("ridge", weight, bias, target=task_of(truth).target), chosen, tuple(steps)


def held_out_sparse(rows: TrainingRows, fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return logits (N, n_classes), each row's by a fit on the other folds; see ``heads.held_out_logits``."""
    space = column_space(rows.values)
    return held_out_logits(
        rows, space, loss_of(rows), lambda decisions, labels: 1.0, fold, strengths=STRENGTHS, tolerance=ROUGH
    )


def _taken(rows: TrainingRows, seed: int) -> NDArray[np.bool_]:
    """Say of each row (N,) whether it helps to choose C: about ``MOST_TO_CHOOSE``, in whole groups, of all classes."""
    if len(rows) <= MOST_TO_CHOOSE:
        return np.ones(len(rows), np.bool_)
    pieces = -(-4 * len(rows) // MOST_TO_CHOOSE)
    taken = np.asarray(stratified_group_folds(rows.labels, rows.groups, pieces, seed) < 4)
    return taken if len(np.unique(rows.labels[taken])) > 1 else np.ones(len(rows), np.bool_)


def _some(rows: TrainingRows, taken: NDArray[np.bool_]) -> TrainingRows:
    groups = np.unique(rows.groups[taken], return_inverse=True)[1].astype(np.int64)
    targets = None if rows.targets is None else rows.targets[taken]
    return replace(rows, values=rows.values[taken], labels=rows.labels[taken], groups=groups, targets=targets)
