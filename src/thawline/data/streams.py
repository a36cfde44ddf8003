"""List texts that come by a stream, such as standard input: one in each line, or a table."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO

from thawline.data.arrays import open_texts
from thawline.data.listing import Listing
from thawline.data.sources import MAX_FILE_BYTES
from thawline.data.tables.columns import Columns
from thawline.data.tables.usual import TEXT_COLUMNS, key_of
from thawline.errors import DataError, UndecodableError
from thawline.inputs.text.decode import decoded

_DELIMITERS = (",", "\t", ";", "|")
_SENTENCE = 4
"""Words that no name of a column has."""


def list_stream(stream: IO[bytes], columns: Columns, name: str = "standard input") -> Listing:
    """List the texts of a stream, without labels, to its end.

    A first line that is a JSON object makes it a table of JSON lines, and one that names a column of texts and another
    makes it a CSV. Else each line is a text; blank ones are left out and counted.

    Raises:
        DataError: There is nothing in it, too much, or no text.
    """
    content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{name}: more than the {MAX_FILE_BYTES // 2**20} MiB that are read. Give a file instead.")
    try:
        text = decoded(content).text
    except UndecodableError as error:
        raise DataError(f"{name}: a text was expected in each line; {error}.") from error
    lines = text.splitlines() if "\n" not in text else [line.rstrip("\r") for line in text.split("\n")]
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{name}: expected one text in each line; there is nothing in it.")
    suffix = _table_suffix(first, columns)
    if suffix is not None:
        return _as_table(text, suffix, columns, name)
    while not lines[-1].strip():
        lines.pop()
    listing = open_texts([line if line.strip() else None for line in lines], None)
    return replace(listing, name=name, files=tuple(f"line {i + 1}" for i in range(len(lines))))


def _table_suffix(first: str, columns: Columns) -> str | None:
    """Return the ending of the table whose first line this is; None if it is a text."""
    if first.lstrip().startswith("{"):
        try:
            return ".jsonl" if isinstance(json.loads(first), dict) else None
        except (ValueError, RecursionError):
            return None
    for delimiter in _DELIMITERS:
        names = [cell.strip('"') for cell in first.split(delimiter)]
        plain = all(cell == cell.strip() and len(cell.split()) < _SENTENCE for cell in names)  # no comma of a sentence
        known = len(names) > 1 and plain and any(key_of(cell) in TEXT_COLUMNS for cell in names)
        if columns.text in names or known:
            return ".csv"
    return None


def _as_table(text: str, suffix: str, columns: Columns, name: str) -> Listing:
    from thawline.data.tables.opening import open_table

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"input{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            listing = open_table(path, replace(columns, kind="text"), labelled=False)
        except DataError as error:
            raise DataError(str(error).replace(str(path), name)) from error
    files = tuple(file.replace(f"{path.name}#", "line ") for file in listing.files)
    notes = tuple(note.replace(path.name, name) for note in listing.warnings)
    return replace(listing, name=name, files=files, root=None, where=name, warnings=notes)
