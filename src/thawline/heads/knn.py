"""Classify by the k nearest neighbours: nothing is learned, so every learned head must beat it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thawline.heads.head import NeighboursHead, unit_rows
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
