"""Deal rows to cross-validation folds: whole groups, and each class as evenly as possible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thawline.randomness import early_generator


def stratified_group_folds(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    n_folds: int,
    seed: int,
    *,
    in_first: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Return the fold (N,) of each row; rows of one group share a fold.

    Groups are dealt largest first, in an order drawn from the seed among equals, each to the fold that has the fewest
    rows of the group's commonest class, then the fewest rows. A class with two groups is therefore never wholly in one
    fold: every training set holds it. There are never more folds than groups.

    scikit-learn's StratifiedGroupKFold does the same in time that grows with groups x folds x classes, too slow where
    every row is a group of its own.

    Args:
        labels: (N,)
        groups: (N,) numbered 0..G-1.
        in_first: (N,) rows whose groups must be in fold 0; they are dealt before all others.
    """
    sizes = np.bincount(groups)
    n_folds = min(n_folds, len(sizes))
    order = early_generator(seed, "FOLD").permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    given = np.zeros(len(sizes), dtype=np.bool_)
    if in_first is not None:
        given[groups[in_first]] = True
        order = order[np.argsort(~given[order], kind="stable")]
    main_class = _commonest_class(labels, groups, len(sizes))
    of_class = {c: [0] * n_folds for c in np.unique(main_class).tolist()}
    total = [0] * n_folds
    fold_of_group = np.zeros(len(sizes), dtype=np.int64)
    for group, c, size in zip(order.tolist(), main_class[order].tolist(), sizes[order].tolist(), strict=True):
        held = of_class[c]
        fold = 0 if given[group] else min(range(n_folds), key=lambda f: (held[f], total[f]))
        held[fold] += size
        total[fold] += size
        fold_of_group[group] = fold
    return fold_of_group[groups]


def _commonest_class(labels: NDArray[np.int64], groups: NDArray[np.int64], n_groups: int) -> NDArray[np.int64]:
    """Return the class (G,) with most rows in each group, the lowest among equals."""
    cells, counts = np.unique(np.stack([groups, labels], axis=1), axis=0, return_counts=True)
    by_count = np.lexsort((-cells[:, 1], counts))  # later wins: most rows, then lowest class
    commonest = np.zeros(n_groups, dtype=np.int64)
    commonest[cells[by_count, 0]] = cells[by_count, 1]
    return commonest
