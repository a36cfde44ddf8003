"""Read tables that are text: CSV, TSV, lists of names and JSON lines, in whatever encoding, in bounded memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from thawline.data.tables.columns import AreThere, Cells, Columns, choose, filled
from thawline.data.tables.delimited import MAX_LINE, SAMPLE, Delimited
from thawline.data.tables.encodings import LEGACY_LINES, SAID, encodings_of, legacy_lines, open_bytes
from thawline.errors import DataError
from thawline.showing import counted

MAX_ROWS = 50_000_000
_MAX_UNPACKED = 2**29
"""Bytes of a packed table; a small file may unpack to any size."""
_MAX_NAME = 2**16
"""Characters of the name of a file, with its folders: more than any system takes."""
MAX_TEXT = 2**30
"""Characters of the texts of one table, which are kept in memory."""


def read_text(path: Path, columns: Columns, labelled: bool, are_there: AreThere = lambda cells: False) -> Cells:
    """Read the columns that are needed.

    Args:
        are_there: As in ``choose``.
    Raises:
        DataError: The file is no such table; the text says why.
    """
    if columns.image is not None:
        raise DataError(
            f"{path}: image_column needs a Parquet file. Name the column of file names of a CSV with file_column."
        )
    try:
        first, *others = encodings_of(path)
        try:
            return _read(path, columns, labelled, first, are_there)
        except UnicodeDecodeError:
            if not others:
                raise
        if legacy := legacy_lines(path):
            return _read(path, columns, labelled, "utf-8-sig", are_there, legacy)
        for encoding in others:
            try:
                return _read(path, columns, labelled, encoding, are_there)
            except UnicodeDecodeError:
                continue
        raise AssertionError  # latin-1 takes every byte
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the text breaks off in the middle of a character. Save it as UTF-8.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked: {error}. Unpack it yourself, or get it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}.") from error
    except csv.Error as error:
        raise DataError(f"{path}: not a readable table: {error}.") from error


def _read(path: Path, columns: Columns, labelled: bool, encoding: str, are_there: AreThere, legacy: int = 0) -> Cells:
    errors = LEGACY_LINES if legacy else "strict"
    with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="") as file:
        lines = _lines(path, file)
        json_lines = path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
        table = _JsonLines(path, lines, columns) if json_lines else Delimited(path, lines, columns)
        said = (
            [f"{path.name} is not UTF-8; it was read as {SAID[encoding]}. Save it as UTF-8 if names look wrong."]
            if encoding in SAID
            else []
        )
        if legacy:
            verb = "is no UTF-8 and was" if legacy == 1 else "are no UTF-8 and were"
            said.append(
                f"{counted(legacy, 'line')} of {path.name} {verb} read as Windows-1252, unlike the others. Save the "
                "table as UTF-8."
            )
        at = {name: i for i, name in reversed(list(enumerate(table.names)))}
        rows = [row for _, row in table.sample]

        def sample(name: str) -> list[Any]:
            return [row[at[name]] for row in rows if at[name] < len(row)]

        choice = choose(path, table.names, table.columns, labelled, None, sample, are_there)
        read: dict[str, list[Any]] = {name: [] for name in choice.wanted}
        # Blanks around labels are counted when these are read, and those around a text belong to it.
        as_written = (choice.roles.get("label"), choice.roles.get("text"))
        columns_at = [(at[name], cells, name not in as_written) for name, cells in read.items()]
        last = max((i for i, _, _ in columns_at), default=0)
        named, text = (at[choice.roles[role]] if role in choice.roles else None for role in ("file", "text"))
        characters = 0
        places: list[int] = []
        for place, row in chain(table.sample, table.rows):
            if len(row) <= last:
                raise DataError(f"{path}: line {place} has {len(row)} cells, but the header has {len(table.names)}.")
            if len(places) >= MAX_ROWS:
                raise DataError(f"{path}: more than {MAX_ROWS:,} rows. Split the table.")
            places.append(place)
            if named is not None:
                _refuse_no_name(path, str(row[named]), choice.roles["file"], place)
            if text is not None and isinstance(row[text], str):
                characters += len(row[text])
                refuse_too_much(path, characters)
            for i, cells, stripped in columns_at:
                cell = row[i]
                cells.append(cell.strip() if stripped and isinstance(cell, str) else cell)
    return filled(path, choice, read, places, "line", notes=(*said, *table.notes))


def _refuse_no_name(path: Path, cell: str, column: str, place: int) -> None:
    if len(cell) > _MAX_NAME:
        raise DataError(
            f"{path}: column {column!r} must hold file names; line {place} has {len(cell):,} characters there. Name "
            "another (--file-column), or the column of texts (--text-column)."
        )


def refuse_too_much(path: Path, characters: int) -> None:
    """Refuse more text than is kept in memory."""
    if characters > MAX_TEXT:
        raise DataError(f"{path}: holds more than {MAX_TEXT // 2**20:,} MiB of text. Split the table, or draw from it.")


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yield lines of bounded length: without a bound, a file without line ends would be read into memory whole."""
    packed, total = path.suffix.lower() == ".gz", 0
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise DataError(f"{path}: a line is longer than {MAX_LINE:,} characters, so this is no table.")
        total += len(line)
        if packed and total > _MAX_UNPACKED:
            raise DataError(f"{path}: unpacks to more than {_MAX_UNPACKED // 2**20} MiB. Unpack it yourself.")
        yield line


class _JsonLines:
    """One JSON object in each line, its keys the columns."""

    def __init__(self, path: Path, lines: Iterator[str], columns: Columns) -> None:
        self.path, self.columns, self.notes = path, columns, ()
        objects = self._objects(lines)
        first = list(islice(objects, SAMPLE))
        if not first:
            raise DataError(f"{path}: expected one JSON object in each line; the file is empty.")
        self.names = list(dict.fromkeys(str(key) for _, found in first for key in found))
        self.sample = [(place, self._cells(found)) for place, found in first]
        self.rows = ((place, self._cells(found)) for place, found in objects)

    def _cells(self, found: dict[str, Any]) -> list[Any]:
        return [found.get(name) for name in self.names]

    def _objects(self, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise DataError(f"{self.path}: line {number} is no JSON object. Write one in each line, or save a CSV.")
            yield number, found
