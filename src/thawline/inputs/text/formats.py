"""Which files are read as texts, told by their names or first bytes, and why others are not."""

from __future__ import annotations

from os.path import splitext

from thawline.inputs.image.formats import (
    COMPANION_NAMES,
    format_of,
    is_companion,
    is_text,
    promises_picture,
    suffix_of,
    why_no_picture,
)

SUFFIXES = frozenset(".txt .text .md .markdown".split())
"""File names that promise a text."""
_NOTES = COMPANION_NAMES | {"urls", "sources"}


def promises_text(name: str) -> bool:
    """Tell by its name whether a file should be a text: ``1.txt``, but not ``README.txt``."""
    return suffix_of(name) in SUFFIXES and not _is_note(name)


def is_beside_texts(name: str) -> bool:
    """Tell by its name a file that lies beside texts and that nobody misses."""
    return _is_note(name) or (is_companion(name) and suffix_of(name) not in SUFFIXES)


def may_be_text(name: str) -> bool:
    """Tell a file without suffix, or with a number for one, as mails and news have it: its content decides."""
    suffix = suffix_of(name)
    return not suffix or suffix[1:].isdigit() or suffix == "."


def why_no_text(head: bytes, name: str) -> str:
    """Say why a file is not read as a text."""
    if promises_picture(name) or format_of(head) is not None:
        return "a picture, where texts were expected"
    if is_text(head):
        return "no text by its name: call it .txt if it is one"
    return why_no_picture(head, name).split(":")[0] + ": save it as a .txt file (UTF-8) if it holds a text"


def _is_note(name: str) -> bool:
    return splitext(name)[0].lower() in _NOTES  # noqa: PTH122
