"""Multinomial logistic regression, its L2 strength chosen by cross-validation on the rows given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from thawline.heads.folds import stratified_group_folds
from thawline.heads.head import LinearHead
from thawline.heads.solver import Problems, Weights, solve
from thawline.heads.training_rows import TrainingRows

DECADES = tuple(10.0**power for power in range(-6, 5))
"""First pass over C, strong to weak, on features scaled to unit variance overall; stops once the loss clearly rises."""
REFINEMENT = (10**0.5, 10**0.25)
"""Second pass: half a decade to both sides of the best, then a quarter decade to both sides of the best of those."""
UNCHOSEN_STRENGTH = 1e-2
"""C where no class has two groups, so that nothing can be held out: strong, as rows are few."""
N_FOLDS = 5
ONE_FOLD_ROWS = 20_000
"""From here on one fold is held out instead of each in turn: its 4,000 rows and more tell strengths apart."""
ABSENT_LOGIT = -1e4
"""Bias of a class without a training row: its probability is 0, and the number can be stored."""
PATH_TOLERANCE, PATH_ITERATIONS = 1e-3, 100
TIGHT_TOLERANCE, TIGHT_ITERATIONS = 1e-7, 3000

Progress = Callable[[int, int], None]
"""Called with the number of strengths tried and the number foreseen."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Features centred and divided by one number, in as few columns as hold them.

    Every row of W that the penalty keeps lies in the span of the rows, so where D > N the features are replaced by
    their coordinates in an orthonormal basis of that span: same solution, N columns.

    The mean and the scale come from all rows, held out or not. That leaks nothing: the bias is not penalised, so
    centring changes no solution, and the scale is only the unit in which C is counted.
    """

    scores: NDArray[np.float64]
    """(N, min(N, D))"""
    mean: NDArray[np.float64]
    """(D,)"""
    scale: float
    """Root mean square of the centred features; C here is C x scale^2 on features as they come."""
    basis: NDArray[np.float64] | None
    """(D, N) where D > N."""

    def to_features(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn weights on the scores (min(N, D), K) into weights on features as they come (D, K)."""
        return (weight if self.basis is None else self.basis @ weight) / self.scale


def scale_features(values: NDArray[np.float32]) -> Scaled:
    """Centre (N, D), divide by one global scale and, where D > N, rotate into the span of the rows."""
    centred = values.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    scale = float(np.sqrt(np.mean(np.square(centred)))) or 1.0  # constant features: nothing to divide
    centred /= scale
    if centred.shape[1] <= len(centred):
        return Scaled(centred, mean, scale, None)
    basis, triangle = np.linalg.qr(centred.T)  # (D, N), (N, N)
    return Scaled(np.ascontiguousarray(triangle.T), mean, scale, basis)


@dataclass(frozen=True, slots=True, eq=False)
class LogisticPath:
    """Every strength that was tried, and what it reached on rows it was not fitted on."""

    steps: tuple[dict[str, float], ...]
    """In ascending C: C, mean and standard_error of the log loss, iterations."""
    strength: float
    log_loss: float | None
    held_out_logits: NDArray[np.float64] | None
    """(N, n_classes) at the chosen strength, each row by the fit that had not seen it; nan where there was none."""
    start: Weights | None
    """Solution for all rows together to start the last fit from."""


