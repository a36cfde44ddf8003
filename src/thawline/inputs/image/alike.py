"""Tell copies of a picture from other pictures that look alike, such as those of one fixed camera."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from thawline.inputs.image.sketches import allowed_distance, distances, near_pairs
from thawline.inputs.near import NearCopies

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_COPIES, MOST_SHARE = 8, 0.1
"""Pictures that are alike through one another, and their share of the data; more than both are a crowd.

Seldom is a picture saved so often, but a camera that stands still takes thousands."""


FEWEST = 5
"""Pictures that are alike and hold more than half of a class; they are a crowd too."""


_RANK, _STANDS_OUT = 6, 3
"""Copies are this many times as near to each other as each is to its so-many-th nearest picture.

In a crowd, this picture is one of the crowd; else it is one that is no candidate.

Frames of a steadily moving camera lie on a line: the sixth nearest is three steps away, and no neighbour stands out."""


_COMMON, _ENOUGH = 2, 20
"""Directions of largest variance that a crowd of so many has in common."""


_EQUAL = 1.0
"""Norm of a difference of sketches; where so many are nearer than this, sketches say nothing."""


_MOST_COMPARED = 20_000
"""Pictures of a crowd that are compared, each with each; of more, none counts as a copy unless its content is equal."""


_MOST_AROUND = 4 * 10**8
"""Distances between pictures that may have copies and all others, at most: some ten seconds."""


_BLOCK, _WINDOW = 512, 8192

_Pairs = tuple["NDArray[np.int64]", "NDArray[np.float32]"]
"""(M, 2) rows, and (M,) how far apart they are."""


def near_copies(sketches: NDArray[np.uint8], labels: NDArray[np.int64] | None = None) -> NearCopies:
    """Find pictures that show the same as another, saved or shrunk again.

    Pictures whose sketches are near (``near_pairs``) are alike. A few that are alike are copies of one picture, if
    they are much nearer to each other than to the pictures around. Where many are alike, or most of a class, the
    sketches are near because the pictures show one scene; then only those are copies that are much nearer to each
    other than is usual among these. Copies of one picture are pairwise copies.

    Args:
        sketches: uint8 (N, 16, 16, 3), of different content.
        labels: (N,) classes.
    """
    n = len(sketches)
    family, alike = np.arange(n, dtype=np.int64), np.full(n, -1, dtype=np.int64)
    values = sketches.reshape(n, -1)
    sets = _components(sketches)
    crowds = [rows for rows in sets if _is_crowd(rows, n, labels)]
    for number, rows in enumerate(crowds):
        alike[rows] = number
        _assign(family, rows, _standing_out(values[rows]))
    few = [rows for rows in sets if alike[rows[0]] < 0]
    for rows, usual in zip(few, _around(values, few), strict=True):
        _assign(family, rows, _same(values[rows], usual))
    return NearCopies(family, alike)


def _assign(family: NDArray[np.int64], rows: NDArray[np.int64], found: _Pairs) -> None:
    """Give copies the number of the first of them; ``found`` are the pairs among ``rows``."""
    pairs, apart = found
    for members in _cliques(pairs[np.argsort(apart, kind="stable")]):
        family[rows[members]] = rows[members[0]]


def _components(sketches: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Return the rows of pictures that are alike, at once or through others, for each such set of two or more."""
    joined = np.arange(len(sketches), dtype=np.int64)
    for pairs in near_pairs(sketches, joined):
        from thawline.inputs.components import components  # slow to import, and most data have no copies

        joined[:] = components(joined[pairs], len(joined))[joined]
    order = np.argsort(joined, kind="stable")
    sets = np.split(order, np.flatnonzero(np.diff(joined[order])) + 1)
    return sorted((rows for rows in sets if len(rows) > 1), key=lambda rows: int(rows[0]))


def _is_crowd(rows: NDArray[np.int64], n: int, labels: NDArray[np.int64] | None) -> bool:
    if len(rows) > max(MOST_COPIES, MOST_SHARE * n):
        return True
    if labels is None or len(rows) < FEWEST:
        return False
    inside = np.bincount(labels[rows], minlength=int(labels.max()) + 1)
    return bool((2 * inside > np.bincount(labels)).any())


