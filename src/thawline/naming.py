"""Names of files and classes: how two are told to be the same, and how one that is no UTF-8 is written."""

from __future__ import annotations

import json
import os
import re
from typing import Any

MAX_FOLDER_NAME = 100
"""Bytes of a name that the name of a new folder takes over; file systems allow 255 for the whole name."""
_SURROGATES = re.compile("[\ud800-\udfff]+")


def canonical(name: str) -> str:
    """Return the composed form (NFC) of a name, by which names from folders, tables and splits are matched.

    macOS writes ``é`` as two characters (NFD) where others write one: the same name for every reader.

    Source:
        Unicode Standard Annex 15, "Unicode Normalization Forms".
    """
    if name.isascii():
        return name
    from unicodedata import normalize  # a library that most starts do without

    return normalize("NFC", name)


def written(name: str) -> str:
    r"""Return a name as text that every file and terminal can hold: bytes that are not UTF-8 become ``\xNN``.

    Python hands such bytes of a file name over as lone surrogates (PEP 383), which no encoder takes.
    """
    if name.isascii() or not _has_surrogates(name):
        return name
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character that stands for no byte, as Windows and JSON allow
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def quoted(name: str) -> str:
    r"""Return a name in quotes, for messages, as ``repr`` does; but a byte that is no UTF-8 stays ``\xNN``."""
    return repr(written(name)).replace(r"\\x", r"\x")


def as_json(value: Any, indent: int | None = None, *, allow_nan: bool = True) -> str:
    r"""Return JSON that every file and program can hold; a name in it is written as ``written`` does, ``"\\xNN"``.

    Raises:
        ValueError: A number is NaN or infinite, which JSON has no word for, and ``allow_nan`` is false.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=allow_nan, indent=indent)
    if text.isascii() or not _has_surrogates(text):
        return text
    return in_quotes(text)


def in_quotes(text: str) -> str:
    r"""Write bytes that are no UTF-8 inside the quoted strings of JSON or TOML: ``\\xNN``, the backslash doubled."""
    return _SURROGATES.sub(lambda found: written(found[0]).replace("\\", "\\\\"), text)


def as_folder_name(name: str) -> str:
    """Return a name that a new folder can take: on one line, and short enough to grow by a number and an ending."""
    line = "".join(character if character.isprintable() else "_" for character in written(name)).replace("/", "_")
    if len(line.encode()) > MAX_FOLDER_NAME:
        line = line.encode()[:MAX_FOLDER_NAME].decode(errors="ignore")
    return os.fsdecode((line.strip() or "data").encode())  # the same, unless the system takes names to be ASCII


def shell_word(path: object) -> str:
    """Quote a path for a shell; one that is no UTF-8, or that holds control characters, as bash and zsh read it."""
    from shlex import quote

    text = str(path)
    if text.isprintable():
        return quote(text)
    raw = text.encode("utf-8", "surrogateescape")
    return "$'" + "".join(chr(b) if 32 <= b < 127 and chr(b) not in "\\'" else f"\\x{b:02x}" for b in raw) + "'"


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
