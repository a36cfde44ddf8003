"""Fit logistic regression, multinomial or of each label by itself; cross-validation chooses its L2 strength."""

from __future__ import annotations

from collections.abc import Sequence

from thawline.heads.head import LinearHead
from thawline.heads.losses import BinaryLogLoss, LogLoss, Loss
from thawline.heads.path import StrengthPath, choose_strength, fit_all_rows
from thawline.heads.problems import Weights
from thawline.heads.row_space import RowSpace, scale_features
from thawline.heads.tasks import task_of
from thawline.heads.training_rows import TrainingRows
from thawline.listening import Progress


def fit_logistic(
    rows: TrainingRows,
    *,
    strengths: Sequence[float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[LinearHead, StrengthPath]:
    """Choose C by cross-validated log loss, then fit on all rows at tight tolerance. All labels share one C.

    Args:
        strengths: Values of C on globally scaled features, all of which are tried; without them, decades and then
            quarter decades around the best.
    Source:
        Objective: sklearn.linear_model.LogisticRegression (lbfgs); one global scale, warm start and refinement follow
        the protocol of DINOv2 (Oquab et al. 2023, arXiv:2304.07193).
    """
    space = scale_features(rows.values)
    path = choose_strength(
        rows, space, loss_of(rows), lambda decisions, labels: 1.0, strengths=strengths, seed=seed, progress=progress
    )
    return fit_at(rows, path.strength, space=space, start=path.start), path


def fit_at(
    rows: TrainingRows, strength: float, *, space: RowSpace | None = None, start: Weights | None = None
) -> LinearHead:
    """Fit on all rows at one C, to a gradient of 1e-7; C counts on globally scaled features."""
    space = space or scale_features(rows.values)
    target = task_of(rows.truth).target
    return LinearHead("logistic", *fit_all_rows(rows, space, loss_of(rows), strength, start), target=target)


def loss_of(rows: TrainingRows) -> Loss:
    """Return the log loss of what the rows are to teach: one class each, or labels, each by itself."""
    return LogLoss() if rows.targets is None else BinaryLogLoss()
