"""Read off the first batch norm what pictures the weights were trained on, as the preparation in use would have it.

The first layer is linear. Its batch norm keeps the mean and the variance of each of its channels over the source, so a
linear system gives the mean input of the source, and the variances give its contrast. A preparation that is right
leads back from there to pixels as photographs have them. No picture of the user is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PRINCIPAL = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_ALONG = np.array([0.2175, 0.0188, 0.0045])
PIXELS = _PRINCIPAL @ np.diag(_ALONG) @ _PRINCIPAL.T
"""Covariance (3, 3) of the channels of ImageNet's pixels, from 0 to 1.

Source:
    Krizhevsky et al. 2012, "Fancy PCA"; the numbers are those of torch's own ResNet training script.
"""
_CORRELATION_PX = 30.0
"""Pixels of photographs of some 200 px that lie d apart have a correlation of about exp(-d / 30)."""
_DIRECTIONS = np.array([[1 / 3, 1 / 3, 1 / 3], [1, 0, -1], [-0.5, 1, -0.5]])
_SPREAD = np.array([0.06, 0.06, 0.03])
_COOLER = 0.035
"""How far the mean pixel of a data set lies from ImageNet's: in brightness; red less blue, which is seldom less; and
green less both. Means of published data sets of photographs are at most two of these away, CIFAR-10 to Food-101."""
_ROUGHLY = 0.01
"""Error of a mean pixel that is read off, of 1."""
_LOG_STD = 0.2
"""How far the logarithm of a channel's standard deviation lies from what is expected, in the root mean square."""
_CLIP = 9.0
"""Squared logarithms count no more: a factor of 20."""
_UNEXPLAINED = 0.3
"""Standard deviations by which the means of channels may miss the best solution of the linear system."""


@dataclass(frozen=True, slots=True, eq=False)
class ColourMap:
    """What a pixel becomes on its way to the first convolution: ``matrix @ pixel + offset``."""

    matrix: Floats
    """(C, 3)"""
    offset: Floats
    """(C,)"""

    def after(self, earlier: ColourMap) -> ColourMap:
        """Return the two in one; this one takes what the earlier gives."""
        return ColourMap(self.matrix @ earlier.matrix, self.matrix @ earlier.offset + self.offset)

    def before(self, whole: ColourMap) -> ColourMap | None:
        """Return what must come before this one for the two to make the whole; None if nothing can."""
        if self.matrix.shape != (3, 3) or np.linalg.cond(self.matrix) > 1e6:
            return None
        back = np.linalg.inv(self.matrix)
        return ColourMap(back @ whole.matrix, back @ (whole.offset - self.offset))

    @property
    def drops_colour(self) -> bool:
        """Whether pictures in colour and in grey come out alike."""
        values = np.linalg.svd(self.matrix, compute_uv=False)
        return len(values) < 3 or bool(values[1] < 1e-3 * values[0])

    def is_close(self, other: ColourMap) -> bool:
        """Whether the two are the same but for rounding."""
        size = np.abs(other.matrix).max()
        parts = (self.matrix - other.matrix, self.offset - other.offset)
        return self.matrix.shape == other.matrix.shape and all(np.abs(part).max() < 1e-3 * size for part in parts)


SAME = ColourMap(np.eye(3), np.zeros(3))


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How pixels of 0 to 1 become inputs: less ``mean``, divided by ``std``; perhaps with blue first."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    swapped: bool = False
    """Whether the channels are in the order blue, green, red."""

    @property
    def colours(self) -> ColourMap:
        scale = np.diag(1 / np.array(self.std))
        return ColourMap(scale[:, :: -1 if self.swapped else 1], -np.array(self.mean) / np.array(self.std))


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


