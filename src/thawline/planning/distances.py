"""Distances that are read against their own null: their value if there were no difference to see."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from thawline.randomness import generator

N_HALVINGS = 8
"""A null is the mean over so many ways to deal a sample to two halves."""


@dataclass(frozen=True, slots=True)
class Distance:
    """A squared distance, and the distance that a sample of this size has by chance alone."""

    value: float
    null: float
    """From the distance between two halves of the sample itself."""

    @property
    def excess(self) -> float:
        """The distance less what chance explains; never below 0."""
        return max(0.0, self.value - self.null)

    def to_json(self) -> dict[str, float]:
        return asdict(self) | {"excess": self.excess}


def halvings(n: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Deal rows 0..n-1 to two halves, eight times.

    Raises:
        ValueError: n is below 2.
    """
    if n < 2:
        raise ValueError(f"n must be at least 2 to be halved; got {n}")
    orders = [generator(seed, "halves", i).permutation(n) for i in range(N_HALVINGS)]
    return [(order[: n // 2], order[n // 2 :]) for order in orders]


def by_chance(between_halves: list[float], n: int) -> float:
    """Turn squared distances between halves of a sample into what chance adds to the whole sample's distance.

    The mean of n rows strays by s/n, squared; the difference of means of a and b rows by s/a + s/b. So the first is
    ab/n^2 of the second, a quarter for equal halves.
    """
    return float(np.mean(between_halves)) * (n // 2) * (n - n // 2) / n**2
