"""Score one classifier on one set of samples, each number with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.errors import DataError
from thawline.evaluation.intervals import mean_of_proportions, percentile_interval, wilson
from thawline.randomness import early_generator
from thawline.records import Score, Scores

TOP5_FROM = 6
"""From so many classes on, "among the first five" says something."""
_BLOCK = 64
"""Resamples drawn at a time: 64 x 10,000 rows are 5 MB."""


def score(
    labels: ArrayLike, probabilities: ArrayLike, n_classes: int, *, seed: int = 0, n_bootstrap: int = 1000
) -> Scores:
    """Measure a classifier.

    Point values are scikit-learn's: balanced accuracy over the classes that have samples, macro F1 over those that
    have samples or predictions, log loss with probabilities clipped at 2.2e-16. Intervals: Wilson for accuracy and
    top-5 accuracy; MOVER of Wilson for balanced accuracy, a mean of proportions; percentile bootstrap for macro F1 and
    log loss. If all resamples agree on macro F1 (no prediction is wrong), that has no width, and the interval of
    balanced accuracy stands in.

    Args:
        labels: (N,) in 0..C-1.
        probabilities: (N, C), rows summing to 1; the highest is the prediction, the lower class among equals.
    Raises:
        DataError: No samples, shapes that do not agree, labels out of range, or rows that are no probabilities.
    """
    y, p = check_predictions(labels, probabilities, n_classes)
    n, predicted = len(y), p.argmax(axis=1)
    confusion = np.bincount(y * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    hits, support = confusion.diagonal(), confusion.sum(axis=1)
    seen = support > 0
    per_class = _per_class(confusion)
    losses = clipped_log_losses(y, p)

    accuracy = _proportion("accuracy", int(hits.sum()), n)
    balanced_ci = mean_of_proportions(hits[seen], support[seen])
    balanced = Score("balanced_accuracy", float((hits[seen] / support[seen]).mean()), balanced_ci, n)
    macro_f1 = float(_macro_f1(hits[None], support[None], confusion.sum(axis=0)[None])[0])
    f1_draws, loss_draws = _bootstrap(y, predicted, losses, n_classes, seed, n_bootstrap)
    f1_ci = balanced_ci if np.ptp(f1_draws) == 0 else percentile_interval(f1_draws, macro_f1)
    f1_ci = (min(f1_ci[0], macro_f1), max(f1_ci[1], macro_f1))
    log_loss = float(losses.mean())
    scores = [
        accuracy,
        balanced,
        Score("macro_f1", macro_f1, f1_ci, n),
        Score("log_loss", log_loss, percentile_interval(loss_draws, log_loss), n),
    ]
    if n_classes >= TOP5_FROM:
        scores.append(_proportion("top5_accuracy", _hits_in_top(y, p, 5), n))
    return Scores({s.name: s for s in scores}, per_class, confusion.astype(np.int64))


def to_json(scores: Scores) -> dict[str, dict[str, object]]:
    """Return the METRICS object of ``--json``: for each metric its value, ci95 and n."""
    return {s.name: {"value": s.value, "ci95": list(s.ci95), "n": s.n} for s in scores.metrics.values()}


def check_predictions(
    labels: ArrayLike, probabilities: ArrayLike, n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return labels and probabilities as arrays; raises DataError if they cannot be scored."""
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if y.size == 0:
        raise DataError("Scores need at least one sample; got none. Is the test set empty?")
    if y.ndim != 1 or p.shape != (len(y), n_classes):
        raise DataError(f"Scores need labels (N,) and probabilities (N, {n_classes}); got {y.shape} and {p.shape}.")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= n_classes:
        raise DataError(f"Labels must be whole numbers in 0..{n_classes - 1}; got {y.min()} to {y.max()}.")
    wrong = ~(np.isfinite(p).all(axis=1) & (p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-4))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"Probabilities must be at least 0 and sum to 1 in each row; row {row} does not (sum {p[row].sum():.4g}). "
            "Pass probabilities, not logits."
        )
    return y.astype(np.int64), p


def clipped_log_losses(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -log p of the true class (N,), p clipped at the float64 epsilon as scikit-learn does."""
    eps = np.finfo(np.float64).eps
    own = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.clip(own, eps, 1 - eps))


def resamples(n: int, seed: int, n_bootstrap: int) -> Iterator[NDArray[np.int64]]:
    """Yield blocks (B, N) of row numbers, each row of them drawn with replacement from all rows."""
    rng = early_generator(seed, "BOOT")
    for start in range(0, n_bootstrap, _BLOCK):
        yield rng.integers(0, n, (min(_BLOCK, n_bootstrap - start), n))


def _bootstrap(
    y: NDArray[np.int64],
    predicted: NDArray[np.int64],
    losses: NDArray[np.float64],
    n_classes: int,
    seed: int,
    n_bootstrap: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return replicates of macro F1 and of the log loss."""
    # One number per row says both what was predicted and whether it was right.
    cell = (predicted + n_classes * (predicted == y)).astype(np.int64)
    f1, loss = [], []
    for rows in resamples(len(y), seed, n_bootstrap):
        missed, hit = _count(cell[rows], 2 * n_classes).reshape(len(rows), 2, n_classes).transpose(1, 0, 2)
        support = _count(y[rows], n_classes)
        f1.append(_macro_f1(hit, support, missed + hit))
        loss.append(losses[rows].mean(axis=1))
    return np.concatenate(f1), np.concatenate(loss)


def _count(values: NDArray[np.int64], n_values: int) -> NDArray[np.int64]:
    """Return (B, n_values): how often each value stands in each row of (B, N)."""
    offset = np.arange(len(values))[:, None] * n_values
    return np.bincount((values + offset).ravel(), minlength=len(values) * n_values).reshape(len(values), n_values)


def _macro_f1(hits: NDArray[np.int64], support: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (B,) from hits, true counts and predicted counts, each (B, C)."""
    either = support + predicted  # a class with neither samples nor predictions does not count
    f1 = 2 * hits / np.maximum(either, 1)
    return np.asarray(f1.sum(axis=1) / np.count_nonzero(either, axis=1))


def _per_class(confusion: NDArray[np.int64]) -> tuple[Mapping[str, float], ...]:
    """Return precision, recall, f1, n and, where the class has samples, the Wilson limits of its recall."""
    rows: list[Mapping[str, float]] = []
    for hits, n, predicted in zip(confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0), strict=True):
        row = {
            "precision": float(hits / max(predicted, 1)),
            "recall": float(hits / max(n, 1)),
            "f1": float(2 * hits / max(n + predicted, 1)),
            "n": int(n),
        }
        if n:
            row["recall_low"], row["recall_high"] = wilson(int(hits), int(n))
        rows.append(row)
    return tuple(rows)


def _proportion(name: str, successes: int, n: int) -> Score:
    return Score(name, successes / n, wilson(successes, n), n)


def _hits_in_top(y: NDArray[np.int64], p: NDArray[np.float64], k: int) -> int:
    """Count rows whose label is among the k most probable classes; among equals the lower class goes first."""
    own = p[np.arange(len(y)), y][:, None]
    ahead = (p > own) | ((p == own) & (np.arange(p.shape[1]) < y[:, None]))
    return int((ahead.sum(axis=1) < k).sum())
