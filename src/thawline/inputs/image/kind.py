"""Pictures, as ``InputKind`` asks for them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thawline.inputs.image.decode import open_image, prepare, thumbnail
from thawline.inputs.image.sketches import contrast
from thawline.inputs.image.sketches import near_pairs as near

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from thawline.inputs.image.views import Augmentation
    from thawline.records import ImagePreparation, Payload

__all__ = ["look", "near", "prepare", "remarks", "show", "simple_features", "stand_ins", "to_tensors", "views"]

SKETCH_SHAPE = (16, 16, 3)
SIMPLE = "16 x 16 pixels"
FLAT = 4
"""Grey levels; a picture in which no two places differ by more shows nothing that could be learned from."""


def look(payload: Payload) -> NDArray[np.uint8]:
    """See ``InputKind.look``: the whole picture squashed to 16 x 16 RGB."""
    return np.asarray(thumbnail(payload, SKETCH_SHAPE[0]), dtype=np.uint8)


def simple_features(sketches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """See ``InputKind.simple_features``: (N, 16, 16, 3) -> (N, 768) in 0..1."""
    return sketches.reshape(len(sketches), -1).astype(np.float32) / np.float32(255)


def remarks(sketches: NDArray[np.uint8], files: Sequence[str]) -> list[str]:
    """See ``InputKind.remarks``: pictures without contrast."""
    flat = np.flatnonzero(contrast(sketches) <= FLAT)
    if not len(flat):
        return []
    return [
        f"{len(flat)} of {len(files)} pictures have almost no contrast (all black, or all of one colour), as if they "
        f"had been saved wrongly; look at {files[flat[0]]} before you believe a score."
    ]


def show(payload: Payload, side_px: int) -> bytes:
    """See ``InputKind.show``."""
    small = open_image(payload)
    small.thumbnail((side_px, side_px))
    file = io.BytesIO()
    small.save(file, "PNG", compress_level=1)  # the smallest takes twenty times as long, and saves a sixth
    return file.getvalue()


def views(
    payload: Payload, preparation: ImagePreparation, augmentation: Augmentation, seeds: Sequence[int | None]
) -> list[NDArray[np.uint8]]:
    """See ``InputKind.views``."""
    from thawline.inputs.image.views import prepare_views  # only training needs it

    return prepare_views(payload, preparation, augmentation, seeds)


def to_tensors(preparation: ImagePreparation, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """See ``InputKind.to_tensors``: pixels uint8 (B, H, W, 3) -> normalised float32 (B, 3, H, W)."""
    from thawline.inputs.image.tensors import Normalise

    return Normalise(preparation, device)


def stand_ins(n: int, preparation: ImagePreparation) -> NDArray[np.uint8]:
    """See ``InputKind.stand_ins``."""
    from thawline.inputs.image.stand_ins import stand_ins as drawn  # only conversion needs it

    return drawn(n, preparation.input_px)
