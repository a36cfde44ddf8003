"""What is decided over a whole data set, not sample by sample, and what hears of samples that do not fit it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from thawline.records import ValueScale


class Settled(NamedTuple):
    """What a kind of input decided over a whole data set."""

    scales: tuple[ValueScale, ...]
    sketches: NDArray[np.uint8]
    """(N, *sketch_shape) as the samples look by these scales."""
    remarks: list[str]
    """Sentences for people."""


class Beyond(Protocol):
    """Gathers, from any number of threads, how samples do not fit the preparation of a model."""

    def remarks(self, scales: Sequence[ValueScale]) -> list[str]:
        """Return sentences for people; none if all samples fit."""
        ...
