"""Names of files and classes: how two are told to be the same, and how one that is no UTF-8 is written."""

from __future__ import annotations

import unicodedata


def canonical(name: str) -> str:
    """Return the composed form (NFC) of a name, by which names from folders, tables and splits are matched.

    macOS writes ``é`` as two characters (NFD) where others write one: the same name for every reader.

    Source:
        Unicode Standard Annex 15, "Unicode Normalization Forms".
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def written(name: str) -> str:
    r"""Return a name as text that every file and terminal can hold: bytes that are not UTF-8 become ``\xNN``.

    Python hands such bytes of a file name over as lone surrogates (PEP 383), which no encoder takes.
    """
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if _is_bytes(name) else name


def _is_bytes(name: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in name)
