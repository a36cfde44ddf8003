"""What a text looks like from afar: copies up to case, blanks and punctuation have equal sketches of content."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

from thawline.inputs.near import NearCopies
from thawline.inputs.text.decode import LEGACY, decoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thawline.records import Payload

_SAME, _FLAGS = 32, 32
"""Bytes of the digest that copies share, and where the byte of the flags stands."""
SKETCH_SHAPE = (_FLAGS + 1,)
_CONTROLS, _LEGACY = 1, 2
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ufffd]")
"""Characters that people do not type, and the one that stands for what could not be decoded."""


def sketch(payload: Payload) -> NDArray[np.uint8]:
    """Return the sketch (33,) of a text: a digest that copies share, and flags.

    Raises:
        UndecodableError: It is no text.
    """
    text, legacy = decoded(payload)
    same = hashlib.sha256(normal_form(text).encode("utf-8", "surrogatepass")).digest()
    flags = (_CONTROLS if _CONTROL.search(text) else 0) | (_LEGACY if legacy else 0)
    return np.frombuffer(same + bytes([flags]), np.uint8)


def normal_form(text: str) -> str:
    """Return what copies share: letters, digits and signs, without case, blanks and punctuation.

    A text of nothing else keeps its punctuation, so that ``:)`` and ``?!`` are no copies.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(filter(str.isalnum, folded)) if folded.isascii() else "".join(filter(_counts, folded))
    return kept or "".join(folded.split())


def _counts(character: str) -> bool:
    """Whether a character is more than a blank, punctuation or a control; emoji and other signs are."""
    return unicodedata.category(character)[0] not in "ZPC"


def near(sketches: NDArray[np.uint8], labels: NDArray[np.int64] | None = None) -> NearCopies:
    """See ``InputKind.near``: families of equal digests. Classes decide nothing, as no two texts are merely alike."""
    n = len(sketches)
    first: dict[bytes, int] = {}
    family = np.fromiter((first.setdefault(row[:_SAME].tobytes(), i) for i, row in enumerate(sketches)), np.int64, n)
    return NearCopies(family, np.full(n, -1, np.int64))


def remarks(sketches: NDArray[np.uint8], files: Sequence[str]) -> list[str]:
    """See ``InputKind.remarks``: control characters, and files that are no UTF-8."""
    flags, found = sketches[:, _FLAGS], []
    controls, legacy = np.flatnonzero(flags & _CONTROLS), np.flatnonzero(flags & _LEGACY)
    if len(controls):
        found.append(
            f"{len(controls):,} of {len(files):,} texts hold control characters, or signs for what could not be "
            f"decoded, as if they had been saved wrongly; look at {files[controls[0]]}."
        )
    if len(legacy):
        found.append(
            f"{len(legacy):,} of {len(files):,} texts are not UTF-8 and were read as Windows-1252 ({LEGACY}), first "
            f"{files[legacy[0]]}. Save them as UTF-8 if letters come out wrong."
        )
    return found
