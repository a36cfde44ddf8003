"""Fit a linear support vector machine, each class against the rest; cross-validation chooses its strength."""

from __future__ import annotations

from collections.abc import Sequence

from thawline.heads.head import LinearHead
from thawline.heads.losses import SquaredHinge
from thawline.heads.path import StrengthPath, choose_strength, fit_all_rows
from thawline.heads.problems import Weights
from thawline.heads.row_space import RowSpace, scale_features
from thawline.heads.temperature import fit_temperature
from thawline.heads.training_rows import TrainingRows
from thawline.listening import Progress


def fit_svm(
    rows: TrainingRows,
    *,
    strengths: Sequence[float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[LinearHead, StrengthPath]:
    """Choose C by cross-validated log loss, then fit on all rows at tight tolerance.

    The decisions become probabilities through a softmax whose temperature is fitted on those of the rows held out.

    Args:
        strengths: As in ``fit_logistic``.
    Source:
        Objective: sklearn.svm.LinearSVC (squared hinge), but for the bias, which is not penalised here.
    """
    space = scale_features(rows.values)
    path = choose_strength(
        rows,
        space,
        SquaredHinge(),
        lambda decisions, labels: fit_temperature(decisions, labels)[0],
        strengths=strengths,
        seed=seed,
        progress=progress,
    )
    return fit_at(rows, path.strength, path.temperature, space=space, start=path.start), path


def fit_at(
    rows: TrainingRows,
    strength: float,
    temperature: float,
    *,
    space: RowSpace | None = None,
    start: Weights | None = None,
) -> LinearHead:
    """Fit on all rows at one C, to a gradient of 1e-7; C counts on globally scaled features."""
    space = space or scale_features(rows.values)
    return LinearHead("svm", *fit_all_rows(rows, space, SquaredHinge(), strength, start), temperature=temperature)
