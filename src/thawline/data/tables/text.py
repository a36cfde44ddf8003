"""Read tables that are text: CSV, TSV, lists of names and JSON lines, in whatever encoding, in bounded memory."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TextIO

from thawline.data.tables.columns import AreThere, Cells, Columns, choose, filled
from thawline.data.tables.usual import FILE_COLUMNS, LABEL_COLUMNS, OFTEN_TEXT_COLUMNS, TEXT_COLUMNS, key_of
from thawline.errors import DataError
from thawline.inputs.image.formats import promises_picture
from thawline.showing import printable

MAX_ROWS = 50_000_000
_MAX_LINE = 2**20
_MAX_UNPACKED = 2**29
"""Bytes of a packed table; a small file may unpack to any size."""
_SAMPLE = 50
"""Rows by which columns are told apart."""
_DELIMITERS = ",;\t|"
_ODD_BYTES = re.compile(rb"[\x00-\x08\x0e-\x19]")
_KINDS = (
    (b"PK\x03\x04", "an Excel workbook or another zip file. Save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook. Save the sheet as CSV (UTF-8)"),
    (b"PAR1", "a Parquet file. Name it .parquet"),
)

Row = tuple[int, list[Any]]
"""Number of the line, and cells."""


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
        first, *others = _encodings(path)
        try:
            return _read(path, columns, labelled, first, are_there)
        except UnicodeDecodeError:
            if not others:
                raise
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


def _open(path: Path) -> IO[bytes]:
    file = path.open("rb")
    if file.read(2) == b"\x1f\x8b":
        file.close()
        return gzip.open(path, "rb")  # type: ignore[return-value]
    file.seek(0)
    return file


def _encodings(path: Path) -> list[str]:
    """Return the encodings to try in turn."""
    with _open(path) as file:
        head = file.read(4096)
    kind = next((kind for magic, kind in _KINDS if head.startswith(magic)), None)
    if kind is not None:
        raise DataError(f"{path} is {kind}.")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ["utf-16"]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) > 3 and max(even, odd) * 4 > len(head) and min(even, odd) * 16 < len(head):
        return ["utf-16-be" if even > odd else "utf-16-le"]
    if _ODD_BYTES.search(head):
        raise DataError(f"{path}: this is no text, and so no table. Save it as CSV (UTF-8).")
    return ["utf-8-sig", "cp1252", "latin-1"]


_SAID = {
    "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "cp1252": "Windows-1252 (Latin-1)",
    "latin-1": "Latin-1",
}  # fmt: skip


def _read(path: Path, columns: Columns, labelled: bool, encoding: str, are_there: AreThere) -> Cells:
    with _open(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as file:
        lines = _lines(path, file)
        json_lines = path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
        table = _JsonLines(path, lines, columns) if json_lines else _Delimited(path, lines, columns)
        said = (
            [f"{path.name} is not UTF-8; it was read as {_SAID[encoding]}. Save it as UTF-8 if names look wrong."]
            if encoding in _SAID
            else []
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
        places: list[int] = []
        for place, row in chain(table.sample, table.rows):
            if len(row) <= last:
                raise DataError(f"{path}: line {place} has {len(row)} cells, but the header has {len(table.names)}.")
            if len(places) >= MAX_ROWS:
                raise DataError(f"{path}: more than {MAX_ROWS:,} rows. Split the table.")
            places.append(place)
            for i, cells, stripped in columns_at:
                cell = row[i]
                cells.append(cell.strip() if stripped and isinstance(cell, str) else cell)
    return filled(path, choice, read, places, "line", notes=(*said, *table.notes))


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yield lines of bounded length: without a bound, a file without line ends would be read into memory whole."""
    packed, total = path.suffix.lower() == ".gz", 0
    while line := file.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise DataError(f"{path}: a line is longer than {_MAX_LINE:,} characters, so this is no table.")
        total += len(line)
        if packed and total > _MAX_UNPACKED:
            raise DataError(f"{path}: unpacks to more than {_MAX_UNPACKED // 2**20} MiB. Unpack it yourself.")
        yield line


