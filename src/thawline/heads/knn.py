"""Predict by the k nearest neighbours: nothing is learned, so every learned head must beat it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thawline.heads.head import BLOCK_ROWS, NeighboursHead, unit_rows
from thawline.heads.training_rows import TrainingRows
from thawline.randomness import early_generator

K_NEIGHBOURS = 5
JUDGED_ROWS = 5_000
"""Rows asked to judge the head; the cost is this times N x D."""


def fit_knn(
    rows: TrainingRows, *, k: int = K_NEIGHBOURS, seed: int = 0
) -> tuple[NeighboursHead, float | None, NDArray[np.float64] | None]:
    """Store the rows, and judge them by neighbours outside their own group.

    Returns:
        The head; the mean log loss over at most 5,000 rows drawn by ``seed``; logits (N, C), nan for rows not drawn.
        Loss and logits are None if all rows are one group.
    """
    head = NeighboursHead(unit_rows(rows.values), rows.labels, rows.n_classes, k)
    if rows.groups.max() == 0:
        return head, None, None
    drawn = np.sort(early_generator(seed, "KNN").permutation(len(rows))[:JUDGED_ROWS])
    logits = np.full((len(rows), rows.n_classes), np.nan)
    logits[drawn] = np.log(head.vote(rows.values[drawn], (rows.groups[drawn], rows.groups)))
    return head, float(-np.mean(logits[drawn, rows.labels[drawn]])), logits


def mean_of_neighbours(
    known: NDArray[np.float32],
    values: NDArray[np.float64],
    asked: NDArray[np.float32],
    *,
    prior: NDArray[np.float64] | None = None,
    k: int = K_NEIGHBOURS,
) -> NDArray[np.float64]:
    """Return (N, C) the mean of what the k known rows nearest by cosine have.

    Args:
        known: (M, D) features.
        values: (M, C) labels as 0 and 1, or numbers.
        asked: (N, D) features.
        prior: (C,) counts as one more neighbour, which keeps probabilities of labels above 0 and below 1.
    """
    stored, rows = unit_rows(known), unit_rows(asked)
    k = min(k, len(stored))
    means = np.empty((len(rows), values.shape[1]))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        similarity = rows[block] @ stored.T  # (B, M)
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]  # (B, k)
        means[block] = values[nearest].mean(axis=1)
    return means if prior is None else (k * means + prior) / (k + 1)
