"""Compare the first batch norm's stored statistics with what the user's pictures give it, for several preparations.

The first layer is linear: the mean and covariance of the patches that it sees give the mean and variance of each of its
channels, whatever mean, standard deviation and order of channels the pictures are given. So one look at the pixels
judges every preparation, and nothing is run. Labels are not needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thawline.randomness import generator

Floats = NDArray[np.float64]

N_PICTURES, FEWEST_PICTURES = 32, 12
_N_PATCHES = 20_000
_CLIP = 9.0
"""Squared differences beyond three standard deviations, or a factor of 20, count no more."""
_NEAR, _TIMES, _GAP = 0.15, 5.0, 0.35
_TIMES_SWAPPED = 2.5
_FAR = 6.0
"""Thresholds, in source variances, from the measurements in benchmarks/preparation.md: the right preparation was blamed
in 2 of 1,400 cases, both with pale pictures; pixels up to 255 instead of 1, or the other way round, always were.
"""
_AGREES = 0.25
_WARM = 0.01
"""Red less blue, of 1, on average: photographs have more red. Where they have not, because they are inverted or of the
sea, the means of the channels look as if blue came first.
"""
_FLAT = 0.03
"""Standard deviation of pixels, of 1, below which pictures say nothing about a scale."""
_SAME_MEAN, _SAME_LOG_STD = 0.1, 0.3
"""Normalisations that differ by less cannot be told apart: those of CLIP and of ImageNet, for example."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How pixels of 0 to 1 become inputs: less ``mean``, divided by ``std``; perhaps with blue first."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    swapped: bool = False
    """Whether the channels are in the order blue, green, red."""

    def like(self, other: Normalisation) -> bool:
        """Whether the two are too much alike to be told apart."""
        means = max(abs(one - two) for one, two in zip(self.mean, other.mean, strict=True))
        stds = max(abs(math.log(one / two)) for one, two in zip(self.std, other.std, strict=True))
        return self.swapped == other.swapped and means < _SAME_MEAN and stds < _SAME_LOG_STD


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
USUAL = tuple(
    Normalisation(mean, std, swapped)
    for swapped in (False, True)
    for mean, std in (
        IMAGENET,
        ((0.5,) * 3, (0.5,) * 3),
        ((0.0,) * 3, (1.0,) * 3),
        ((0.0,) * 3, (1 / 255,) * 3),
        (IMAGENET[0], (1 / 255,) * 3),
    )
)
"""ImageNet's moments; -1 to 1; 0 to 1; 0 to 255; 0 to 255 less ImageNet's mean. Each with blue first, too."""


@dataclass(frozen=True, slots=True, eq=False)
class Stem:
    """The first convolution, and the batch norm that takes its output."""

    conv: str
    norm: str
    """Names of the two."""
    weight: Floats
    """(O, 3, h, w)"""
    bias: Floats
    """(O,)"""
    mean: Floats
    """(O,) stored by the batch norm."""
    variance: Floats
    """(O,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Moments of the patches of pictures, pixels from 0 to 1."""

    mean: Floats
    """(3 * h * w,)"""
    covariance: Floats
    """(3 * h * w, 3 * h * w)"""
    n_pictures: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What the statistics say of the preparation that was taken."""

    distance: float
    """Mean over channels of squared differences, in source variances; 0 on the source itself."""
    better: Normalisation | None = None
    """Set if it clearly does not agree: the one that fits best."""
    better_distance: float = 0.0

    @property
    def agrees(self) -> bool:
        return self.better is None and self.distance <= _AGREES

    @property
    def fits_well(self) -> bool:
        """Whether the better one fits as well as it would on the source."""
        return self.better_distance <= _NEAR


def patches_of(pictures: NDArray[np.uint8], height: int, width: int, *, seed: int = 0) -> Patches:
    """Draw patches (h, w) at random places of pictures (N, H, W, 3), N > 0, and take their moments."""
    n, tall, wide, _ = pictures.shape
    each = max(_N_PATCHES // n, 1)
    draw = generator(seed, "patches")
    top = draw.integers(0, max(tall - height, 0) + 1, (n, each))
    left = draw.integers(0, max(wide - width, 0) + 1, (n, each))
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (height, width), axis=(1, 2))
    drawn = windows[np.arange(n)[:, None], top, left]  # (n, each, 3, h, w)
    rows = drawn.reshape(n * each, -1).astype(np.float64) / 255
    return Patches(rows.mean(axis=0), np.cov(rows.T), n)


def distance(stem: Stem, patches: Patches, given: Normalisation) -> float:
    """Mean over channels of ((mu - mu_s)^2 / var_s + log(sd / sd_s)^2), each clipped; 0 on the source itself.

    The logarithm makes a scale that is too large and one that is too small count alike.
    """
    size = stem.weight[0, 0].size
    mean, std = (np.repeat(values, size) for values in (given.mean, given.std))
    order = np.arange(3 * size).reshape(3, size)[:: -1 if given.swapped else 1].ravel()
    weight = stem.weight.reshape(len(stem.weight), -1) / std
    mu = weight @ (patches.mean[order] - mean) + stem.bias
    variance = np.einsum("oi,ij,oj->o", weight, patches.covariance[np.ix_(order, order)], weight)
    live = stem.variance > 1e-3 * np.median(stem.variance)  # channels that are always off have no scale
    if not live.any():
        return math.inf
    shift = (mu - stem.mean)[live] ** 2 / stem.variance[live]
    scale = (0.5 * np.log((variance[live] + 1e-8) / stem.variance[live])) ** 2
    return float(np.mean(np.minimum(shift, _CLIP) + np.minimum(scale, _CLIP)))


def judge(stem: Stem, patches: Patches, taken: Normalisation) -> Finding | None:
    """Compare the preparation that was taken with the usual ones; None if the pictures can say nothing.

    It is blamed only if another one fits well while it does not, or if it is off by far and another by at most half as
    much. Pictures unlike the source fit none well, and blame none.
    """
    spread = math.sqrt(float(np.mean(np.diag(patches.covariance))))
    if patches.n_pictures < FEWEST_PICTURES or spread < _FLAT or not np.median(stem.variance) > 0:
        return None
    own = distance(stem, patches, taken)
    if not math.isfinite(own):
        return None
    others = {one: distance(stem, patches, one) for one in USUAL if not one.like(taken)}
    best = min(others, key=lambda one: others[one])
    plain = min((one for one in others if not one.swapped), key=lambda one: others[one])
    least = min(own, others[plain])
    red, _, blue = patches.mean.reshape(3, -1).mean(axis=1)
    warm = red - blue >= _WARM
    if warm and best.swapped and others[best] <= _NEAR and least >= _TIMES_SWAPPED * others[best]:
        return Finding(own, best, others[best])
    near = others[plain]
    clearly = near <= _NEAR and own >= _TIMES * near and own - near >= _GAP
    if clearly or (own >= _FAR and near <= own / 2):
        return Finding(own, plain, near)
    return Finding(own)
