"""In which encoding a table is written, packed or not."""

from __future__ import annotations

import codecs
import gzip
import re
from pathlib import Path
from typing import IO

from thawline.errors import DataError

LEGACY_LINES = "thawline-legacy"
"""Handler of errors that reads what is no UTF-8 as Windows-1252, byte by byte."""
_ODD_BYTES = re.compile(rb"[\x00-\x08\x0e-\x19]")
_ODD_FRAC = 0.02
"""Share of such bytes that a table may hold: some texts hold stray control characters."""
_MOST_JUDGED = 2**26
"""Bytes by which lines of one encoding are told from those of two."""
_KINDS = (
    (b"PK\x03\x04", "an Excel workbook or another zip file. Save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook. Save the sheet as CSV (UTF-8)"),
    (b"PAR1", "a Parquet file. Name it .parquet"),
)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, unpacked if it is packed with gzip."""
    file = path.open("rb")
    if file.read(2) == b"\x1f\x8b":
        file.close()
        return gzip.open(path, "rb")  # type: ignore[return-value]
    file.seek(0)
    return file


def encodings_of(path: Path) -> list[str]:
    """Return the encodings to try in turn."""
    with open_bytes(path) as file:
        head = file.read(4096)
    kind = next((kind for magic, kind in _KINDS if head.startswith(magic)), None)
    if kind is not None:
        raise DataError(f"{path} is {kind}.")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ["utf-16"]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) > 3 and max(even, odd) * 4 > len(head) and min(even, odd) * 16 < len(head):
        return ["utf-16-be" if even > odd else "utf-16-le"]
    odd = len(_ODD_BYTES.findall(head))
    if odd > _ODD_FRAC * len(head):
        raise DataError(f"{path}: this is no text, and so no table. Save it as CSV (UTF-8).")
    return ["utf-8-sig", "cp1252", "latin-1"]


SAID = {
    "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "cp1252": "Windows-1252 (Latin-1)",
    "latin-1": "Latin-1",
}  # fmt: skip
"""Encodings that a note names."""


def legacy_lines(path: Path) -> int:
    """Count the lines that are no UTF-8 in a file most of which is; 0 if it is of one other encoding."""
    plain = legacy = judged = 0
    with open_bytes(path) as file:
        while judged < _MOST_JUDGED and (line := file.readline(_MOST_JUDGED)):
            judged += len(line)
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                plain += 1
            except UnicodeDecodeError:
                legacy += 1
    return legacy if plain >= legacy else 0


def _as_legacy(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error(LEGACY_LINES, _as_legacy)
