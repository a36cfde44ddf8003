"""Find pictures that look alike, by sketches of 16 x 16 RGB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def contrast(sketches: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the largest difference between two places of a sketch in any one channel, (N,) from 0 to 255."""
    spread: NDArray[np.int64] = np.ptp(sketches.astype(np.int64), axis=(1, 2)).max(axis=1, initial=0)
    return spread


MAX_RMS = 5.0
"""Grey levels, root mean square over a sketch, that saving a picture again may move it."""


MAX_RMS_OF_CONTRAST = 0.125
"""The same as a share of the sketch's own standard deviation: pale pictures differ by few grey levels anyway."""


MIN_CONTRAST = 16
"""Grey levels between the lightest and the darkest place; below it, sketches say nothing about identity."""


_BLOCK, _WINDOW = 1024, 8192
_MANY, _FEW_ROWS = 2**18, 16
"""From so many pairs of a block on, its rows are compared a few at a time, if they may be joined meanwhile."""
_CROWDED = 1000
"""Pairs found, from which on it pays to pass over those that are joined."""


def near_pairs(sketches: NDArray[np.uint8], joined: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.int64]]:
    """Yield (M, 2) row numbers of pairs whose sketches are near; every such pair comes exactly once.

    Two sketches are near when their root mean square difference is at most ``MAX_RMS`` grey levels and
    ``MAX_RMS_OF_CONTRAST`` of the smaller standard deviation. The search is exact: a projection never lengthens a
    distance, so rows are sorted along the first principal component of their 4 x 4 mean colours, compared by those
    within a window of the threshold, and only what is left is measured in full. Memory is O(N), never O(N^2).

    Args:
        sketches: uint8 (N, 16, 16, 3)
        joined: (N,) pairs of equal numbers may be passed over. Whoever takes the pairs may join rows meanwhile: among
            thousands of pictures that are all near each other, few pairs then need be measured.
    """
    rows = np.flatnonzero(contrast(sketches) >= MIN_CONTRAST)
    if len(rows) < 2:
        return
    values = sketches[rows].reshape(len(rows), -1)  # (N, 768) uint8; float copies of blocks only
    dims = values.shape[1]
    radius = MAX_RMS * np.sqrt(dims)
    allowed = allowed_distance(values)
    near = _project(values)
    order = np.argsort(near[:, 0], kind="stable")
    near = near[order]
    squares, ones = (near**2).sum(axis=1, keepdims=True), np.ones((len(near), 1), dtype=np.float32)
    ours, theirs = np.hstack([-2 * near, squares, ones]), np.hstack([near, ones, squares])
    n_found = 0
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        last = int(np.searchsorted(near[:, 0], near[stop - 1, 0] + radius * 1.001, side="right"))
        for left in range(start, last, _WINDOW):
            right = min(left + _WINDOW, last)
            squared = ours[start:stop] @ theirs[left:right].T  # |x|^2 - 2 x y + |y|^2 in one product
            near_enough = squared <= radius**2 * 1.01  # slack for float32 rounding
            many = joined is not None and np.count_nonzero(near_enough) > _MANY
            step = _FEW_ROWS if many else _BLOCK
            first = start
            while first < stop:
                found = near_enough[first - start : first - start + step]
                if joined is not None and many and n_found > _CROWDED:
                    ours_at, theirs_at = rows[order[first : first + len(found)]], rows[order[left:right]]
                    found = found & (joined[ours_at][:, None] != joined[theirs_at])
                a, b = np.divmod(np.flatnonzero(found), right - left)
                a, b = a + first, b + left
                a, b = order[a[a < b]], order[b[a < b]]
                keep = distances(values, a, b) <= np.minimum(allowed[a], allowed[b])
                if keep.any():
                    n_found += int(np.count_nonzero(keep))
                    yield np.stack([rows[a[keep]], rows[b[keep]]], axis=1)
                first += step
                if n_found <= _CROWDED:
                    step = _BLOCK  # near from afar only: nothing to join, so the rest in one piece


def allowed_distance(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (N,) how far another sketch may be from each of (N, d) and be near it, in the norm of the difference."""
    spread = np.concatenate([part.std(axis=1, dtype=np.float32) for part in _parts(values)])
    limit: NDArray[np.float32] = np.minimum(MAX_RMS, MAX_RMS_OF_CONTRAST * spread) * np.sqrt(values.shape[1])
    return limit


def _project(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Orthonormal coordinates of the 4 x 4 x 3 mean colours, float32 (N, 48), the first the one of largest variance."""
    coarse = np.concatenate(
        [part.reshape(-1, 4, 4, 4, 4, 3).sum(axis=(2, 4), dtype=np.float32) for part in _parts(values)]
    )
    near = coarse.reshape(len(values), -1) / np.float32(4)  # a mean of 16 cells, times sqrt(16)
    near -= near.mean(axis=0)
    axes = np.linalg.eigh(near.T @ near)[1][:, ::-1]  # largest first
    turned: NDArray[np.float32] = (near @ axes).astype(np.float32)
    return turned


def distances(values: NDArray[np.uint8], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (M,) the norms of the differences between rows ``a`` and ``b`` (M,) of sketches (N, d)."""
    found = np.empty(len(a), dtype=np.float32)
    for start in range(0, len(a), _WINDOW):
        rows = slice(start, start + _WINDOW)
        found[rows] = np.linalg.norm(values[a[rows]].astype(np.float32) - values[b[rows]], axis=1)
    return found


def _parts(values: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK)]
