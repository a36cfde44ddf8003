"""Score one model of several labels a sample on one set of samples, each number with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.errors import DataError
from thawline.evaluation.intervals import percentile_interval, wilson
from thawline.evaluation.scoring import resamples
from thawline.records import Score, Scores

HEADLINE = "micro_f1"
EVEN = 0.5
"""Probability from which a label is given, unless another threshold is asked for."""
MOST_SORTED = 2e8
"""Resamples x samples x labels over which average precision is drawn; beyond, fewer resamples, but at least 200."""
LEAST_DRAWS = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """How many labels were found, given wrongly, and missed; sums over samples, or one row for each sample."""

    hits: Floats
    """(..., C)"""
    wrong: Floats
    missed: Floats

    @classmethod
    def of(cls, truth: NDArray[np.bool_], given: NDArray[np.bool_]) -> Counts:
        """Count sample by sample (N, C)."""
        return cls(*(one.astype(np.float64) for one in (truth & given, ~truth & given, truth & ~given)))

    def summed(self, weight: Floats) -> Counts:
        """Return the sums (B, C) in which samples count by weights (B, N)."""
        return Counts(weight @ self.hits, weight @ self.wrong, weight @ self.missed)

    def micro_f1(self) -> Floats:
        """Return F1 (...) over all labels together; 0 where nothing is true or given."""
        hits, errors = self.hits.sum(axis=-1), (self.wrong + self.missed).sum(axis=-1)
        return np.asarray(2 * hits / np.maximum(2 * hits + errors, 1e-12))

    def macro_f1(self) -> Floats:
        """Return (...) the mean F1 of the labels that are true or given anywhere."""
        f1, either = self.f1()
        return np.asarray(f1.sum(axis=-1) / np.maximum(np.count_nonzero(either, axis=-1), 1))

    def f1(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Return F1 (..., C) of each label, and whether it is true or given anywhere."""
        total = 2 * self.hits + self.wrong + self.missed
        return 2 * self.hits / np.maximum(total, 1e-12), total > 0


