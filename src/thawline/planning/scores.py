"""Score how well features already hold the classes, before anything is trained on them.

All take features (N, D) and labels (N,), work in float64, and are higher for features that suit better. ``rank``
decides by the two that leave each row out in turn, kNN and ridge. The others are known to rank weakly; ``rank`` shows
them for comparison.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.errors import DataError
from thawline.heads import fit_depths
from thawline.heads.head import NeighboursHead, unit_rows
from thawline.heads.ridge import fit_ridge
from thawline.heads.row_space import is_wide
from thawline.heads.temperature import fit_temperature, row_log_losses
from thawline.heads.training_rows import check_rows
from thawline.planning.held_out import with_all_shares

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RATIOS = (1e-10, 1e8)
"""alpha / beta is searched between these, in units of the largest eigenvalue of F F'."""
_PER_DECADE = 6
_GOLDEN = (5**0.5 - 1) / 2
_REFINEMENTS = 80
"""Golden-section steps: from a third of a decade to the precision of the number format."""
ENERGY = 0.8
"""The mixture of NLEEP sees this share of the variance."""
PER_CLASS, ROWS_PER_COMPONENT = 5, 8
"""Components of that mixture for each class, and rows that each component must have on average."""


@dataclass(frozen=True, slots=True)
class ClassEvidence:
    """Largest evidence of one class, and the precisions that reach it."""

    value: float
    """Natural logarithm, of all N rows."""
    alpha: float
    """Precision of the weights."""
    beta: float
    """Precision of the noise."""


def log_evidence(features: ArrayLike, labels: ArrayLike) -> float:
    """Return LogME with the exact evidence: the mean over classes of ``class_evidence``, per row. Higher is better.

    The published code leaves out (D - k) / 2 log(alpha), where k is the rank of F. That term is zero for full rank and
    N > D; for N < D, noise of many columns outranks signal of few without it. Here columns of zeros change nothing.

    Args:
        features: F (N, D)
        labels: (N,) whole numbers of at least two classes.
    Raises:
        DataError: Shapes that do not agree, features that are not finite, or fewer than two classes.
    Source:
        You, Liu, Wang and Long 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
        arXiv:2102.11005.
    """
    found = class_evidence(features, labels)
    return sum(evidence.value for evidence in found) / len(found) / len(np.asarray(labels))


def class_evidence(features: ArrayLike, labels: ArrayLike) -> tuple[ClassEvidence, ...]:
    """Maximise the evidence of Bayesian linear regression from F to each class's column y of zeros and ones.

    With y = F w + noise, w ~ N(0, I/alpha) and noise ~ N(0, I/beta), the evidence is that of y ~ N(0, S):

        log p(y) = -1/2 (N log(2 pi) + log det S + y' S^-1 y),    S = I/beta + F F'/alpha

    For a given t = alpha/beta the best beta is N / q with q = y' (I + F F'/t)^-1 y, so only t is left to find:

        log p(y) = -1/2 (N log(2 pi e q / N) + sum_i log(1 + e_i/t)),    e the eigenvalues of F F'

    t is searched over eighteen decades (``RATIOS``), on a grid and then around its best place, because there may be
    several maxima. If the features reproduce y without error, the evidence grows towards the lower end and stops there.

    Args:
        features: F (N, D)
        labels: (N,)
    Returns:
        One for each class that occurs, in ascending order.
    Raises:
        DataError: As ``log_evidence``.
    Source:
        As ``log_evidence``; Bishop 2006, "Pattern Recognition and Machine Learning", section 3.5.
    """
    values, classes = _checked(features, labels)
    n, one_hot = len(values), _one_hot(classes)
    eigenvalues, along, beyond = _seen_from(values, one_hot)
    within = np.square(along).T  # (C, R)
    top = eigenvalues.max(initial=0) or 1.0  # features of zeros: any t gives the evidence of noise alone

    def best_beta(log_t: Floats) -> Floats:
        shrunk = within / (1 + eigenvalues / np.exp(log_t)[:, None])  # (C, R)
        return np.asarray(n / (shrunk.sum(axis=1) + beyond))

    def evidence(log_t: Floats) -> Floats:
        """Return the evidence of each class (C,), at its own log t (C,)."""
        log_det = np.log1p(eigenvalues / np.exp(log_t)[:, None]).sum(axis=1)
        return np.asarray(-(n * np.log(2 * np.pi * np.e / best_beta(log_t)) + log_det) / 2)

    low, high = np.log(top * np.array(RATIOS))
    grid = np.linspace(low, high, 1 + _PER_DECADE * round(float(np.log10(RATIOS[1] / RATIOS[0]))))
    on_grid = np.stack([evidence(np.full(len(within), at)) for at in grid])  # (T, C)
    best, step = grid[on_grid.argmax(axis=0)], grid[1] - grid[0]
    log_t = _highest(evidence, (best - step).clip(min=low), (best + step).clip(max=high))
    beta = best_beta(log_t)
    found = evidence(log_t).tolist(), (beta * np.exp(log_t)).tolist(), beta.tolist()
    return tuple(map(ClassEvidence, *found))


