"""Find copies: identical content, or the same picture saved or shrunk again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thawline.inputs import kind_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def duplicate_groups(
    digests: Sequence[str],
    sketches: NDArray[np.uint8],
    declared: Sequence[object] | None = None,
    *,
    kind: str = "image",
) -> NDArray[np.int64]:
    """Number the samples so that copies, and samples of one declared group, get equal numbers.

    If b is a copy of a, and c one of b, all three share a number: no split may separate any two of them.

    Args:
        digests: (N,) equal for identical content.
        sketches: uint8 (N, ...), as the kind of input makes them.
        declared: (N,) hashable; None means a group of its own.
        kind: Of input; it says which sketches are near.
    Returns:
        int64 (N,), numbered by first appearance.
    """
    n = len(digests)
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    links = [np.array([(row, first[digest]) for row, digest in enumerate(digests)], dtype=np.int64).reshape(-1, 2)]
    if declared is not None:
        owner = {group: row for row, group in reversed(list(enumerate(declared)))}
        links.append(
            np.array([(row, owner[g]) for row, g in enumerate(declared) if g is not None], dtype=np.int64).reshape(
                -1, 2
            )
        )
    unique = np.array(sorted(first.values()), dtype=np.int64)
    labels: NDArray[np.int64] = np.arange(n, dtype=np.int64)
    for pairs in [*links, *(unique[pairs] for pairs in kind_of(kind).near(sketches[unique]))]:
        linked = labels[pairs]
        linked = linked[linked[:, 0] != linked[:, 1]]
        if len(linked):
            labels = _components(linked, n)[labels]
    _, firsts, numbers = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(firsts), dtype=np.int64)
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    groups: NDArray[np.int64] = rank[numbers]
    return groups


def _components(pairs: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Number (n,) things so that those joined by pairs (M, 2), at once or through others, get equal numbers."""
    from scipy.sparse import coo_array  # slow to import, and most data have no copies
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    numbers: NDArray[np.int64] = connected_components(edges, directed=False)[1].astype(np.int64)
    return numbers
