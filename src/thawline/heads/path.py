"""Choose the strength of regularisation of a linear head by cross-validation along a path of strengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.heads.columns import ColumnSpace
from thawline.heads.folds import stratified_group_folds
from thawline.heads.losses import Loss
from thawline.heads.problems import Problems, Weights
from thawline.heads.row_space import RowSpace
from thawline.heads.solver import solve
from thawline.heads.tasks import task_of
from thawline.heads.training_rows import TrainingRows
from thawline.listening import Progress

DECADES = tuple(10.0**power for power in range(-6, 5))
"""First pass over C, strong to weak, on features scaled to unit variance overall; stops once the loss clearly rises."""
REFINEMENT = (10**0.5, 10**0.25)
"""Second pass: half a decade to both sides of the best, then a quarter decade to both sides of the best of those."""
UNCHOSEN_STRENGTH = 1e-2
"""C if no class has two groups, so that nothing can be held out: strong, as rows are few."""
N_FOLDS = 5
ONE_FOLD_ROWS = 20_000
"""From here on one fold is held out instead of each in turn: its 4,000 rows and more tell strengths apart."""
ABSENT_LOGIT = -1e4
"""Bias of a class without a training row: its probability is 0, and the number can be stored."""
PATH_TOLERANCE, PATH_ITERATIONS = 3e-4, 200
"""As exact as scikit-learn at 1e-4, which counts in other coordinates: the log loss near the best C to about 1e-4."""
NEAR_TOLERANCE, NEAR_ITERATIONS = 1e-5, 400
"""As far as float32 goes for certain."""
TIGHT_TOLERANCE, TIGHT_ITERATIONS = 1e-7, 3000
TURNED_PER_COLUMN = 300
"""Rows per column of weights from which the weights are turned at every pass, instead of the features once: a path
makes about 150 passes there and back."""
WORTH_BLOCKS = 2**20
"""Features, N x M, from which it pays that each fold passes over the rows that it holds out."""

Calibrate = Callable[[NDArray[np.float64], NDArray[Any]], float]
"""From decisions (M, K) on rows held out and their labels to the temperature that makes them logits."""


@dataclass(frozen=True, slots=True, eq=False)
class StrengthPath:
    """Every strength that was tried, and what it reached on rows that were held out."""

    steps: tuple[dict[str, float], ...]
    """In ascending C: C, mean and standard_error of the log loss, temperature, iterations."""
    strength: float
    log_loss: float | None
    temperature: float
    held_out_logits: NDArray[np.float64] | None
    """(N, n_classes) at the chosen strength, each row by the fit that had not seen it; nan without one."""
    start: Weights | None
    """Solution for all rows together to start the last fit from."""


def choose_strength(
    rows: TrainingRows,
    space: RowSpace | ColumnSpace,
    loss: Loss,
    calibrate: Calibrate,
    *,
    strengths: Sequence[float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    one_fold: bool = False,
    tolerance: float = PATH_TOLERANCE,
) -> StrengthPath:
    """Cross-validate C; the smallest mean log loss over the held-out rows wins, the stronger penalty among equals.

    A row whose class occurs in no other group cannot be predicted; it is left out of the mean.

    Args:
        strengths: Values of C, all of which are tried; without them, decades and then quarter decades around the best.
        one_fold: Hold out one fold instead of each in turn, however few the rows.
        tolerance: Of each fit.
    """
    fold = stratified_group_folds(rows.labels, rows.groups, N_FOLDS, seed)
    one_fold = one_fold or len(rows) >= ONE_FOLD_ROWS
    held_out = fold == np.arange(1 if one_fold else fold.max() + 1)[:, None]  # (F, N)
    held_out = held_out[~held_out.all(axis=1)]  # with one group, its fold would leave nothing to fit
    if not _predictable(rows, held_out).any():
        return StrengthPath((), UNCHOSEN_STRENGTH, None, 1.0, None, None)
    trial = _trial(rows, space, loss, calibrate, held_out, fold, tolerance)
    trial.try_out(strengths, progress or (lambda tried, foreseen: None))
    best = trial.best()
    step = trial.steps[best]
    steps = tuple(trial.steps[strength] for strength in sorted(trial.steps))
    return StrengthPath(steps, best, step["mean"], step["temperature"], trial.logits(best, rows), trial.together(best))


def held_out_logits(
    rows: TrainingRows,
    space: RowSpace | ColumnSpace,
    loss: Loss,
    calibrate: Calibrate,
    fold: NDArray[np.int64],
    *,
    strengths: Sequence[float] | None = None,
    tolerance: float = PATH_TOLERANCE,
) -> NDArray[np.float64]:
    """Return logits (N, n_classes) of each row by a fit on the other folds; nan if these lack a second class.

    All folds share one search for C. Each takes the C that is best for the rows of the others: its own labels have no
    say in it. Nested cross-validation would cost several times as much, for fits on fewer rows.

    Args:
        fold: (N,) 0..F-1.
        strengths, tolerance: As in ``choose_strength``.
    """
    held_out = fold == np.arange(fold.max() + 1)[:, None]  # (F, N)
    held_out = held_out[[len(np.unique(rows.labels[~out])) > 1 for out in held_out]]
    if not len(held_out):
        return np.full((len(rows), rows.n_classes), np.nan)
    trial = _trial(rows, space, loss, calibrate, held_out, fold, tolerance)
    if trial.judged.any():
        trial.try_out(strengths, lambda tried, foreseen: None)
    logits = np.full((len(rows), rows.n_classes), np.nan)
    for inside in held_out:
        strength = trial.best_for(~inside)
        logits[inside] = trial.logits(strength, rows)[inside]
    return logits


def _trial(
    rows: TrainingRows,
    space: RowSpace | ColumnSpace,
    loss: Loss,
    calibrate: Calibrate,
    held_out: NDArray[np.bool_],
    fold: NDArray[np.int64],
    tolerance: float,
) -> _Trial:
    """Return a cross-validation in which problem f holds out the rows of ``held_out[f]``, all of one fold."""
    order = np.arange(len(rows))
    if isinstance(space, ColumnSpace):
        present, labels = rows.present()
        problems: Problems = space.problems(labels, len(present), loss, ~held_out)
        return _Trial(problems, order, _predictable(rows, held_out), rows.groups, calibrate, tolerance)
    problems = rough_problems(rows, space, loss, ~held_out)
    # A fold has no use for the rows that it holds out; below this size, products over blocks cost more than they save.
    if problems.scores.size >= WORTH_BLOCKS:
        # Rows of one fold side by side are a slice: each problem skips its own without a copy.
        order = np.lexsort((fold, ~held_out.any(axis=0)))
        problems = with_blocks(problems, order)
    return _Trial(problems, order, _predictable(rows, held_out), rows.groups, calibrate, tolerance)


def fit_all_rows(
    rows: TrainingRows, space: RowSpace, loss: Loss, strength: float, start: Weights | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weight (n_classes, D) and bias (n_classes,), for features as they come, to a gradient of 1e-7.

    Args:
        strength: C on globally scaled features.
    """
    rough = rough_problems(rows, space, loss, np.ones((1, len(rows)), dtype=np.bool_))
    # The first part of the way in float32, in which a pass takes half the time; the rest in float64, as rounding hides
    # a gradient of 1e-7 in float32.
    start = start or rough.start()
    near = solve(rough, strength, start, tolerance=NEAR_TOLERANCE, max_iterations=NEAR_ITERATIONS)
    exact = _exact(rough, space)
    fitted = solve(exact, strength, near, tolerance=TIGHT_TOLERANCE, max_iterations=TIGHT_ITERATIONS)
    present = rows.present()[0]
    weight = np.zeros((rows.n_classes, rows.values.shape[1]))
    weight[present] = space.to_features(fitted.weight[0].astype(np.float64))
    bias = np.full(rows.n_classes, ABSENT_LOGIT)
    bias[present] = fitted.bias[0] - weight[present] @ space.mean
    return weight, bias


