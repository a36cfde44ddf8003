"""Measure how far the data are from the source by the backbone's batch-norm statistics; needs no source pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.planning.distances import Distance, by_chance, halvings


@dataclass(frozen=True, slots=True, eq=False)
class NormInputs:
    """Inputs of one batch norm, picture by picture, beside its stored statistics of the source."""

    name: str
    means: NDArray[np.float64]
    """(N, C) of each channel over the positions of a picture."""
    squares: NDArray[np.float64]
    """(N, C) mean squares, likewise."""
    source_mean: NDArray[np.float64]
    """(C,)"""
    source_var: NDArray[np.float64]
    """(C,), with the layer's epsilon, so that a channel without variance does not outweigh all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NormShift:
    """Shift of channel moments, in units of the source's variance; 0 for the source itself."""

    layers: tuple[tuple[str, Distance], ...]
    """In the order in which they run."""
    early: Distance
    """Mean over the first third of the layers."""
    middle: Distance
    late: Distance
    overall: Distance
    n: int
    """Pictures."""

    def to_json(self) -> dict[str, Any]:
        thirds = {name: getattr(self, name).to_json() for name in ("early", "middle", "late", "overall")}
        return thirds | {"n": self.n, "layers": {name: shift.to_json() for name, shift in self.layers}}


def norm_shift(layers: Sequence[NormInputs], *, seed: int = 0) -> NormShift:
    """Return mean over channels of ((mu_t - mu_s)^2 + (sd_t - sd_s)^2) / var_s for each layer and third of the depth.

    The null is the same number between two halves of the sample, scaled to the size of the whole sample.

    Args:
        layers: At least one, all of the same N >= 2 pictures, in the order in which they run.
        seed: Decides the halves.
    Source:
        Stored statistics in the place of source data: cf. arXiv:2107.00191.
    Raises:
        ValueError: No layer, or fewer than two pictures.
    """
    if not layers:
        raise ValueError("layers must be at least one; got none")
    n = len(layers[0].means)
    halves = halvings(n, seed)
    shifts = [Distance(_from_source(layer), by_chance([_between(layer, *h) for h in halves], n)) for layer in layers]
    thirds = [_mean([shifts[i] for i in part]) for part in np.array_split(np.arange(len(shifts)), 3) if len(part)]
    return NormShift(
        layers=tuple((layer.name, shift) for layer, shift in zip(layers, shifts, strict=True)),
        early=thirds[0],
        middle=thirds[len(thirds) // 2],
        late=thirds[-1],
        overall=_mean(shifts),
        n=n,
    )


def _from_source(layer: NormInputs) -> float:
    mean, deviation = _moments(layer, slice(None))
    return _shift(mean - layer.source_mean, deviation - np.sqrt(layer.source_var), layer)


def _between(layer: NormInputs, one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    (mean, deviation), (other_mean, other_deviation) = _moments(layer, one), _moments(layer, other)
    return _shift(mean - other_mean, deviation - other_deviation, layer)


def _moments(layer: NormInputs, rows: slice | NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation (C,) over the positions of all pictures in ``rows``."""
    mean = layer.means[rows].mean(axis=0)
    return mean, np.sqrt(np.maximum(layer.squares[rows].mean(axis=0) - mean**2, 0))


def _shift(mean: NDArray[np.float64], deviation: NDArray[np.float64], layer: NormInputs) -> float:
    return float(np.mean((mean**2 + deviation**2) / layer.source_var))


def _mean(shifts: Sequence[Distance]) -> Distance:
    return Distance(float(np.mean([s.value for s in shifts])), float(np.mean([s.null for s in shifts])))
