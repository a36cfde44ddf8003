"""Made-up pictures with the statistics of photographs, for timings and conversions that may see no data."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thawline.randomness import generator

_CONTRAST, _BRIGHTNESS, _TINT, _COLOUR = 0.25, 0.45, 0.15, 0.3
"""Of noise, on a scale of 0 to 1: standard deviation of the pixels, their mean, how far the mean of each channel
strays, and how much the channels differ from what they share."""
_SHRUNK = 6
"""How many times smaller every second pair of pictures is drawn."""
_DISCS = 120
_RADII = 0.02, 0.7
"""Smallest and largest disc, in longer sides of the picture."""


def stand_ins(n: int, input_px: tuple[int, int], *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw pictures, uint8 (n, H, W, 3): by turns noise with the spectrum of photographs, and dead leaves.

    Dead leaves are discs that hide one another, each of one colour: they have the edges and the flat areas of
    photographs, of a white background for one, where rounding errs the same way at every position. Half of the pictures
    are drawn small and enlarged, as pictures of few pixels are.

    Source:
        Field 1987, "Relations between the statistics of natural images and the response properties of cortical cells";
        Lee, Mumford and Huang 2001, "Occlusion models for natural images".
    """
    pictures = np.empty((n, *input_px, 3), np.float64)
    for i in range(n):
        draws, shrunk = generator(seed, "stand-in", i), _SHRUNK if i % 4 > 1 else 1
        drawn = (_noise, _leaves)[i % 2](tuple(-(-side // shrunk) for side in input_px), draws)
        pictures[i] = drawn if shrunk == 1 else _enlarged(drawn, input_px)
    pixels: NDArray[np.uint8] = np.rint(255 * pictures.clip(0, 1)).astype(np.uint8)
    return pixels


def _enlarged(picture: NDArray[np.float64], input_px: tuple[int, int]) -> NDArray[np.float64]:
    height, width = input_px
    channels: list[NDArray[np.float32]] = [
        np.asarray(
            Image.fromarray(picture[:, :, i].astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        )
        for i in range(3)
    ]
    return np.stack(channels, axis=2).astype(np.float64)


def _noise(input_px: tuple[int, ...], draws: np.random.Generator) -> NDArray[np.float64]:
    """Amplitude falls with 1 / frequency."""
    height, width = input_px
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.sqrt(np.maximum(down**2 + across**2, 1 / max(height, width) ** 2))
    white = draws.standard_normal((1, height, width)) + _COLOUR * draws.standard_normal((3, height, width))
    noise = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(height, width))
    noise = (noise - noise.mean((1, 2), keepdims=True)) / np.maximum(noise.std((1, 2), keepdims=True), 1e-12)
    channels: NDArray[np.float64] = _BRIGHTNESS + _CONTRAST * noise + _TINT * draws.standard_normal((3, 1, 1))
    return channels.transpose(1, 2, 0)


def _leaves(input_px: tuple[int, ...], draws: np.random.Generator) -> NDArray[np.float64]:
    """The density of radii falls with their cube, so that it looks the same from near and far."""
    height, width = input_px
    smallest, largest = (share * max(input_px) for share in _RADII)
    uniform = draws.random(_DISCS)
    radii = 1 / np.sqrt(uniform / smallest**2 + (1 - uniform) / largest**2)
    picture = np.empty((height, width, 3))
    picture[:] = draws.random(3)
    for radius in radii:
        (y, x), colour = draws.random(2) * (height, width), draws.random(3)
        top, left = max(0, math.floor(y - radius)), max(0, math.floor(x - radius))
        box = picture[top : math.ceil(y + radius) + 1, left : math.ceil(x + radius) + 1]
        rows, columns = np.ogrid[top : top + box.shape[0], left : left + box.shape[1]]
        box[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = colour
    return picture
