"""Pictures, as ``InputKind`` asks for them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thawline.inputs.image.alike import near_copies as near
from thawline.inputs.image.decode import depth_in, further_pages, open_image, thumbnail
from thawline.inputs.image.decode import prepare as prepared
from thawline.inputs.image.scales import FULL, Extra, Ranges, depth_of, extra_from, raw_sketch
from thawline.inputs.image.scales import remarks as depth_remarks
from thawline.inputs.image.scales import settled as settle
from thawline.inputs.image.sketches import contrast
from thawline.inputs.settled import Beyond, Settled
from thawline.inputs.simple import Simple, SimpleFeatures

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from thawline.inputs.image.deep import Deep
    from thawline.inputs.image.views import Augmentation
    from thawline.records import ImagePreparation, Payload, ValueScale

__all__ = [
    "NOUN", "SAME", "beyond", "look", "near", "prepare", "remarks", "settled", "show", "simple_features", "stand_ins",
    "to_tensors", "views",
]  # fmt: skip

SKETCH_SHAPE = (16, 16, 3)
NOUN = "picture"
SAME = "the same picture, saved again or shrunk"
SIMPLE = Simple("pixels", "16 x 16 pixels")
FLAT = 4
"""Grey levels; a picture in which no two places differ by more shows nothing that could be learned from."""


def look(payload: Payload) -> tuple[NDArray[np.uint8], bytes]:
    """See ``InputKind.look``: the whole picture squashed to 16 x 16 RGB, and how deep its samples are."""
    seen: list[Deep] = []
    sketch = np.asarray(thumbnail(payload, SKETCH_SHAPE[0], seen.append), dtype=np.uint8)
    pages = isinstance(payload, bytes) and payload[:2] in (b"II", b"MM") and further_pages(payload)
    depth = depth_of(seen[0]) if seen else None
    if depth is None and not pages:
        return sketch, b""
    # A picture that fills its type is scaled by that type, whatever the others are.
    scaled_alone = depth is None or (depth.values == "uint16" and depth.high > FULL // 2)
    return sketch, Extra(depth, None if scaled_alone else raw_sketch(seen[0], SKETCH_SHAPE[0]), pages).to_bytes()


def settled(
    extras: Mapping[int, bytes], sketches: NDArray[np.uint8], judged_by: NDArray[np.bool_], files: Sequence[str]
) -> Settled:
    """See ``InputKind.settled``: by which scales deep pictures are read."""
    found = {row: extra_from(stored) for row, stored in extras.items()}
    scales, sketches = settle(found, sketches, judged_by)
    return Settled(scales, sketches, depth_remarks(found, scales, files))


def scales_of(payloads: Iterable[Payload]) -> tuple[ValueScale, ...]:
    """Return the scales of pictures that are no data set; only those deeper than 8 bits are decoded."""
    found: dict[int, Extra] = {}
    for row, payload in enumerate(payloads):
        seen = depth_in(payload)
        if seen is not None:
            found[row] = Extra(seen, None)
    n = max(found, default=-1) + 1
    return settle(found, np.zeros((n, *SKETCH_SHAPE), np.uint8), np.ones(n, bool))[0]


def beyond() -> Ranges:
    """See ``InputKind.beyond``: how far deep pictures reach."""
    return Ranges()


def prepare(payload: Payload, preparation: ImagePreparation, beyond: Beyond | None = None) -> NDArray[np.uint8]:
    """See ``InputKind.prepare``."""
    return prepared(payload, preparation, beyond.note if isinstance(beyond, Ranges) else None)


def simple_features(
    sketches: NDArray[np.uint8],
    read: Callable[[int], Payload],
    learned: NDArray[np.int64],
    asked: NDArray[np.int64],
    n_classes: int,
) -> SimpleFeatures:
    """See ``InputKind.simple_features``: sketches (N, 16, 16, 3) -> (n, 768) in 0..1. No picture is read."""
    return SimpleFeatures(_flat(sketches[learned]), _flat(sketches[asked]))


def _flat(sketches: NDArray[np.uint8]) -> NDArray[np.float32]:
    return sketches.reshape(len(sketches), math.prod(SKETCH_SHAPE)).astype(np.float32) / np.float32(255)


def remarks(sketches: NDArray[np.uint8], files: Sequence[str]) -> list[str]:
    """See ``InputKind.remarks``: pictures without contrast."""
    flat = np.flatnonzero(contrast(sketches) <= FLAT)
    if not len(flat):
        return []
    return [
        f"{len(flat)} of {len(files)} pictures have almost no contrast (all black, or all of one colour), as if they "
        f"had been saved wrongly; look at {files[flat[0]]} before you believe a score."
    ]


def show(payload: Payload, side_px: int, scales: Sequence[ValueScale] = ()) -> bytes:
    """See ``InputKind.show``."""
    small = open_image(payload, scales)
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