def rough_problems(rows: TrainingRows, space: RowSpace, loss: Loss, counted: NDArray[np.bool_]) -> Problems:
    """Return the problems in float32; ``counted`` is (F, N)."""
    present, labels = rows.present()
    turn = None
    # Either all columns are turned once (N x D x R), or the weights in every pass (F x K x D x R, 150 times, there and
    # back): with many rows and few classes the latter is less.
    if space.left_of_wide is not None:
        scores = (space.left_of_wide * np.sqrt(space.eigenvalues)).astype(np.float32)
    else:
        scores, turn = space.centred.astype(np.float32), space.basis.astype(np.float32)
        if len(rows) < TURNED_PER_COLUMN * len(counted) * len(present):
            scores, turn = scores @ turn, None
    return Problems(scores, turn, space.eigenvalues, labels, counted, len(present), loss)


def with_blocks(problems: Problems, order: NDArray[np.intp]) -> Problems:
    """Return the problems on rows in another order, in which those held out of each problem stand together."""
    counted = problems.counted[:, order]
    blocks = []
    for f in range(len(counted)):
        rows = np.flatnonzero(~counted[f])
        blocks.append((slice(int(rows[0]), int(rows[-1]) + 1), f))
    end = blocks[-1][0].stop
    if end < len(order):
        blocks.append((slice(end, len(order)), -1))  # these count in all
    return replace(
        problems, scores=problems.scores[order], labels=problems.labels[order], counted=counted, blocks=tuple(blocks)
    )


