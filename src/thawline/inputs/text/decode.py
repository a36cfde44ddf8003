"""From a stored sample to a string."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, NamedTuple

from thawline.errors import UndecodableError

if TYPE_CHECKING:
    from thawline.records import Payload

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Marks at the beginning of a file, and what they say of it; the first that fits counts."""
LEGACY = "cp1252"
"""What a file that is no UTF-8 is read as: Windows wrote it for decades in western Europe and America."""


class Decoded(NamedTuple):
    """A text, and how it was found in its bytes."""

    text: str
    legacy: bool
    """Whether it is no UTF-8, and was read as Windows-1252."""


def decoded(payload: Payload) -> Decoded:
    """Return a sample as a text.

    Raises:
        UndecodableError: It is no text.
    """
    if isinstance(payload, str):
        return Decoded(payload, legacy=False)
    if not isinstance(payload, bytes):
        raise UndecodableError(f"a text was expected; this is an array of shape {payload.shape}")
    for mark, encoding in _MARKS:
        if payload.startswith(mark):
            try:
                return Decoded(payload.decode(encoding), legacy=False)
            except UnicodeDecodeError as error:
                raise UndecodableError(f"it begins as {encoding} and is not: {error.reason}") from error
    if b"\0" in payload:
        raise UndecodableError("it holds zero bytes, as no text does")
    try:
        return Decoded(payload.decode("utf-8"), legacy=False)
    except UnicodeDecodeError:
        return Decoded(payload.decode(LEGACY, errors="replace"), legacy=True)


def text_of(payload: Payload) -> str:
    """Return a sample as a text with something in it.

    Raises:
        UndecodableError: It is no text, or empty.
    """
    text = decoded(payload).text
    if not text.strip():
        raise UndecodableError("the text is empty" if not text else "the text is nothing but blanks")
    return text
