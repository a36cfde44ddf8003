"""Score one model of numbers on one set of samples, each score with its interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thawline.errors import DataError
from thawline.evaluation.intervals import percentile_interval
from thawline.evaluation.label_scores import LEAST_DRAWS, weights
from thawline.evaluation.scoring import resamples
from thawline.records import Score, Scores

HEADLINE = "r2"
MOST_RANKED = 4_000_000
"""Resamples x samples over which the correlation of ranks is drawn; beyond, fewer resamples, but at least 200."""
Floats = NDArray[np.float64]


def score_numbers(truth: ArrayLike, predicted: ArrayLike, *, seed: int = 0, n_bootstrap: int = 1000) -> Scores:
    """Measure a model of one or more numbers.

    Point values are scikit-learn's and SciPy's, of several numbers their plain mean: R2, root mean squared error, mean
    absolute error, Spearman's correlation of ranks (0 if all predictions are equal). Intervals: percentile bootstrap of
    samples.

    Args:
        truth: (N, C) float.
        predicted: (N, C)
    Raises:
        DataError: No samples, shapes that do not agree, or numbers that are not finite.
    """
    y, guess = check_numbers(truth, predicted)
    n = len(y)
    ones = np.ones((1, n))
    drawn: dict[str, list[Floats]] = {"r2": [], "rmse": [], "mae": []}
    for weight in weights(n, seed, n_bootstrap):
        drawn["r2"].append(r2(y, guess, weight).mean(axis=1))
        drawn["rmse"].append(np.sqrt(weight @ np.square(y - guess) / n).mean(axis=1))
        drawn["mae"].append((weight @ np.abs(y - guess) / n).mean(axis=1))
    n_ranked = int(np.clip(MOST_RANKED // n, LEAST_DRAWS, max(n_bootstrap, LEAST_DRAWS)))
    drawn["spearman"] = [spearman(y[rows], guess[rows]).mean(axis=1) for rows in resamples(n, seed, n_ranked)]
    each = {
        "r2": r2(y, guess, ones)[0],
        "rmse": np.sqrt(np.square(y - guess).mean(axis=0)),
        "mae": np.abs(y - guess).mean(axis=0),
        "spearman": spearman(y, guess),
    }
    metrics = {}
    for name, values in each.items():
        value = float(values.mean())
        metrics[name] = Score(name, value, percentile_interval(np.concatenate(drawn[name]), value), n)
    rows = [{name: float(values[i]) for name, values in each.items()} | {"n": n} for i in range(y.shape[1])]
    return Scores(metrics, tuple(rows), np.empty((0, 0), dtype=np.int64), HEADLINE)


def check_numbers(truth: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    """Return true and predicted numbers as arrays; raises DataError if they cannot be scored."""
    y, guess = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if not y.size:
        raise DataError("Scores need at least one sample; got none. Is the test set empty?")
    if y.ndim != 2 or guess.shape != y.shape or not (np.isfinite(y).all() and np.isfinite(guess).all()):
        raise DataError(f"Scores need finite numbers (N, C) and predictions (N, C); got {y.shape} and {guess.shape}.")
    return y, guess


def r2(y: Floats, guess: Floats, weight: Floats) -> Floats:
    """Return (B, C) of samples that count by weights (B, N), each row of which sums to N.

    Where the true numbers are all equal it is 1 if the predictions are right, else 0, as scikit-learn has it.
    """
    n = weight.sum(axis=1, keepdims=True)
    centre = y.mean(axis=0)  # taken off first: squares of large numbers would cancel
    mean = weight @ (y - centre) / n
    total = weight @ np.square(y - centre) - n * np.square(mean)
    error = weight @ np.square(y - guess)
    flat = total <= 1e-12 * np.maximum(np.square(y - centre).sum(axis=0), np.finfo(np.float64).tiny)
    return np.where(flat, np.where(error > 0, 0.0, 1.0), 1 - error / np.where(flat, 1, total))


def spearman(y: Floats, guess: Floats) -> Floats:
    """Return (..., C) the correlation of ranks of (..., N, C); 0 where true or predicted numbers are all equal."""
    from scipy.stats import rankdata

    a, b = (rankdata(values, axis=-2) - (values.shape[-2] + 1) / 2 for values in (y, guess))
    norm = np.sqrt(np.square(a).sum(axis=-2) * np.square(b).sum(axis=-2))
    return np.asarray((a * b).sum(axis=-2) / np.where(norm > 0, norm, 1))