def normalisation_of(colours: ColourMap) -> Normalisation | None:
    """Return a colour map in the words of the options; None if they have none for it."""
    for swapped in (False, True):
        matrix = colours.matrix[:, :: -1 if swapped else 1]
        std = np.diag(matrix)
        if (
            matrix.shape == (3, 3)
            and np.allclose(matrix, np.diag(std), atol=1e-4 * np.abs(std).max())
            and std.min() > 0
        ):
            mean = -colours.offset / std
            return Normalisation(_three(mean), _three(1 / std), swapped)
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Stem:
    """The first convolution, and the batch norm that takes its output."""

    conv: str
    norm: str
    """Names of the two."""
    weight: Floats
    """(O, C, h, w)"""
    bias: Floats
    """(O,)"""
    mean: Floats
    """(O,) stored by the batch norm."""
    variance: Floats
    """(O,)"""
    own: ColourMap = SAME
    """What the model itself does to its input before the first convolution."""

    @property
    def live(self) -> NDArray[np.bool_]:
        """(O,): channels that are always off have no scale."""
        return self.variance > 1e-3 * np.quantile(self.variance, 0.9)

    def on_pixels(self, given: ColourMap) -> tuple[Floats, Floats]:
        """Return the filters (O, 3 * h * w) and biases (O,) that take the pixels themselves."""
        n = len(self.weight)
        filters = np.einsum("ochw,cp->ophw", self.weight, given.matrix).reshape(n, -1)
        return filters, self.bias + self.weight.sum((2, 3)) @ given.offset


@dataclass(frozen=True, slots=True)
class Reading:
    """What the source must have looked like if a preparation is right."""

    misfit: float
    """Squared distance from photographs, in standard deviations of the data sets there are; some 1 to 3 if right."""
    colour: tuple[float, float, float]
    """Its mean pixel, of 255."""
    contrast: float
    """Its contrast as a multiple of that of photographs."""


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What a stem keeps of the inputs that it saw in training."""

    stem: Stem
    mean: Floats
    """(C,) of its inputs."""
    covariance: Floats
    """(C, C) of the error of that mean."""

    def read(self, given: ColourMap) -> Reading:
        """Say what the source must have looked like if it was given like this."""
        expected = given.matrix @ np.array(IMAGENET[0]) + given.offset
        spread, off, shift = _SPREAD.copy(), self.mean - expected, np.zeros(3)
        noise = self.covariance + np.diag((_ROUGHLY * np.linalg.norm(given.matrix, axis=1)) ** 2)
        for _ in range(2):  # the second time with the spread of the side on which it lies
            back = np.linalg.inv(_DIRECTIONS)
            prior = back @ np.diag(spread**2) @ back.T
            weighed = np.linalg.solve(given.matrix @ prior @ given.matrix.T + noise, off)
            shift = prior @ given.matrix.T @ weighed
            spread[1] = _SPREAD[1] if shift[0] > shift[2] else _COOLER
        ratios = self._log_ratios(given)
        misfit = off @ weighed + np.mean(np.minimum(ratios**2, _CLIP)) / _LOG_STD**2
        colour = 255 * (np.array(IMAGENET[0]) + shift)
        return Reading(float(misfit), _three(colour), math.exp(float(np.median(ratios))))

    def _log_ratios(self, given: ColourMap) -> Floats:
        """Logarithms of the channels' standard deviations, less those that photographs would give."""
        stem = self.stem
        filters, _ = stem.on_pixels(given)
        expected = ((filters @ photographs(*stem.weight.shape[2:])[1]) * filters).sum(axis=1)
        live = stem.live
        return 0.5 * np.log((stem.variance[live] + 1e-12) / (expected[live] + 1e-12))  # type: ignore[no-any-return]


def recall(stem: Stem) -> Memory | None:
    """Solve for the mean input of the source; None if the batch norm has never been trained, or is not explained."""
    live = stem.live
    if not live.any() or (not stem.mean.any() and np.ptp(stem.variance) == 0):
        return None
    scale = np.sqrt(stem.variance[live])
    system = stem.weight.sum((2, 3))[live] / scale[:, None]
    wanted = (stem.mean - stem.bias)[live] / scale
    if len(system) < 2 * system.shape[1]:
        return None
    mean = np.linalg.lstsq(system, wanted, rcond=None)[0]
    unexplained = float(np.mean((wanted - system @ mean) ** 2))
    if not math.isfinite(unexplained) or math.sqrt(unexplained) > _UNEXPLAINED:
        return None
    return Memory(stem, mean, unexplained * np.linalg.pinv(system.T @ system))


def photographs(height: int, width: int) -> tuple[Floats, Floats]:
    """Return mean (3 * h * w,) and covariance of patches of photographs, pixels from 0 to 1."""
    rows, columns = (axis.ravel() for axis in np.mgrid[:height, :width])
    apart = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    return np.repeat(IMAGENET[0], height * width), np.kron(PIXELS, np.exp(-apart / _CORRELATION_PX))


def _three(values: Sequence[float] | Floats) -> tuple[float, float, float]:
    one, two, three = (float(value) for value in values)
    return one, two, three
