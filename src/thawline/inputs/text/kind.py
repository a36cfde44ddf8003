"""Texts, as ``InputKind`` asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thawline.inputs.settled import Beyond, Settled
from thawline.inputs.simple import Simple, SimpleFeatures
from thawline.inputs.text.decode import text_of
from thawline.inputs.text.sketches import SKETCH_SHAPE, near, remarks, sketch
from thawline.inputs.text.truncation import Truncation
from thawline.randomness import generator

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from thawline.inputs.image.views import Augmentation
    from thawline.records import Payload, TextPreparation, ValueScale

__all__ = [
    "NOUN", "SAME", "SIMPLE", "SKETCH_SHAPE", "beyond", "look", "near", "prepare", "remarks", "settled", "show",
    "simple_features", "stand_ins", "to_tensors", "views",
]  # fmt: skip

NOUN = "text"
SAME = "the same text up to case, blanks and punctuation"
SIMPLE = Simple("tfidf", "TF-IDF of words and characters")
SHOWN = 240
"""Characters of a text that are shown to people."""


def look(payload: Payload) -> tuple[NDArray[np.uint8], bytes]:
    """See ``InputKind.look``: what copies of the text share, and what to remark of it."""
    text_of(payload)
    return sketch(payload), b""


def settled(
    extras: Mapping[int, bytes], sketches: NDArray[np.uint8], judged_by: NDArray[np.bool_], files: Sequence[str]
) -> Settled:
    """See ``InputKind.settled``: nothing is decided over all texts."""
    return Settled((), sketches, [])


def beyond() -> Truncation:
    """See ``InputKind.beyond``: what is not read of long texts."""
    return Truncation()


def prepare(payload: Payload, preparation: TextPreparation, beyond: Beyond | None = None) -> NDArray[np.int32]:
    """See ``InputKind.prepare``; a text that is read in several windows gives (windows, length)."""
    from thawline.inputs.text.tokens import Encoded, padded, tokens_of  # data are opened without tokenizers

    if preparation.long == "windows":
        windows = tokens_of(preparation).windows(text_of(payload), preparation)
        if isinstance(beyond, Truncation):
            beyond.note(Encoded(np.concatenate(windows), 0))
        rows = [padded(window, preparation) for window in windows]
        return np.stack(rows) if len(rows) > 1 else rows[0]
    encoded = tokens_of(preparation).encode(text_of(payload), preparation)
    if isinstance(beyond, Truncation):
        beyond.note(encoded)
    return padded(encoded.ids, preparation)


def simple_features(
    sketches: NDArray[np.uint8],
    read: Callable[[int], Payload],
    learned: NDArray[np.int64],
    asked: NDArray[np.int64],
    n_classes: int,
) -> SimpleFeatures:
    """See ``InputKind.simple_features``: the texts themselves are read, as sketches say nothing of their words."""
    from thawline.inputs.text.tfidf import simple_features as counted  # scikit-learn takes a second to import

    return counted(read, learned, asked, n_classes)


def show(payload: Payload, side_px: int, scales: Sequence[ValueScale] = ()) -> str:
    """See ``InputKind.show``: the beginning of the text, on one line."""
    text = " ".join(text_of(payload).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def views(
    payload: Payload, preparation: TextPreparation, augmentation: Augmentation, seeds: Sequence[int | None]
) -> list[NDArray[np.int32]]:
    """See ``InputKind.views``: texts are not augmented, so every view is the text."""
    return [prepare(payload, preparation)] * len(seeds)


def to_tensors(preparation: TextPreparation, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """See ``InputKind.to_tensors``: ids int32 (B, L) -> int64 (B, L), as embeddings take them."""
    return lambda ids: ids.long()


def stand_ins(n: int, preparation: TextPreparation) -> NDArray[np.int32]:
    """See ``InputKind.stand_ins``: random tokens, as long as sentences are and always the same."""
    rng = generator(0, "stand-in texts")
    ids = np.full((n, preparation.length), preparation.pad, np.int32)
    longest = min(preparation.length, 64)
    for row in ids:
        length = int(rng.integers(min(4, longest), longest + 1))
        drawn = rng.integers(0, preparation.vocabulary - 1, length)
        row[:length] = drawn + (drawn >= preparation.pad)  # any token but that which stands for nothing
    return ids