class _Delimited:
    """Cells between commas, semicolons, tabs, bars or, in lists of names, blanks; with or without a header row."""

    def __init__(self, path: Path, lines: Iterator[str], columns: Columns) -> None:
        self.path, self.columns = path, columns
        self.notes: list[str] = []
        head, self._skipped, delimiter = _head(lines)
        if delimiter is None:
            tabs = path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")) and "\t" in head
            bare = re.sub(r'"[^"]*"', "", head)
            delimiter = "\t" if tabs else max(_DELIMITERS, key=bare.count)
        records = self._by_blanks(head, lines) if _parted_by_blanks(head, delimiter) else None
        records = records or self._records(chain([head], lines), delimiter)
        place, first = next(records, (0, []))
        names = [str(cell).strip() for cell in first]
        if not any(names):
            raise DataError(f"{path}: expected a header row such as filename,label; the table is empty.")
        sample = list(islice(records, _SAMPLE))
        if not _is_header(names, [row for _, row in sample], columns):
            sample.insert(0, (place, first))
            names = self._without_header(names, [row for _, row in sample])
        elif sample and all(len(row) == len(names) + 1 and row[-1].strip() for _, row in sample):
            names.insert(0, "")  # R writes no name above the numbers of its rows
        self.names = names
        self.rows = self._checked(records)
        self.sample = list(self._checked(iter(sample)))

    def _records(self, lines: Iterator[str], delimiter: str) -> Iterator[Row]:
        """Yield rows with the number of their line; refuse a quote that is never closed: it swallows all rows below."""
        kept: list[str] = []
        reader = csv.reader(_keeping(lines, kept), delimiter=delimiter, skipinitialspace=True)
        for row in reader:
            if len(kept) > 1 and _is_open(kept, delimiter):
                line = self._skipped + reader.line_num - len(kept) + 1
                raise DataError(f"{self.path}: the quote in line {line} is never closed. Close it, or remove it.")
            kept.clear()
            if any(row):
                yield self._skipped + reader.line_num, row

    def _by_blanks(self, head: str, lines: Iterator[str]) -> Iterator[Row]:
        """Yield file and label of each line, whichever comes first."""
        for number, line in enumerate(chain([head], lines), start=self._skipped + 1):
            text = line.strip()
            if text:
                first, last = text.split(None, 1), text.rsplit(None, 1)
                swapped = len(first) == 2 and promises_picture(last[-1]) and not promises_picture(first[0])
                yield number, first if swapped else last

    def _checked(self, records: Iterator[Row]) -> Iterator[Row]:
        """Yield rows without comments and without empty cells at the end; refuse one with too many cells."""
        n = len(self.names)
        for place, row in records:
            if row[0].startswith("#") and (len(row) != n or row[0].startswith("# ")):
                continue
            if len(row) > n:
                if any(cell.strip() for cell in row[n:]):
                    raise DataError(
                        f"{self.path}: line {place} has {len(row)} cells, but the header has {n}. Put a cell that "
                        "holds a comma into quotes."
                    )
                row = row[:n]
            yield place, row

    def _without_header(self, first: list[str], rows: Sequence[list[Any]]) -> list[str]:
        """Name the columns of a table without a header row: one of pictures and, at most, one other."""
        n = len(first)
        pictures = [i for i in range(n) if promises_picture(first[i])]
        if len(pictures) != 1 or n > 2 or replace(self.columns, target="auto") != Columns():
            shown = ", ".join(repr(printable(cell, 40)) for cell in first[:4])
            raise DataError(
                f"{self.path}: the first line looks like data, not like names of columns ({shown}). Add a header row "
                "such as filename,label."
            )
        file, label = pictures[0] + 1, 2 - pictures[0]
        self.columns = replace(self.columns, file="file", label="label" if n > 1 else None)
        labels = f", labels from column {label}" if n > 1 else ""
        self.notes.append(f"{self.path.name} has no header row: file names are read from column {file}{labels}.")
        return ["file" if i == pictures[0] else "label" for i in range(n)]


def _keeping(lines: Iterator[str], kept: list[str]) -> Iterator[str]:
    for line in lines:
        kept.append(line)
        yield line


def _is_open(lines: Sequence[str], delimiter: str) -> bool:
    """Tell whether lines end within quotes, which Python's reader takes for a whole record."""
    try:
        return not list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)


def _head(lines: Iterator[str]) -> tuple[str, int, str | None]:
    """Return the first line that counts, how many stand before it, and the delimiter if one is declared.

    Excel declares it (``sep=;``); a comment above the rows may hold the names of the columns.
    """
    skipped, delimiter, comment = 0, None, ""
    for line in lines:
        text = line.strip()
        if re.fullmatch(r"sep=.", text, re.IGNORECASE):
            delimiter = text[-1]
        elif text.startswith("#"):
            comment = line.lstrip("# ")
            keys = {key_of(name) for name in re.split(r"[,;|\s]+", comment)}
            if keys & set(FILE_COLUMNS) and keys & set(LABEL_COLUMNS) and len(keys) < 10:
                return comment, skipped, delimiter
        elif text:
            return line, skipped, delimiter
        skipped += 1
    return "", skipped, delimiter


def _parted_by_blanks(head: str, delimiter: str) -> bool:
    """Tell a list such as ``images/1.jpg 3``, which has no other delimiter."""
    words = head.split()
    if delimiter in head or len(words) < 2 or head.lstrip().startswith('"'):
        return False
    keys = {key_of(word) for word in words}
    return any(map(promises_picture, words)) or bool(keys & set(FILE_COLUMNS) and keys & set(LABEL_COLUMNS))


def _is_header(names: Sequence[str], rows: Sequence[Sequence[str]], columns: Columns) -> bool:
    """Tell names of columns from data, which end like pictures, are numbers, or come again further down."""
    if {columns.file, columns.text, columns.label, columns.group, columns.split} & set(names):
        return True
    if any(map(promises_picture, names)):
        return False
    if {key_of(name) for name in names} & {*FILE_COLUMNS, *LABEL_COLUMNS}:
        return True
    below = [{row[i].strip() for row in rows if i < len(row)} for i in range(len(names))]
    of_texts = {*TEXT_COLUMNS, *OFTEN_TEXT_COLUMNS}
    if any(key_of(name) in of_texts and name not in found for name, found in zip(names, below, strict=True)):
        return True
    return not any(name and (_is_number(name) or name in found) for name, found in zip(names, below, strict=True))


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


class _JsonLines:
    """One JSON object in each line, its keys the columns."""

    def __init__(self, path: Path, lines: Iterator[str], columns: Columns) -> None:
        self.path, self.columns, self.notes = path, columns, ()
        objects = self._objects(lines)
        first = list(islice(objects, _SAMPLE))
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
