"""Augmented views of a sample: cropped, mirrored and coloured at random, every draw owned by a seed."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance

from thawline.errors import UsageError
from thawline.inputs.image.decode import Picture, Shrinking, fitted, open_picture, reduction_of, shrinking
from thawline.randomness import derived_seed, generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thawline.records import ImagePreparation, Payload

REVISION = 2
"""Raise it when the same augmentation and seed begin to give other pixels."""
_TRIES = 10
"""Crops drawn before the largest allowed one in the centre is taken."""
_REDUCING_GAP = 3.0
"""A crop more than six times too large is first averaged down to at least three times the input: four times as fast for
a picture of 12 megapixels, and on photographs at most 4 of 255 levels off, 0.2 in the mean. Smaller ones are exact."""
_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """The random changes that a view may make to a picture.

    Raises:
        UsageError: A range that cannot be.
    """

    crop_scale: tuple[float, float] = (0.6, 1.0)
    """Share of the picture's area that a view shows, from and to, in (0, 1]."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of what a view shows, from and to, before it is squashed to the input."""
    flip: bool = True
    """Mirror half of the views, left to right."""
    colour: float = 0.0
    """Largest relative change of brightness, contrast and saturation, in [0, 1); 0 = none."""

    def __post_init__(self) -> None:
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise UsageError(
                "crop_scale must be two shares of the area in (0, 1], the smaller first; "
                f"got {self.crop_scale}. Try (0.6, 1.0)."
            )
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1] < math.inf:
            raise UsageError(
                "crop_ratio must be two positive ratios of width to height, the smaller first; "
                f"got {self.crop_ratio}. Try (0.75, 1.33)."
            )
        if not 0 <= self.colour < 1:
            raise UsageError(f"colour must be in [0, 1); got {self.colour}. Try 0.2, or 0 to leave colours alone.")

    def digest(self) -> str:
        """SHA-256 (hex) of every setting and of the revision of the code that carries it out."""
        ranges = [float(end) for end in (*self.crop_scale, *self.crop_ratio)]  # 1 and 1.0 are one setting
        described = json.dumps([REVISION, ranges, bool(self.flip), float(self.colour)])
        return hashlib.sha256(described.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """Numbered views of every sample; view None is the picture itself, prepared as for a prediction."""

    augmentation: Augmentation
    seed: int

    def seed_of(self, view: int | None) -> int | None:
        """Seed of one view of all samples; None for the picture itself."""
        return None if view is None else derived_seed(self.seed, "view", view)

    def sample_seed(self, view: int | None, digest: str) -> int | None:
        """Seed of one view of one sample, for ``prepare_views``.

        Args:
            view: Number of the view, or None.
            digest: Of the sample's content, so that neither its name nor its place among others changes a view.
        """
        seed = self.seed_of(view)
        return None if seed is None else derived_seed(seed, digest)


def prepare_views(
    payload: Payload, preparation: ImagePreparation, augmentation: Augmentation, seeds: Sequence[int | None]
) -> list[NDArray[np.uint8]]:
    """Return views of one sample, each uint8 (H, W, 3), before division by 255 and normalisation; it is decoded once.

    Args:
        payload: The sample as stored.
        preparation: Decides the size of a view and the filter it is resized with.
        seeds: One for each view; None gives what ``prepare`` gives, byte for byte.
    Raises:
        UndecodableError: The sample cannot be decoded.
    """
    whole, cropped = shrinking(preparation), _shrinking(preparation, augmentation)
    picture = plain = open_picture(payload, whole if set(seeds) == {None} else cropped, scales=preparation.scales)
    if None in seeds and reduction_of(whole, picture.size) != reduction_of(cropped, picture.size):
        plain = open_picture(payload, whole, scales=preparation.scales)
    return [
        fitted(plain, preparation) if seed is None else _view(picture, preparation, augmentation, seed)
        for seed in seeds
    ]


def _shrinking(preparation: ImagePreparation, augmentation: Augmentation) -> Shrinking:
    """Return how far the smallest possible crop is shrunk: the same for every view, or views would depend on others."""
    if preparation.interpolation == "nearest":
        return shrinking(preparation)
    narrowest, widest = augmentation.crop_ratio
    drawn = math.sqrt(augmentation.crop_scale[0] * min(narrowest, 1 / widest))
    centred = min(1, widest, 1 / narrowest)  # where no try fits
    return lambda width, height: (
        min(drawn * math.sqrt(width * height), centred * min(width, height)) / max(preparation.input_px)
    )


def _view(picture: Picture, preparation: ImagePreparation, augmentation: Augmentation, seed: int) -> NDArray[np.uint8]:
    """One augmented view of a picture.

    Everything is drawn, in a fixed order and number, whether it is used or not: switching one thing off must leave the
    others as they were.
    """
    draws = generator(seed, "view")
    crop, mirrored = draws.random(2 * _TRIES + 2), draws.random() < 0.5
    changes, order = draws.uniform(-1, 1, len(_ENHANCERS)), draws.permutation(len(_ENHANCERS))

    height, width = preparation.input_px
    resampling, box = Image.Resampling[preparation.interpolation.upper()], _crop_box(picture.size, augmentation, crop)
    view = picture.image.resize((width, height), resampling, box=picture.inside(box), reducing_gap=_REDUCING_GAP)
    if augmentation.flip and mirrored:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.colour > 0:
        for index in order:
            view = _ENHANCERS[index](view).enhance(1 + augmentation.colour * float(changes[index]))
    return np.array(view)


def _crop_box(
    size: tuple[int, int], augmentation: Augmentation, draws: NDArray[np.float64]
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a crop with a uniform share of the area and a log-uniform aspect ratio.

    Args:
        size: Width and height of the picture.
        draws: (2 * tries + 2,) in [0, 1): area and ratio of each try, then the position, down and across.
    Source:
        torchvision.transforms.RandomResizedCrop.get_params.
    """
    width, height = size
    smallest, largest = augmentation.crop_scale
    narrowest, widest = augmentation.crop_ratio
    *tries, (down, across) = draws.reshape(-1, 2).tolist()
    for area_draw, ratio_draw in tries:
        area = width * height * (smallest + (largest - smallest) * area_draw)
        ratio = narrowest * (widest / narrowest) ** ratio_draw
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(across * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * widest)))
    h = max(1, min(height, round(width / narrowest)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
