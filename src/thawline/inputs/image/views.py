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
from thawline.inputs.image.decode import (
    SPARE,
    Picture,
    Shrinking,
    averaged,
    fitted,
    open_picture,
    reduction_of,
    shrinking,
)
from thawline.randomness import derived_seed, generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thawline.records import ImagePreparation, Payload

REVISION = 3
"""Raise it when the same augmentation and seed begin to give other pixels."""
_TRIES = 10
"""Crops drawn before the largest allowed one in the centre is taken."""
_SPARE_VIEW = 3.0
"""Pixels, across, that a picture must keep for each one of its smallest possible crop when it is made smaller before
the views are cut: first while a JPEG is decoded, then by averaging. Views of 12 megapixels (mosaics of photographs) are
then off by one level of 255 in the mean, and the features of an ImageNet MobileNetV2 at 224 px have a cosine of 0.9994
to the exact ones in the median, 0.9991 at worst. Smaller pictures are resized as they are."""
_BY_TORCH = ("bilinear", "bicubic")
"""Torch resizes bytes with these filters six to eight times as fast as Pillow, one level off in less than one value of
a hundred, and with the same bits on AVX-512, AVX2 and neither."""
_MOST_PIXELS = 2**23
"""Torch needs a copy of the picture: a larger one is left to Pillow."""
_RESAMPLING = {name: Image.Resampling[name.upper()] for name in ("nearest", *_BY_TORCH, "lanczos")}
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

    A view does not depend on the other views that are asked for.

    Args:
        payload: The sample as stored.
        preparation: Decides the size of a view and the filter it is resized with.
        seeds: One for each view; None gives what ``prepare`` gives, byte for byte.
    Raises:
        UndecodableError: The sample cannot be decoded.
    """
    whole, cropped = shrinking(preparation), _shrinking(preparation, augmentation)
    if set(seeds) == {None}:
        return [fitted(open_picture(payload, whole, scales=preparation.scales), preparation)] * len(seeds)
    picture = plain = open_picture(payload, cropped, spare=_SPARE_VIEW, scales=preparation.scales)
    if None in seeds and reduction_of(whole, picture.size, SPARE) != picture.reduction:
        plain = open_picture(payload, whole, scales=preparation.scales)
    left = cropped(*picture.size) / picture.reduction
    source = _Source.of(averaged(picture, max(1, int(left / _SPARE_VIEW))), preparation)
    return [
        fitted(plain, preparation) if seed is None else _view(source, preparation, augmentation, seed) for seed in seeds
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A picture from which views are cut."""

    picture: Picture
    pixels: NDArray[np.uint8] | None
    """(H, W, 3) of the image, for torch; None if Pillow resizes."""

    @classmethod
    def of(cls, picture: Picture, preparation: ImagePreparation) -> _Source:
        by_torch = preparation.interpolation in _BY_TORCH and math.prod(picture.image.size) <= _MOST_PIXELS
        return cls(picture, np.asarray(picture.image) if by_torch else None)

    def cut(
        self, box: tuple[int, int, int, int], preparation: ImagePreparation, *, mirrored: bool
    ) -> NDArray[np.uint8]:
        """Crop, resize and maybe mirror: uint8 (H, W, 3). The box is one of the picture before it was made smaller."""
        height, width = preparation.input_px
        image, inside = self.picture.image, self.picture.inside(box)
        if self.pixels is None:
            view = image.resize((width, height), _RESAMPLING[preparation.interpolation], box=inside)
            return np.array(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else view)
        import torch  # only training needs it

        # Torch crops whole pixels only. Of a smaller picture, that moves a border by a sixth of a pixel of the view.
        left, right = _whole(inside[0], inside[2], image.width)
        top, bottom = _whole(inside[1], inside[3], image.height)
        crop = torch.from_numpy(self.pixels[top:bottom, left:right].copy())[None].permute(0, 3, 1, 2)  # (1, 3, h, w)
        resized = torch.nn.functional.interpolate(
            crop, (height, width), mode=preparation.interpolation, antialias=True
        )  # (1, 3, H, W)
        pixels = (resized.flip(3) if mirrored else resized)[0].permute(1, 2, 0)  # -> (H, W, 3)
        return np.ascontiguousarray(pixels.numpy())


def _whole(begin: float, end: float, size: int) -> tuple[int, int]:
    """Round the ends of a stretch to whole pixels, at least one, within ``size``."""
    first = min(round(begin), size - 1)
    return first, max(first + 1, min(round(end), size))


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


def _view(source: _Source, preparation: ImagePreparation, augmentation: Augmentation, seed: int) -> NDArray[np.uint8]:
    """One augmented view of a picture.

    Everything is drawn, in a fixed order and number, whether it is used or not: switching one thing off must leave the
    others as they were.
    """
    draws = generator(seed, "view")
    crop, mirrored = draws.random(2 * _TRIES + 2), draws.random() < 0.5
    changes, order = draws.uniform(-1, 1, len(_ENHANCERS)), draws.permutation(len(_ENHANCERS))

    box = _crop_box(source.picture.size, augmentation, crop)
    view = source.cut(box, preparation, mirrored=augmentation.flip and bool(mirrored))
    if augmentation.colour > 0:
        image = Image.fromarray(view)
        for index in order:
            image = _ENHANCERS[index](image).enhance(1 + augmentation.colour * float(changes[index]))
        view = np.array(image)
    return view


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
