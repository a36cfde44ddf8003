"""Batches of samples that are shorter than their spec: cut to lengths that engines need not compile anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = ((64, 8), (128, 16), (512, 32))
"""(up to this length, lengths are multiples of that); beyond the last, of 64."""


def rounded_length(n: int, longest: int) -> int:
    """Return the length to which a sample of ``n`` is filled up: it depends on nothing but the sample and its spec."""
    step = next((step for most, step in _STEPS if n <= most), 64)
    return min(-(-max(n, 1) // step) * step, longest)


def lengths_of(samples: NDArray[np.int32], pad: int) -> NDArray[np.int64]:
    """Count the numbers of each of (B, L) before its padding, (B,)."""
    there = samples != pad
    return np.where(there.any(axis=1), samples.shape[1] - np.argmax(there[:, ::-1], axis=1), 0).astype(np.int64)


def by_length(samples: NDArray[np.int32], pad: int, most: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Divide samples (B, L) into parts of one rounded length each: (rows (n,), samples (n, length)).

    What becomes of a sample does not depend on its neighbours, as it is never filled up to their length.

    Args:
        most: Numbers in one part, at most, unless one sample has more.
    """
    longest = samples.shape[1]
    rounded = np.array([rounded_length(int(n), longest) for n in lengths_of(samples, pad)])
    for length in np.unique(rounded):
        rows = np.flatnonzero(rounded == length)
        at_once = max(most // int(length), 1)
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            yield part, samples[part, :length]
