"""Judge a preparation by what the first batch norm keeps of its source, and by the user's pictures.

Two references are at hand: photographs in general, and the pictures of the user. The first layer is linear, so that the
mean and covariance of patches of either give the mean and variance of each of its channels, whatever mean, standard
deviation and order of channels is taken. Nothing is run, and no labels are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thawline.planning.source_memory import (
    USUAL,
    ColourMap,
    Floats,
    Normalisation,
    Reading,
    Stem,
    normalisation_of,
    recall,
)
from thawline.randomness import generator

N_PICTURES, FEWEST_PICTURES = 32, 12
_N_PATCHES, _N_VALUES = 20_000, 4_000_000
"""Patches that are drawn, or fewer if they are large."""
_CLIP = 9.0
"""Squared differences beyond three standard deviations, or a factor of 20, count no more."""
AGREES, BLAMED, TIMES = 5.0, 8.0, 2.0
"""Misfit of photographs up to which a preparation is right, from which it is wrong, and by which factor that of another
one must be less. Measured in benchmarks/preparation.md: at most 1.7 if right, at least 9.8 if wrong.
"""
_NEAR, _TIMES, _GAP = 0.15, 5.0, 0.35
"""The same for distances of the user's pictures, in source variances, if photographs explain no preparation."""
_FLAT = 0.03
"""Standard deviation of pixels, of 1, below which pictures say nothing."""
BLUISH = 0.04
"""Blue less red, of 1, on average, from which arrays may have blue first."""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Moments of the patches of pictures, pixels from 0 to 1."""

    mean: Floats
    """(3 * h * w,)"""
    covariance: Floats
    """(3 * h * w, 3 * h * w)"""
    n_pictures: int

    @property
    def tells(self) -> bool:
        """Whether the pictures are enough, and not of one tone."""
        return self.n_pictures >= FEWEST_PICTURES and float(np.mean(np.diag(self.covariance))) >= _FLAT**2


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a preparation."""

    verdict: Literal["agrees", "wrong", "untold"]
    given: Reading
    """What the source was if the preparation is right."""
    best: Normalisation | None = None
    """What should reach the first convolution, if the verdict is ``wrong``."""
    reading: Reading | None = None
    """What the source was if that one is right; None if only the user's pictures speak for it."""


def patches_of(pictures: NDArray[np.uint8], height: int, width: int, *, seed: int = 0) -> Patches:
    """Draw patches (h, w) at random places of pictures (N, H, W, 3), N > 0, and take their moments."""
    n, tall, wide, _ = pictures.shape
    each = max(min(_N_PATCHES, _N_VALUES // (3 * height * width)) // n, 1)
    draw = generator(seed, "patches")
    top = draw.integers(0, max(tall - height, 0) + 1, (n, each))
    left = draw.integers(0, max(wide - width, 0) + 1, (n, each))
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (height, width), axis=(1, 2))
    drawn = windows[np.arange(n)[:, None], top, left]  # (n, each, 3, h, w)
    rows = drawn.reshape(n * each, -1).astype(np.float64) / 255
    return Patches(rows.mean(axis=0), np.cov(rows.T), n)


def distance(stem: Stem, patches: Patches, given: ColourMap) -> float:
    """Mean over channels of ((mu - mu_s)^2 / var_s + log(sd / sd_s)^2), each clipped; 0 on the source itself.

    The logarithm makes a scale that is too large and one that is too small count alike.
    """
    filters, biases = stem.on_pixels(given)
    mu = filters @ patches.mean + biases
    variance = ((filters @ patches.covariance) * filters).sum(axis=1)
    live = stem.live
    if not live.any():
        return math.inf
    shift = (mu - stem.mean)[live] ** 2 / stem.variance[live]
    scale = (0.5 * np.log((variance[live] + 1e-8) / stem.variance[live])) ** 2
    return float(np.mean(np.minimum(shift, _CLIP) + np.minimum(scale, _CLIP)))


def judge(stem: Stem, given: ColourMap, patches: Patches | None = None) -> Finding | None:
    """Judge what a pixel becomes on its way to the first convolution; None if the batch norm keeps nothing.

    It is wrong if photographs do not lead to what the batch norm keeps, and do with another one of the usual ones,
    unless the user's pictures lead there better as they are given. If photographs do with none, as for weights trained
    on scans, the user's pictures alone decide.

    Args:
        given: The preparation, and what the model itself does to its input.
        patches: Of the user's pictures, if they have been looked at.
    """
    memory = recall(stem)
    if memory is None:
        return None
    own = memory.read(given)
    if own.misfit <= AGREES:
        return Finding("agrees", own)
    readings = {one: memory.read(one.colours) for one in USUAL if not one.colours.is_close(given)}
    best = min(readings, key=lambda one: readings[one].misfit)
    seen = patches if patches is not None and patches.tells else None
    if own.misfit >= max(BLAMED, TIMES * readings[best].misfit) and readings[best].misfit <= AGREES:
        if seen is None or not _prefer_the_given(stem, seen, given, best):
            return Finding("wrong", own, best, readings[best])
    elif seen is not None:
        distances = {one: distance(stem, seen, one.colours) for one in readings if not one.swapped}
        best = min(distances, key=lambda one: distances[one])
        near, far = distances[best], distance(stem, seen, given)
        if near <= _NEAR and far >= max(_TIMES * near, near + _GAP):
            return Finding("wrong", own, best)
    return Finding("untold", own)


def _prefer_the_given(stem: Stem, patches: Patches, given: ColourMap, best: Normalisation) -> bool:
    """Whether pictures are like the source as they are given, and are not as photographs would be."""
    near = distance(stem, patches, given)
    return near <= _NEAR and 2 * near <= distance(stem, patches, best.colours)


def blue_first(source: Reading, colour: Floats) -> bool:
    """Whether pictures with this mean pixel, of 255, look as if blue came first: the source was not bluish."""
    return bool(colour[2] - colour[0] >= 255 * BLUISH and source.colour[0] >= source.colour[2])


def cure(stem: Stem, finding: Finding) -> Normalisation | None:
    """Return what must be taken, before what the model does itself, for the best to reach the first convolution."""
    needed = None if finding.best is None else stem.own.before(finding.best.colours)
    return None if needed is None else normalisation_of(needed)