def _highest(function: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Find by golden section where a function of (C,) numbers is highest, each in its own bracket, ends included."""
    ends = low, high
    for _ in range(_REFINEMENTS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        lower_half = function(left) >= function(right)
        low, high = np.where(lower_half, low, left), np.where(lower_half, right, high)
    candidates = np.stack([*ends, (low + high) / 2])  # (3, C)
    best = np.stack([function(at) for at in candidates]).argmax(axis=0)
    return np.asarray(np.take_along_axis(candidates, best[None], axis=0)[0])


def h_score(features: ArrayLike, labels: ArrayLike) -> float:
    """Return the H-score with a shrunk covariance: variance between classes, in units of the features' own.

        H = (1 - s) tr(T^-1 cov(E[f|y])),    T = (1 - s) cov(f) + s tr(cov(f))/D I,    s by Ledoit and Wolf

    Without shrinkage, any features with N < D reach the largest value, C - 1. In [0, C - 1]; higher is better.

    Args:
        features: f (N, D)
        labels: (N,)
    Raises:
        DataError: As ``log_evidence``.
    Source:
        Bao et al. 2019, "An Information-Theoretic Approach to Transferability in Task Transfer Learning"; shrunk as in
        Ibrahim, Ponomareva and Mazumder 2021, "Newer is not always better", arXiv:2110.06893.
    """
    values, classes = _checked(features, labels)
    n, width = values.shape
    centred = values - values.mean(axis=0)
    one_hot = _one_hot(classes)
    eigenvalues, along, _ = _seen_from(centred, one_hot / np.sqrt(one_hot.sum(axis=0)))
    if not len(eigenvalues):
        return 0.0
    variances = eigenvalues / n  # (R,) those of cov(f) that are above zero
    shrinkage = _ledoit_wolf(np.square(centred).sum(axis=1), variances, width)
    # cov(E[f|y]) = sum_c n_c/N m_c m_c' with the class means m_c; this is its diagonal in the directions of cov(f)
    between = variances * np.square(along).sum(axis=1)
    own = (1 - shrinkage) * variances + shrinkage * variances.sum() / width
    return float((1 - shrinkage) * (between / own).sum())


def _ledoit_wolf(squared_lengths: Floats, variances: Floats, width: int) -> float:
    """Shrinkage of the covariance of centred rows towards a multiple of I, from what is known of it already.

    The same number as sklearn.covariance.ledoit_wolf_shrinkage, which goes through all pairs of columns.

    Args:
        squared_lengths: (N,) of the rows.
        variances: (R,) eigenvalues of the covariance that are above zero, of ``width``.
    Source:
        Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """
    n, squares = len(squared_lengths), np.square(variances).sum()
    distance = squares - variances.sum() ** 2 / width  # of the covariance from its multiple of I, squared
    error = (np.square(squared_lengths).mean() - squares) / n  # of the covariance from the true one, expected
    return float(np.clip(error / distance, 0, 1)) if distance > 0 else 0.0


def leep(source_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return LEEP: how surely the model's source classes predict the new ones. At most 0; higher is better.

        LEEP = 1/N sum_i log sum_z P(y_i|z) p_iz,    P(y, z) = 1/N sum_{i: y_i = y} p_iz

    Args:
        source_probabilities: p (N, Z) of the model's own classifier; rows sum to 1.
        labels: y (N,)
    Raises:
        DataError: As ``log_evidence``, or rows that are not probabilities.
    Source:
        Nguyen, Hassner, Seeger and Archambeau 2020, "LEEP: A New Measure to Evaluate Transferability of Learned
        Representations", arXiv:2002.12462.
    """
    p, classes = _checked(source_probabilities, labels)
    if p.min() < 0 or not np.allclose(p.sum(axis=1), 1, atol=1e-4):
        raise DataError(
            "source_probabilities must be rows of numbers from 0 that sum to 1. Pass probabilities, not logits."
        )
    joint = _one_hot(classes).T @ p  # (C, Z), times N
    given_z = joint / np.maximum(joint.sum(axis=0), np.finfo(np.float64).tiny)
    expected = (p @ given_z.T)[np.arange(len(p)), classes]  # (N,)
    return float(np.log(expected).mean())


def nleep(features: ArrayLike, labels: ArrayLike, *, seed: int = 0) -> float:
    """Return NLEEP: LEEP with the components of a Gaussian mixture in place of source classes; needs no classifier.

    The mixture is fitted to the principal components that hold 80 % of the variance. Unlike in the paper, its
    covariances are diagonal and its components keep eight rows each on average: with fewer it would memorise the rows.

    Args:
        features: (N, D)
        labels: (N,)
        seed: Decides the start of the mixture.
    Raises:
        DataError: As ``log_evidence``.
    Source:
        Li et al. 2021, "Ranking Neural Checkpoints", arXiv:2011.11200.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    values, classes = _checked(features, labels)
    coordinates = _principal(values)
    n_classes = int(classes.max()) + 1
    n_components = max(1, min(PER_CLASS * n_classes, len(values) // ROWS_PER_COMPONENT))
    mixture = GaussianMixture(n_components, covariance_type="diag", reg_covar=1e-4, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture that is still moving a little serves as well
        mixture.fit(coordinates)
    return leep(mixture.predict_proba(coordinates), classes)


def _principal(values: Floats) -> Floats:
    """Return coordinates (N, R) along the first directions that hold ``ENERGY`` of the variance, scaled to 1."""
    centred: Floats = values - values.mean(axis=0)
    wide = is_wide(centred.shape)
    eigenvalues, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    eigenvalues, vectors = eigenvalues[::-1].clip(min=0), vectors[:, ::-1]
    if not eigenvalues[0]:
        return centred[:, :1]
    n_kept = 1 + int(np.searchsorted(np.cumsum(eigenvalues), ENERGY * eigenvalues.sum()))
    kept = vectors[:, :n_kept] * np.sqrt(eigenvalues[:n_kept]) if wide else centred @ vectors[:, :n_kept]
    return np.asarray(kept / np.sqrt(np.square(kept).mean()))


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Answers of a simple classifier on each row, fitted on the others."""

    logits: Floats
    """(N, C)"""
    labels: Integers
    """(N,)"""

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,)"""
        return np.asarray(self.logits.argmax(axis=1) == self.labels)

    @property
    def log_loss(self) -> float:
        return float(self.losses.mean())

    @property
    def losses(self) -> Floats:
        """(N,) nats."""
        losses: Floats = row_log_losses(self.logits, self.labels)
        return losses


def knn_left_out(
    features: ArrayLike, labels: ArrayLike, n_classes: int, *, groups: ArrayLike | None = None, k: int = 5
) -> LeftOut:
    """Classify each row by its k nearest others by cosine, outside its own group.

    Args:
        features: (N, D)
        labels: (N,) in 0..n_classes-1.
        groups: (N,) rows with equal numbers are never neighbours.
    Raises:
        DataError: What ``fit_head`` refuses.
    Source:
        One of the two proxies of Renggli et al. 2022, "Which Model to Transfer? Finding the Needle in the Growing
        Haystack", arXiv:2010.06402.
    """
    rows = check_rows(features, labels, n_classes, groups)
    head = NeighboursHead(unit_rows(rows.values), rows.labels, n_classes, k)
    return LeftOut(np.log(head.vote(rows.values, (rows.groups, rows.groups))), rows.labels)


def ridge_left_out(
    depths: Sequence[ArrayLike], labels: ArrayLike, n_classes: int, *, groups: ArrayLike | None = None
) -> LeftOut:
    """Classify each row by ridge on the features of one or several depths, fitted on the others.

    The penalty serves all rows best; every depth weighs the same, however many columns it has. Class shares are those
    of all rows: leaving a row out would otherwise count against its own class.

    Args:
        depths: Features (N, D_d) of each depth.
        labels: (N,) in 0..n_classes-1.
        groups: (N,) rows with equal numbers are left out together.
    Raises:
        DataError: What ``fit_depths`` refuses, or all rows are one group.
    Source:
        ``thawline.heads.ridge`` and, of several depths, ``thawline.heads.fit_depths``.
    """
    rows = check_rows(depths[0], labels, n_classes, groups)
    if len(depths) == 1:
        _, path = fit_ridge(rows)
    else:
        path = fit_depths(depths, labels, n_classes, groups=groups, weighting="depth").path
    if path.held_out_logits is None:
        raise DataError("rows must be of at least two groups, so that one can be left out; all are of one.")
    step = next(step for step in path.steps if step["lambda"] == path.penalty)
    targets = 2 * np.eye(n_classes)[rows.labels] - 1
    decisions = with_all_shares(path.held_out_logits * step["temperature"], targets, rows.groups)
    temperature, _ = fit_temperature(decisions, rows.labels)
    return LeftOut(decisions / temperature, rows.labels)


def _seen_from(values: Floats, columns: Floats) -> tuple[Floats, Floats, Floats]:
    """Describe columns (N, C) along the directions of the rows.

    With X = U sqrt(e) V', the smaller of X X' and X' X is decomposed; for X' X, U itself is not needed.

    Returns:
        e (R,) above zero, U' columns (R, C), and the squared length (C,) outside of U.
    """
    wide = is_wide(values.shape)
    eigenvalues, vectors = np.linalg.eigh(values @ values.T if wide else values.T @ values)
    kept = eigenvalues > eigenvalues[-1] * max(values.shape) * np.finfo(np.float64).eps
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    roots = np.sqrt(eigenvalues)[:, None]
    if wide:
        along = vectors.T @ columns
        outside = columns - vectors @ along
    else:
        along = vectors.T @ (values.T @ columns) / roots
        outside = columns - values @ (vectors @ (along / roots))
    return eigenvalues, along, np.square(outside).sum(axis=0)


def _one_hot(labels: Integers) -> Floats:
    """(N, C) for labels numbered 0..C-1."""
    return np.eye(int(labels.max()) + 1)[labels]


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[Floats, Integers]:
    """Return features in float64, and the classes that occur numbered 0..C-1."""
    values, given = np.asarray(features, np.float64), np.asarray(labels)
    if values.ndim != 2 or not values.size or given.shape != values.shape[:1]:
        raise DataError(f"features must be (N, D) and labels (N,); got {values.shape} and {given.shape}.")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"features must be finite; row {row}, column {column} is {values[row, column]}.")
    found, classes = np.unique(given, return_inverse=True)
    if len(found) < 2:
        raise DataError(f"labels must be of at least two classes; all {len(given)} are {found[0]}.")
    return values, classes.astype(np.int64)
