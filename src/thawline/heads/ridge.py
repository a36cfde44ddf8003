"""Fit ridge: least squares on numbers, or on -1 and +1; leave-one-out in closed form chooses the penalty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thawline.heads.head import LinearHead
from thawline.heads.row_space import RowSpace, scale_features
from thawline.heads.tasks import task_of
from thawline.heads.temperature import fit_temperature
from thawline.heads.training_rows import TrainingRows

PENALTIES = tuple(10 ** (half / 2) for half in range(-8, 9))
"""Lambda divided by D, on features of unit variance overall."""
UNCHOSEN_PENALTY = 1.0
"""If all rows are one group, nothing can be left out, and this penalty is used."""


@dataclass(frozen=True, slots=True, eq=False)
class RidgePath:
    """Every penalty that was tried, and what it reached on rows left out."""

    steps: tuple[dict[str, float], ...]
    """In ascending lambda: lambda, mean (log loss after temperature), squared_error, accuracy, temperature."""
    penalty: float
    log_loss: float | None
    held_out_logits: NDArray[np.float64] | None
    """(N, C) at the chosen penalty, after temperature."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Centred, scaled features as U sqrt(e) V', and the targets."""

    space: RowSpace
    left: NDArray[np.float64]
    """U (N, R)"""
    targets: NDArray[np.float64]
    """(N, C) of -1 and +1; or numbers, each column of mean 0 and variance 1."""
    centred: NDArray[np.float64]
    """(N, C) targets less their mean."""
    explained: NDArray[np.float64]
    """U' centred (R, C), the same for every penalty."""

    def coefficients(self, penalty: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weight (C, D) and bias (C,) for features as they come; ``penalty`` counts on scaled features."""
        eigenvalues = self.space.eigenvalues
        shrunk = np.sqrt(eigenvalues) / (eigenvalues + penalty)
        weight = self.space.to_features((self.targets.T @ self.left) * shrunk)
        return weight, self.targets.mean(axis=0) - weight @ self.space.mean

    def left_out(self, penalty: float, groups: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return decisions (N, C), each row's by the fit on all other groups.

        With the hat matrix H = 1/N + U e/(e + lambda) U', leaving out rows G turns their residuals r into
        (I - H_GG)^-1 r; for one row that is r / (1 - h_ii).

        Args:
            groups: (N,) numbered 0..G-1, at least two.
        """
        shrink = self.space.eigenvalues / (self.space.eigenvalues + penalty)
        residual = self.centred - (self.left * shrink) @ self.explained
        decisions = self.targets.copy()
        n = len(residual)
        for rows in _groups_by_size(groups):  # (M, G): M groups of G rows
            if rows.shape[1] == 1:
                leverage = 1 / n + np.square(self.left[rows[:, 0]]) @ shrink
                decisions[rows[:, 0]] -= residual[rows[:, 0]] / (1 - leverage[:, None])
                continue
            own = self.left[rows]  # (M, G, R)
            kept = np.eye(rows.shape[1]) - 1 / n - (own * shrink) @ own.transpose(0, 2, 1)
            decisions[rows] -= np.linalg.solve(kept, residual[rows])
        return decisions


def spectrum(space: RowSpace, rows: TrainingRows) -> Spectrum:
    """Join a row space with the targets of its rows."""
    left, targets = space.left(), _targets(rows)
    centred = targets - targets.mean(axis=0)
    return Spectrum(space, left, targets, centred, left.T @ centred)


def _targets(rows: TrainingRows) -> NDArray[np.float64]:
    """Return what is fitted (N, C)."""
    if rows.targets is None:
        return 2 * np.eye(rows.n_classes)[rows.labels] - 1
    if rows.targets.dtype == np.bool_:
        return 2.0 * rows.targets - 1
    mean, scale = _unit(rows)
    return np.asarray((rows.targets - mean) / scale)


def _unit(rows: TrainingRows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation (C,) of numbers; 0 and 1 of classes and labels."""
    if rows.targets is None or rows.targets.dtype == np.bool_:
        return np.zeros(rows.n_classes), np.ones(rows.n_classes)
    scale = rows.targets.std(axis=0)
    return rows.targets.mean(axis=0), np.where(scale > 0, scale, 1.0)


def fit_ridge(rows: TrainingRows, *, penalties: Sequence[float] = PENALTIES) -> tuple[LinearHead, RidgePath]:
    """Choose lambda by the log loss of rows left out (with their group), then fit on all rows.

    The decisions become probabilities through a softmax whose temperature is fitted on those of the rows left out.

    Args:
        penalties: Values of lambda / D on globally scaled features.
    Source:
        Targets as sklearn.linear_model.RidgeClassifier; leave-one-out: Rifkin and Lippert 2007, "Notes on regularized
        least squares", MIT-CSAIL-TR-2007-025.
    """
    return solve_ridge(spectrum(scale_features(rows.values), rows), rows, penalties)


def solve_ridge(
    basis: Spectrum, rows: TrainingRows, penalties: Sequence[float] = PENALTIES
) -> tuple[LinearHead, RidgePath]:
    """Do what ``fit_ridge`` does in a row space that is known."""
    path = leave_one_out(basis, rows, penalties)
    temperature = next((step["temperature"] for step in path.steps if step["lambda"] == path.penalty), 1.0)
    weight, bias = basis.coefficients(path.penalty)
    target = task_of(rows.truth).target
    if target == "number":
        mean, scale = _unit(rows)
        weight, bias = weight * scale[:, None], bias * scale + mean
    return LinearHead("ridge", weight, bias, temperature=temperature, target=target), path


def leave_one_out(basis: Spectrum, rows: TrainingRows, penalties: Sequence[float] = PENALTIES) -> RidgePath:
    """Judge every penalty on rows left out; the smallest log loss wins, the stronger penalty among equals."""
    width = len(basis.space.mean)
    if rows.groups.max() == 0:
        return RidgePath((), UNCHOSEN_PENALTY * width, None, None)
    steps, decisions = [], []
    for penalty in sorted(penalties):
        left_out = basis.left_out(penalty * width, rows.groups)
        steps.append({"lambda": penalty * width} | _judge(left_out, basis.targets, rows))
        decisions.append(left_out)
    chosen = max(range(len(steps)), key=lambda i: (-steps[i]["mean"], i))
    step = steps[chosen]
    held_out = decisions[chosen] / step["temperature"]
    if task_of(rows.truth).target == "number":
        mean, scale = _unit(rows)
        held_out = held_out * scale + mean
    return RidgePath(tuple(steps), step["lambda"], step["mean"], held_out)


def _judge(decisions: NDArray[np.float64], targets: NDArray[np.float64], rows: TrainingRows) -> dict[str, float]:
    squared_error = float(np.mean(np.square(decisions - targets)))
    if rows.targets is not None:
        task = task_of(rows.targets)
        if task.target == "number":
            return {"mean": squared_error, "squared_error": squared_error, "temperature": 1.0}
        temperature = task.temperature(decisions, rows.targets)
        mean = float(task.row_losses(decisions / temperature, rows.targets).mean())
        return {"mean": mean, "squared_error": squared_error, "temperature": temperature}
    labels = rows.labels
    temperature, loss = fit_temperature(decisions, labels)
    return {
        "mean": loss,
        "squared_error": squared_error,
        "accuracy": float(np.mean(decisions.argmax(axis=1) == labels)),
        "temperature": temperature,
    }


def _groups_by_size(groups: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield, for each size G of group, the rows (M, G) of the M groups of that size."""
    sizes = np.bincount(groups)
    for size in np.unique(sizes[groups]):
        rows = np.flatnonzero(sizes[groups] == size)
        yield rows[np.argsort(groups[rows], kind="stable")].reshape(-1, size)