def _exact(rough: Problems, space: RowSpace) -> Problems:
    """Return the same problems in float64."""
    if space.left_of_wide is not None:
        return replace(rough, scores=space.left_of_wide * np.sqrt(space.eigenvalues), turn=None)
    return replace(rough, scores=space.centred, turn=space.basis)


class _Trial:
    """A cross-validation that remembers each strength it has tried."""

    def __init__(
        self,
        problems: Problems,
        order: NDArray[np.intp],
        judged: NDArray[np.bool_],
        groups: NDArray[np.int64],
        calibrate: Calibrate,
        tolerance: float = PATH_TOLERANCE,
    ) -> None:
        """Begin without any.

        Args:
            problems: On the rows in this order.
            order: (N,)
            judged: (N,) rows that count in the mean loss, in their own order.
            groups: (N,) likewise.
        """
        self.problems, self.judged, self.calibrate = problems, judged, calibrate
        self._tolerance = tolerance
        self._order, self._judged = order, judged[order]
        self.labels, self.groups = problems.labels[self._judged], groups[order][self._judged]
        self.solutions: dict[float, Weights] = {}
        self.steps: dict[float, dict[str, float]] = {}
        self._losses: dict[float, NDArray[np.float64]] = {}

    def run(self, strength: float) -> None:
        # From strong to weak: each solution is near the one before, and the extrapolation nearer still.
        start = extrapolate(self.solutions, strength) if self.solutions else self.problems.start()
        solution = solve(self.problems, strength, start, tolerance=self._tolerance, max_iterations=PATH_ITERATIONS)
        decisions = self.problems.held_out_decisions(solution)[self._judged].astype(np.float64)
        temperature = self.calibrate(decisions, self.labels) if len(decisions) else 1.0
        losses = task_of(self.labels).row_losses(decisions / temperature, self.labels)
        mean, error = _mean_and_error(losses, self.groups) if len(losses) else (math.nan, math.nan)
        self.solutions[strength], self._losses[strength] = solution, losses
        self.steps[strength] = {
            "C": strength,
            "mean": mean,
            "standard_error": error,
            "temperature": temperature,
            "iterations": float(solution.iterations),
        }

    def try_out(self, strengths: Sequence[float] | None, report: Progress) -> None:
        if strengths is None:
            self.search(report)
            return
        for strength in sorted(strengths):
            self.run(strength)
            report(len(self.steps), len(strengths))

    def search(self, report: Progress) -> None:
        """Walk the decades until the loss clearly rises, then close in on the best."""
        # Weak penalties take most iterations by far, and are seldom best: walking up from strong ones leaves them out.
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

    def best_for(self, among: NDArray[np.bool_]) -> float:
        """Return the strength with the smallest mean loss on some of the rows (N,); a strong one if none was judged."""
        asked = among[self._order][self._judged]
        if not asked.any():
            if UNCHOSEN_STRENGTH not in self.steps:
                self.run(UNCHOSEN_STRENGTH)
            return UNCHOSEN_STRENGTH
        return min(sorted(self.steps), key=lambda strength: float(self._losses[strength][asked].mean()))

    def has_clearly_risen(self, strength: float) -> bool:
        """Say whether the loss stands more than one standard error above the best so far.

        All strengths are judged on the same rows, so that their differences are far surer than each of them.
        """
        best = self.steps[self.best()]
        return self.steps[strength]["mean"] > best["mean"] + best["standard_error"]

    def together(self, strength: float) -> Weights | None:
        """Return the mean of the folds' solutions, near that of all rows; None if a fold lacks a class."""
        solution = self.solutions[strength]
        mean = Weights(solution.weight.mean(axis=0, keepdims=True), solution.bias.mean(axis=0, keepdims=True))
        # A class that one fold lacks has bias -inf there; the mean would keep it out of the softmax for good.
        return mean if np.isfinite(mean.bias).all() else None

    def logits(self, strength: float, rows: TrainingRows) -> NDArray[np.float64]:
        in_order = self.problems.held_out_decisions(self.solutions[strength])
        decisions = np.empty_like(in_order)
        decisions[self._order] = in_order
        where = np.flatnonzero(np.isfinite(decisions).any(axis=1))
        logits = np.full((len(rows), rows.n_classes), np.nan)
        logits[where] = ABSENT_LOGIT
        given = np.maximum(decisions[where] / self.steps[strength]["temperature"], ABSENT_LOGIT)
        logits[np.ix_(where, rows.present()[0])] = given
        return logits