def _around(values: NDArray[np.uint8], sets: list[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
    """Return, for each row of each set, how far its ``_RANK``-th nearest picture outside of the set is.

    At most ``_MOST_AROUND`` distances are taken: of larger data, evenly spaced rows stand for all.
    """
    if not sets:
        return []
    rows, own = np.concatenate(sets), np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    set_of = np.full(len(values), -1, dtype=np.int64)
    set_of[rows] = own
    others = np.arange(0, len(values), max(1, len(rows) * len(values) // _MOST_AROUND))
    centre = values[others[:_WINDOW]].mean(axis=0, dtype=np.float32)  # float32 keeps more of a small distance
    ours = values[rows] - centre
    nearest = np.full((len(rows), _RANK), np.inf, dtype=np.float32)
    for left in range(0, len(others), _WINDOW):
        some = others[left : left + _WINDOW]
        theirs = values[some] - centre
        squares = (theirs**2).sum(axis=1)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            squared = squares - 2 * (ours[block] @ theirs.T) + (ours[block] ** 2).sum(axis=1, keepdims=True)
            squared[own[block, None] == set_of[some]] = np.inf
            both = np.concatenate([nearest[block], squared], axis=1)
            nearest[block] = np.partition(both, _RANK - 1, axis=1)[:, :_RANK]
    known = np.isfinite(nearest)
    farthest = np.where(known.any(axis=1), np.where(known, nearest, 0).max(axis=1), np.inf)
    return np.split(np.sqrt(farthest.clip(min=0)), np.cumsum([len(one) for one in sets])[:-1])


def _same(values: NDArray[np.uint8], usual: NDArray[np.float32]) -> _Pairs:
    """Return the pairs of sketches (n, d) that show the same picture.

    Args:
        usual: (n,) how far each is from pictures around that are no copies of it.
    """
    limit = np.minimum(allowed_distance(values), usual / np.float32(_STANDS_OUT))
    a, b = np.triu_indices(len(values), 1)
    apart = distances(values, a, b)
    kept = apart <= np.minimum(limit[a], limit[b])
    return np.stack([a, b], axis=1)[kept], apart[kept]


def _standing_out(values: NDArray[np.uint8]) -> _Pairs:
    """Return the pairs of sketches of a crowd (n, d) that are far nearer than is usual there.

    Each picture has fewer than ``_RANK`` of them, so memory is O(n).
    """
    n = len(values)
    rank = min(_RANK, n - 1)
    if n > _MOST_COMPARED:
        return np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32)
    own = _without_common(values)
    b = np.concatenate(list(_nearest(own, rank))).ravel()
    a = np.repeat(np.arange(n), rank)
    apart = np.concatenate([np.linalg.norm(own[a[part]] - own[b[part]], axis=1) for part in _parts(len(a))])
    usual = apart.reshape(n, rank).max(axis=1)
    limit = np.minimum(allowed_distance(values), usual / np.float32(_STANDS_OUT))
    limit[usual < _EQUAL] = -1
    kept = (a < b) & (apart <= np.minimum(limit[a], limit[b]))
    return np.stack([a, b], axis=1)[kept], apart[kept]


def _without_common(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return sketches float32 (n, d) without their mean and the directions in which the crowd varies most.

    A lamp that flickers and a camera that moves put pictures on a line or a plane. Two that are neighbours there have
    the same light, not the same content.
    """
    own: NDArray[np.float32] = values - values.mean(axis=0, dtype=np.float32)
    if len(own) >= _ENOUGH:
        common = np.linalg.eigh(own.T @ own)[1][:, -_COMMON:]
        own -= (own @ common) @ common.T
    return own


def _nearest(own: NDArray[np.float32], rank: int) -> Iterator[NDArray[np.int64]]:
    """Yield (block, rank) the rows of those nearest to each row of (n, d), in no order."""
    squares = (own**2).sum(axis=1)
    for part in _parts(len(own)):
        squared = squares - 2 * (own[part] @ own.T)  # (block, n), less the block's own squares
        at = np.arange(len(squared))
        squared[at, part.start + at] = np.inf
        yield np.argpartition(squared, rank - 1, axis=1)[:, :rank].astype(np.int64)


def _parts(n: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, n, _BLOCK))


def _cliques(pairs: NDArray[np.int64]) -> list[list[int]]:
    """Join rows by their pairs (M, 2), nearest first, as long as all members of a set are pairs of one another."""
    linked = {(int(a), int(b)) for a, b in pairs} | {(int(b), int(a)) for a, b in pairs}
    member_of: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        ours, theirs = member_of.setdefault(a, [a]), member_of.setdefault(b, [b])
        if ours is not theirs and all((x, y) in linked for x in ours for y in theirs):
            ours += theirs
            for row in theirs:
                member_of[row] = ours
    sets = {id(members): sorted(members) for members in member_of.values() if len(members) > 1}
    return sorted(sets.values())
