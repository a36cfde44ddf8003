"""Which samples are near copies of others, as every kind of input says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class NearCopies(NamedTuple):
    """Which samples show the same as another."""

    family: NDArray[np.int64]
    """(N,) the first row of those that are copies of one another, pairwise; its own for a sample without copies."""
    alike: NDArray[np.int64]
    """(N,) equal numbers for samples that are too many, and too much alike, to count as copies; -1 for all others."""