def fit_logistic(
    rows: TrainingRows,
    *,
    strengths: Sequence[float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[LinearHead, LogisticPath]:
    """Choose C by cross-validated log loss, then fit on all rows at tight tolerance.

    Args:
        strengths: Values of C on globally scaled features, all of which are tried; without them, decades and then
            quarter decades around the best.
    Source:
        Objective: sklearn.linear_model.LogisticRegression (lbfgs); one global scale, warm start and refinement follow
        the protocol of DINOv2 (Oquab et al. 2023, arXiv:2304.07193).
    """
    scaled = scale_features(rows.values)
    path = choose_strength(rows, scaled, strengths=strengths, seed=seed, progress=progress)
    return fit_at(rows, path.strength, scaled=scaled, start=path.start), path


def fit_at(
    rows: TrainingRows, strength: float, *, scaled: Scaled | None = None, start: Weights | None = None
) -> LinearHead:
    """Fit on all rows at one C, to a gradient of 1e-7; C counts on globally scaled features."""
    scaled = scaled or scale_features(rows.values)
    problems = _problems(rows, scaled, np.ones((len(rows), 1), dtype=np.bool_))
    # The first part of the way in float32, in which an iteration takes half the time.
    rough = solve(
        problems, strength, start or problems.start(), tolerance=PATH_TOLERANCE, max_iterations=PATH_ITERATIONS
    )
    exact = replace(problems, scores=scaled.scores)
    fitted = solve(exact, strength, rough, tolerance=TIGHT_TOLERANCE, max_iterations=TIGHT_ITERATIONS)
    present = np.unique(rows.labels)
    weight = np.zeros((rows.n_classes, rows.values.shape[1]))
    weight[present] = scaled.to_features(fitted.weight[:, 0]).T
    bias = np.full(rows.n_classes, ABSENT_LOGIT)
    bias[present] = fitted.bias[0] - weight[present] @ scaled.mean
    return LinearHead("logistic", weight, bias)


def choose_strength(
    rows: TrainingRows,
    scaled: Scaled,
    *,
    strengths: Sequence[float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LogisticPath:
    """Cross-validate C; the smallest mean log loss over the held-out rows wins, the stronger penalty among equals.

    A row whose class no other group shows cannot be predicted by anything; it is left out of the mean.
    """
    fold = stratified_group_folds(rows.labels, rows.groups, N_FOLDS, seed)
    held_out = fold[:, None] == np.arange(1 if len(rows) >= ONE_FOLD_ROWS else fold.max() + 1)  # (N, F)
    held_out = held_out[:, ~held_out.all(axis=0)]
    trial = _Trial(_problems(rows, scaled, ~held_out), held_out & _learnable(rows, held_out), rows.groups)
    if not trial.judged.any():
        return LogisticPath((), UNCHOSEN_STRENGTH, None, None, None)
    report = progress or (lambda tried, foreseen: None)
    if strengths is None:
        trial.search(report)
    else:
        trial.run_all(sorted(strengths), report)
    best = trial.best()
    steps = tuple(trial.steps[strength] for strength in sorted(trial.steps))
    return LogisticPath(steps, best, trial.steps[best]["mean"], trial.logits(best, rows), trial.together(best))


class _Trial:
    """A cross-validation that remembers each strength it has tried."""

    def __init__(self, problems: Problems, judged: NDArray[np.bool_], groups: NDArray[np.int64]) -> None:
        self.problems, self.judged, self.groups = problems, judged, groups
        self.solutions: dict[float, Weights] = {}
        self.steps: dict[float, dict[str, float]] = {}

    def run(self, strength: float) -> None:
        known = min(self.solutions, key=lambda c: abs(math.log(c / strength)), default=None)
        start = self.problems.start() if known is None else self.solutions[known]
        solution = solve(self.problems, strength, start, tolerance=PATH_TOLERANCE, max_iterations=PATH_ITERATIONS)
        losses = self.problems.losses(solution)[1]
        row_losses = losses[self.judged].astype(np.float64)
        mean, error = _mean_and_error(row_losses, self.groups[np.nonzero(self.judged)[0]])
        self.solutions[strength] = solution
        self.steps[strength] = {
            "C": strength,
            "mean": mean,
            "standard_error": error,
            "iterations": float(solution.iterations),
        }

    def run_all(self, strengths: Sequence[float], report: Progress) -> None:
        foreseen = len(self.steps) + len(strengths)
        for strength in strengths:
            self.run(strength)
            report(len(self.steps), foreseen)

    def search(self, report: Progress) -> None:
        """Walk the decades until the loss clearly rises, then close in on the best."""
        foreseen = len(DECADES) + 2 * len(REFINEMENT)
        for strength in DECADES:
            self.run(strength)
            report(len(self.steps), foreseen)
            if self.has_clearly_risen(strength):
                break
        foreseen = len(self.steps) + 2 * len(REFINEMENT)
        for factor in REFINEMENT:
            centre = self.best()
            for strength in (centre / factor, centre * factor):
                self.run(strength)
                report(len(self.steps), foreseen)

    def best(self) -> float:
        """Return the strength with the smallest mean loss, the stronger penalty among equals."""
        return min(sorted(self.steps), key=lambda strength: self.steps[strength]["mean"])

    def has_clearly_risen(self, strength: float) -> bool:
        """Say whether the loss stands more than one standard error above the best so far.

        All strengths are judged on the same rows, so that their differences are far surer than each of them.
        """
        best = self.steps[self.best()]
        return self.steps[strength]["mean"] > best["mean"] + best["standard_error"]

    def together(self, strength: float) -> Weights | None:
        """Return the mean of the folds' solutions, near that of all rows; None where a fold lacks a class."""
        solution = self.solutions[strength]
        mean = Weights(solution.weight.mean(axis=1, keepdims=True), solution.bias.mean(axis=0, keepdims=True))
        return mean if np.isfinite(mean.bias).all() else None

    def logits(self, strength: float, rows: TrainingRows) -> NDArray[np.float64]:
        held_out = ~self.problems.counted
        present = np.unique(rows.labels)
        logits = np.full((len(rows), rows.n_classes), np.nan)
        where, fold = np.nonzero(held_out)
        given = np.maximum(self.problems.logits(self.solutions[strength])[where, fold], ABSENT_LOGIT)
        logits[where] = ABSENT_LOGIT
        logits[np.ix_(where, present)] = given
        return logits


def _problems(rows: TrainingRows, scaled: Scaled, counted: NDArray[np.bool_]) -> Problems:
    scores = scaled.scores.astype(np.float32)
    present, labels = np.unique(rows.labels, return_inverse=True)
    gram = (scores.T @ scores).astype(np.float64)
    return Problems(scores, gram, labels.astype(np.int64), counted, len(present))


def _learnable(rows: TrainingRows, held_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say (N, F) whether the fit of each fold has seen the row's class."""
    one_hot = np.eye(rows.n_classes)[rows.labels]
    seen = (~held_out).T.astype(np.float64) @ one_hot > 0  # (F, C)
    return seen.T[rows.labels]


def _mean_and_error(losses: NDArray[np.float64], groups: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean over rows and its standard error, groups being the units that vary independently."""
    mean = losses.mean()
    by_group = np.bincount(groups, weights=losses - mean)
    return float(mean), float(np.sqrt(np.square(by_group).sum()) / len(losses))
