"""Which files of a folder are samples: pictures or texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from thawline.inputs.image.formats import format_of, is_companion, is_text, promises_picture, why_no_picture
from thawline.inputs.text.formats import is_beside_texts, may_be_text, promises_text, why_no_text


class Sought(NamedTuple):
    """How files are told; a name is that of a file, without its folder."""

    input_kind: str
    """A name in ``inputs.KINDS``."""
    noun: str
    promises: Callable[[str], bool]
    """Whether its name promises a sample."""
    is_companion: Callable[[str], bool]
    """Whether it lies beside samples, by its name, and nobody misses it."""
    is_one: Callable[[bytes, str], bool]
    """Whether its first bytes are those of a sample, if its name says nothing."""
    why_not: Callable[[bytes, str], str]
    """Why it is not read, by its first bytes and its name."""


PICTURES = Sought(
    "image", "picture", promises_picture, is_companion, lambda head, name: format_of(head) is not None, why_no_picture
)
TEXTS = Sought(
    "text", "text", promises_text, is_beside_texts,
    lambda head, name: bool(head) and may_be_text(name) and is_text(head), why_no_text,
)  # fmt: skip
