"""Read rows of cells between commas, tabs and the like, with or without a header row."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thawline.data.tables.columns import Columns
from thawline.data.tables.samples import holds_texts, only_classes
from thawline.data.tables.usual import FILE_COLUMNS, LABEL_COLUMNS, OFTEN_TEXT_COLUMNS, TEXT_COLUMNS, key_of
from thawline.errors import DataError
from thawline.inputs.image.formats import promises_picture
from thawline.showing import printable

SAMPLE = 50
"""Rows by which columns are told apart."""
MAX_LINE = 2**24
"""Characters of a line, and of a cell."""
_DELIMITERS = ",;\t|"
_SNIFFED = 20
"""Lines by which delimiters are told apart."""
_QUOTED_LINES = 1_000
"""Lines that a quoted cell between tabs may have; a quote that is closed later, or never, is a sign like any other."""
_HEADER_WORDS = 8
"""Parted by blanks, from which on a cell is no name of a column."""

Row = tuple[int, list[Any]]
"""Number of the line, and cells."""

csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))  # 131,072 by default: texts are longer


class Delimited:
    """Cells between commas, semicolons, tabs, bars or, in lists of names, blanks; with or without a header row."""

    def __init__(self, path: Path, lines: Iterator[str], columns: Columns) -> None:
        self.path, self.columns = path, columns
        self.notes: list[str] = []
        head, self._skipped, delimiter = _head(lines)
        if delimiter is None:
            tabs = path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")) and "\t" in head
            following = list(islice(lines, _SNIFFED))
            delimiter = "\t" if tabs else _sniffed(head, following)
            lines = chain(following, lines)
        records = self._by_blanks(head, lines) if _parted_by_blanks(head, delimiter) else None
        read = self._tabbed if delimiter == "\t" else self._records
        records = records or read(chain([head], lines), delimiter)
        place, first = next(records, (0, []))
        names = [str(cell).strip() for cell in first]
        if not any(names):
            raise DataError(f"{path}: expected a header row such as filename,label; the table is empty.")
        sample = list(islice(records, SAMPLE))
        if not _is_header(names, [row for _, row in sample], columns):
            sample.insert(0, (place, first))
            names = self._without_header(names, [row for _, row in sample])
        elif sample and all(len(row) == len(names) + 1 and row[-1].strip() for _, row in sample):
            names.insert(0, "")  # R writes no name above the numbers of its rows
        self.names = names
        first_cells = [row[0] for _, row in sample]
        self._has_comments = not (key_of(names[0]) in TEXT_COLUMNS or holds_texts(first_cells))
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

    def _tabbed(self, lines: Iterator[str], delimiter: str) -> Iterator[Row]:
        """Yield rows as ``_records`` does, but take a quote that does not end its cell for a sign of a text.

        Most tables with tabs are written without quotes. A quoted cell may go on in the next lines, though not with
        tabs in these.
        """
        number, waiting = self._skipped, deque[str]()

        def following() -> str | None:
            return waiting.popleft() if waiting else next(lines, None)

        while (line := following()) is not None:
            number += 1
            record, row = [line], _quoted_row([line])
            size = len(line)
            while row is None and len(record) <= _QUOTED_LINES and size <= MAX_LINE and (more := following()):
                record.append(more)
                size += len(more)
                if delimiter in more.partition('"')[0]:
                    break
                row = _quoted_row(record) if '"' in more else None
            if row:
                number += len(record) - 1
            else:
                waiting.extendleft(reversed(record[1:]))
                row = line.rstrip("\r\n").split(delimiter)
            if any(row):
                yield number, row

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
            comment = self._has_comments and row[0].startswith("#")
            if comment and (len(row) != n or row[0].startswith("# ")):
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
        """Name the columns of a table without a header row: one of pictures and, at most, one other; or texts."""
        n = len(first)
        if (names := self._of_texts(first, rows)) is not None:
            return names
        pictures = [i for i in range(n) if promises_picture(first[i])]
        if len(pictures) != 1 or n > 2 or replace(self.columns, target="auto", kind=None) != Columns():
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

    def _of_texts(self, first: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str] | None:
        """Name the one column of texts and that of labels, if there is no other; None if they are not clear."""
        columns = [[row[i].strip() for row in rows if i < len(row)] for i in range(len(first))]
        texts = [i for i, cells in enumerate(columns) if holds_texts(cells)]
        if len(texts) != 1 or replace(self.columns, target="auto", kind=None) != Columns():
            return None
        filled = {str(i): cells for i, cells in enumerate(columns) if i not in texts and all(cells)}
        if len(filled) > 1:
            filled = {i: cells for i, cells in filled.items() if len(set(cells)) > 1}
        label = next(iter(filled)) if len(filled) == 1 else only_classes(filled)
        if filled and label is None:
            return None
        labels = "" if label is None else f", labels from column {int(label) + 1}"
        self.columns = replace(self.columns, text="text", label=None if label is None else "label")
        self.notes.append(f"{self.path.name} has no header row: texts are read from column {texts[0] + 1}{labels}.")
        return ["text" if i in texts else "label" if str(i) == label else "" for i in range(len(first))]


def _sniffed(head: str, following: Sequence[str]) -> str:
    """Return the sign that parts the cells: of several in the first line, one that is in all lines equally often."""
    bare = _without_quoted(head)
    found = [sign for sign in _DELIMITERS if sign in bare]
    usual = max(_DELIMITERS, key=bare.count)
    if len(found) < 2:
        return usual
    whole = [_without_quoted(line) for line in following if line.strip() and line.count('"') % 2 == 0]
    steady = [sign for sign in found if all(line.count(sign) == bare.count(sign) for line in whole)]
    return usual if usual in steady or not steady else max(steady, key=bare.count)


def _without_quoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _keeping(lines: Iterator[str], kept: list[str]) -> Iterator[str]:
    """Yield lines, and keep those of the record that is being read.

    Python's own limit belongs to the process: libraries raise it.
    """
    size = 0
    for line in lines:
        size = size + len(line) if kept else len(line)
        kept.append(line)
        if len(kept) > 1 and size > MAX_LINE:
            raise csv.Error(f"a quoted cell goes on for more than {MAX_LINE:,} characters")
        yield line


def _is_open(lines: Sequence[str], delimiter: str) -> bool:
    """Tell whether lines end within quotes, which Python's reader takes for a whole record."""
    try:
        return not list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)


def _quoted_row(lines: Sequence[str]) -> list[str] | None:
    """Return the cells of lines with tabs; None if a quote in them is open, nothing if quotes do not end cells."""
    try:
        rows = list(csv.reader(lines, delimiter="\t", skipinitialspace=True, strict=True))
    except csv.Error as error:
        return None if "unexpected end" in str(error) else []
    return rows[0] if len(rows) == 1 else []


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
    if any(len(name.split()) > _HEADER_WORDS for name in names):
        return False
    of_texts = {*TEXT_COLUMNS, *OFTEN_TEXT_COLUMNS}
    if any(key_of(name) in of_texts and name not in found for name, found in zip(names, below, strict=True)):
        return True
    return not any(name and (_is_number(name) or name in found) for name, found in zip(names, below, strict=True))


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