def extrapolate(known: dict[float, Weights], strength: float, n_points: int = 3) -> Weights:
    """Guess the solution at another strength: the parabola in log C through the three nearest known ones."""
    near = sorted(known, key=lambda c: abs(math.log(c / strength)))[:n_points]
    at = [math.log(c / strength) for c in near]
    # Lagrange's weights; with one or two known solutions the parabola is a constant or a line.
    shares = [math.prod(other / (other - own) for other in at if other != own) for own in at]
    weight = sum(share * known[c].weight for share, c in zip(shares, near, strict=True))
    finite = np.isfinite(known[near[0]].bias)  # -inf stays what it is: the shares have both signs, inf - inf is nan
    bias = known[near[0]].bias.copy()
    bias[finite] = sum(share * known[c].bias[finite] for share, c in zip(shares, near, strict=True))
    return Weights(np.asarray(weight, bias.dtype), bias)


def _predictable(rows: TrainingRows, held_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say (N,) whether a row is held out by a fit that has seen its class."""
    if rows.targets is not None:
        return np.asarray(held_out.any(axis=0))
    one_hot = np.eye(rows.n_classes)[rows.labels]
    seen = (~held_out).astype(np.float64) @ one_hot > 0  # (F, C)
    return np.asarray((held_out & seen[:, rows.labels]).any(axis=0))


def _mean_and_error(losses: NDArray[np.float64], groups: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean over rows and its standard error, groups being the units that vary independently."""
    mean = losses.mean()
    # Rows of a group err together, so that their deviations are added before they are squared.
    by_group = np.bincount(groups, weights=losses - mean)
    return float(mean), float(np.sqrt(np.square(by_group).sum()) / len(losses))