def score_labels(
    truth: ArrayLike,
    probabilities: ArrayLike,
    *,
    thresholds: ArrayLike | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> Scores:
    """Measure a model that gives each sample any number of labels.

    Point values are scikit-learn's: F1 with ``zero_division=nan``, average precision over the labels that some sample
    has, and the mean of the labels' log losses. Labels are given from a probability of one half on; with thresholds,
    ``micro_f1_best`` and ``macro_f1_best`` are those of labels given by these. Intervals: Wilson for the share of
    samples whose labels are all right, percentile bootstrap of samples for all others.

    Args:
        truth: (N, C) bool.
        probabilities: (N, C)
        thresholds: (C,) at which each label's F1 was best on other samples.
    Raises:
        DataError: No samples, shapes that do not agree, or numbers that are no probabilities.
    """
    has, p = check_labels(truth, probabilities)
    n = len(has)
    counts = Counts.of(has, p >= EVEN)
    wrong = (has != (p >= EVEN)).mean(axis=1)
    losses = clipped_losses(has, p)
    draws: dict[str, list[Floats]] = {}
    tuned = None if thresholds is None else Counts.of(has, p >= np.asarray(thresholds))
    for weight in weights(n, seed, n_bootstrap):
        sums = counts.summed(weight)
        draws.setdefault("micro_f1", []).append(sums.micro_f1())
        draws.setdefault("macro_f1", []).append(sums.macro_f1())
        draws.setdefault("hamming_loss", []).append(weight @ wrong / n)
        draws.setdefault("log_loss", []).append(weight @ losses / n)
        if tuned is not None:
            sums = tuned.summed(weight)
            draws.setdefault("micro_f1_best", []).append(sums.micro_f1())
            draws.setdefault("macro_f1_best", []).append(sums.macro_f1())
    whole = counts.summed(np.ones((1, n)))
    values = {
        "micro_f1": float(whole.micro_f1()[0]),
        "macro_f1": float(whole.macro_f1()[0]),
        "hamming_loss": float(wrong.mean()),
        "log_loss": float(losses.mean()),
    }
    if tuned is not None:
        best = tuned.summed(np.ones((1, n)))
        values |= {"micro_f1_best": float(best.micro_f1()[0]), "macro_f1_best": float(best.macro_f1()[0])}
    precision, of_each, precision_ci = mean_average_precision(has, p, seed=seed, n_bootstrap=n_bootstrap)
    right = int((wrong == 0).sum())
    scores = {
        name: Score(name, value, _interval(np.concatenate(draws[name]), value, n), n) for name, value in values.items()
    }
    scores["mean_average_precision"] = Score("mean_average_precision", precision, precision_ci, n)
    scores["subset_accuracy"] = Score("subset_accuracy", right / n, wilson(right, n), n)
    order = ("micro_f1", "macro_f1", "mean_average_precision", "subset_accuracy", "hamming_loss", "log_loss")
    named = {name: scores[name] for name in (*order, *(name for name in scores if name not in order))}
    rows = _per_label(whole, of_each, None if thresholds is None else np.asarray(thresholds, dtype=np.float64))
    return Scores(named, rows, np.empty((0, 0), dtype=np.int64), HEADLINE)


def check_labels(truth: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Return labels and probabilities as arrays; raises DataError if they cannot be scored."""
    has, p = np.asarray(truth), np.asarray(probabilities, dtype=np.float64)
    if not has.size:
        raise DataError("Scores need at least one sample; got none. Is the test set empty?")
    if has.ndim != 2 or has.dtype != np.bool_ or p.shape != has.shape:
        raise DataError(f"Scores need labels (N, C) and probabilities (N, C); got {has.shape} and {p.shape}.")
    if not (np.isfinite(p) & (p >= 0) & (p <= 1)).all():
        raise DataError("Probabilities of labels must be from 0 to 1. Pass probabilities, not logits.")
    return has, p


def clipped_losses(has: NDArray[np.bool_], p: Floats) -> Floats:
    """Return (N,) the mean over labels of -log p of what is true, p clipped as scikit-learn does."""
    eps = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(np.where(has, p, 1 - p), eps, 1 - eps)).mean(axis=1))


def best_thresholds(truth: NDArray[np.bool_], probabilities: Floats) -> Floats:
    """Return (C,) the threshold of each label at which its F1 is best; one half where no sample has the label.

    It lies half way between two probabilities that occur, so that no sample stands upon it.
    """
    found = np.full(truth.shape[1], EVEN)
    for label in range(truth.shape[1]):
        order = np.argsort(-probabilities[:, label], kind="stable")
        p, has = probabilities[order, label], truth[order, label]
        if not has.any():
            continue
        hits, given = np.cumsum(has), np.arange(1, len(has) + 1)
        f1 = 2 * hits / (given + has.sum())
        last = np.append(p[1:] < p[:-1], True)  # of equal probabilities all are given, or none
        best = int(np.flatnonzero(last)[f1[last].argmax()])
        below = p[best + 1] if best + 1 < len(p) else 0.0
        found[label] = (p[best] + below) / 2
    return found


def mean_average_precision(
    has: NDArray[np.bool_], p: Floats, *, seed: int = 0, n_bootstrap: int = 1000
) -> tuple[float, Floats, tuple[float, float]]:
    """Return the mean over labels that some sample has, average precision of each (C,), nan without, and an interval.

    Average precision is scikit-learn's: the sum over thresholds of precision x gain of recall.
    """
    n, n_labels = has.shape
    n_draws = int(np.clip(MOST_SORTED // (n * n_labels), LEAST_DRAWS, max(n_bootstrap, LEAST_DRAWS)))
    ones = np.ones((1, n))
    each = np.full(n_labels, np.nan)
    sums, counted = np.zeros(n_draws), np.zeros(n_draws)
    resampled = np.concatenate(list(weights(n, seed, n_draws)))
    for label in np.flatnonzero(has.any(axis=0)):
        order = np.argsort(-p[:, label], kind="stable")
        last = np.append(np.diff(p[order, label]) < 0, True)
        each[label] = _average_precision(ones[:, order], has[order, label], last)[0]
        drawn = _average_precision(resampled[:, order], has[order, label], last)
        known = np.isfinite(drawn)
        sums[known] += drawn[known]
        counted[known] += 1
    if not np.isfinite(each).any():
        return 0.0, each, (0.0, 1.0)
    value = float(np.nanmean(each))
    return value, each, _interval(sums[counted > 0] / counted[counted > 0], value, n)


def _average_precision(weight: Floats, has: NDArray[np.bool_], last: NDArray[np.bool_]) -> Floats:
    """Return (B,) of samples in descending probability, which count by weights (B, N); nan where none has the label."""
    hits = np.cumsum(weight * has, axis=1)[:, last]
    given = np.cumsum(weight, axis=1)[:, last]
    total = hits[:, -1:]
    gained = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((gained * hits / np.maximum(given, 1e-12)).sum(axis=1) / total[:, 0])


def weights(n: int, seed: int, n_bootstrap: int) -> Iterator[Floats]:
    """Yield blocks (B, N): how often each sample was drawn."""
    for rows in resamples(n, seed, n_bootstrap):
        offset = np.arange(len(rows))[:, None] * n
        yield np.bincount((rows + offset).ravel(), minlength=rows.shape[0] * n).reshape(-1, n).astype(np.float64)


def _interval(draws: Floats, value: float, n: int) -> tuple[float, float]:
    """Return the percentile interval; where all resamples agree, that of a proportion of ``n`` samples."""
    if np.ptp(draws) > 1e-12:
        return percentile_interval(draws, value)
    low, high = wilson(min(value, 1.0) * n, n)
    return min(low, value), max(high, value)


def _per_label(counts: Counts, precision: Floats, thresholds: Floats | None) -> tuple[Mapping[str, float], ...]:
    hits, wrong, missed = counts.hits[0], counts.wrong[0], counts.missed[0]
    f1, _ = counts.f1()
    rows: list[Mapping[str, float]] = []
    for i, score in enumerate(precision):
        row = {
            "precision": float(hits[i] / max(hits[i] + wrong[i], 1)),
            "recall": float(hits[i] / max(hits[i] + missed[i], 1)),
            "f1": float(f1[0, i]),
            "n": int(hits[i] + missed[i]),
        }
        if np.isfinite(score):
            row["average_precision"] = float(score)
        if thresholds is not None:
            row["threshold"] = float(thresholds[i])
        rows.append(row)
    return tuple(rows)
