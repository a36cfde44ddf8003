"""List the samples of tables: a row names a file, holds a text or, in Parquet, the bytes of a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from thawline.data.arrays import as_listed
from thawline.data.checks import GO_ON
from thawline.data.folders.opening import AS_USUAL, FolderReading
from thawline.data.folders.words import part_of
from thawline.data.labels import is_missing
from thawline.data.listing import Listing, first_few
from thawline.data.sources import FileSource, ParquetSource, TextSource
from thawline.data.tables.columns import Cells, Columns, part_of_cell
from thawline.data.tables.finding import Finder, Found, folded, is_web_address
from thawline.data.tables.names import table_stem
from thawline.data.tables.parquet import read_parquet
from thawline.data.tables.searching import names_files, search_below
from thawline.data.tables.text import read_text
from thawline.data.targets import Read, read_column, read_columns
from thawline.data.texts import as_texts
from thawline.errors import DataError, MissingDataError, NoLabelsError
from thawline.inputs.image.formats import promises_picture, why_no_picture
from thawline.inputs.text.formats import promises_text
from thawline.naming import shell_word
from thawline.records import Part, Skipped
from thawline.scale.disk import is_folder
from thawline.showing import counted

_Cell = TypeVar("_Cell")
_GUESSES = ("images", "image", "imgs", "img", "pictures", "photos", "data", "train", "test")
"""Folders that are often beside a folder of tables."""


def open_table(
    path: Path,
    columns: Columns,
    *,
    root: Path | None = None,
    class_names: Sequence[str] | None = None,
    labelled: bool = True,
    in_parts: bool = False,
    reading: FolderReading = AS_USUAL,
) -> Listing:
    """List the samples of a table; file names are relative to ``root``, or to the folder of the table.

    Files that are not there are listed as skipped, unless most are missing.

    Args:
        labelled: False: no labels are needed, and rows whose file is outside the folder are listed as skipped too.
        in_parts: The table is one of several, for training and test; a split column is not read.
        reading: Whether links are followed, and what becomes of a class without files.
    Raises:
        DataError: A column or label is missing, most files are, one lies outside the folder, or one has two labels.
        NoLabelsError: The table has no labels at all.
    """
    beside = path.parent.resolve()
    if root is not None and not is_folder(root):
        raise MissingDataError(f"root {root} is no folder. Give the folder that the file names of {path} start from.")
    root = beside if root is None else root.resolve()
    read_table = read_parquet if path.suffix.lower() in (".parquet", ".pq") else read_text
    table = read_table(path, columns, labelled, lambda cells: names_files(cells, root, beside))
    n = len(table.places)
    if n == 0:
        raise DataError(f"{path}: expected one row for each sample; the table has no rows.")
    notes = list(table.notes)
    split_notes: list[str] = []
    given = None if in_parts else _given(table, split_notes)
    whole = reading.trainable and not in_parts and given is None
    read = _labels(table, columns, whole=whole) if labelled else None
    notes += () if read is None else read.notes
    notes += split_notes
    groups = tuple(None if g in (None, "") else g for g in table.cells["group"]) if "group" in table.cells else None
    listing = Listing(
        name=table_stem(path), files=(), source=FileSource(()), given=given, groups=groups,
        root=root, where=str(path), columns=table.choice.roles,
        **as_listed(read, class_names) | {"warnings": tuple(notes)},
    )  # fmt: skip
    if table.image is not None:
        files = tuple(f"{path.name}#{row}" for row in range(n))
        return replace(listing, files=files, source=ParquetSource(path, table.image))
    if "text" in table.cells:
        texts = as_texts(table.cells["text"], table.at, str(path))
        files = tuple(f"{path.name}#{place}" for place in table.places)
        return replace(listing, files=files, source=TextSource(texts), input_kind="text")
    part = part_of(table_stem(path))
    finder = Finder(root, beside, part=part, follow_links=reading.follow_links)
    return _with_files(listing, table, finder, labelled, drop_empty=reading.drop_empty_classes or not reading.trainable)


def _labels(table: Cells, columns: Columns, *, whole: bool) -> Read:
    values, target = table.cells["label"], columns.target
    if table.choice.several:
        return read_columns(values, table.choice.several, target, table.at, str(table.path))
    name = table.choice.roles.get("label")
    if all(map(is_missing, values)):
        raise NoLabelsError(f"{table.path}: column {name!r} is empty: {table.at(0)} has no label, nor has any other.")
    return read_column(values, target, table.at, str(table.path), name=name, whole=whole)


def _given(table: Cells, notes: list[str]) -> tuple[Part, ...] | None:
    """Read the split column; one that nobody asked for is left alone if it says anything else."""
    if "split" not in table.cells:
        return None
    name, guessed = table.choice.roles["split"], table.choice.guessed_split
    parts: list[Part] = []
    for row, value in enumerate(table.cells["split"]):
        part = part_of_cell(value, name)
        if part is None and guessed:
            notes.append(f"Column {name!r} is not read: {value!r} is neither train, val nor test.")
            return None
        if part is None:
            raise DataError(
                f"{table.path}: the split column must say train, val or test; got {value!r} in {table.at(row)}."
            )
        parts.append(part)
    if guessed and len(set(parts)) > 1:
        counts = ", ".join(f"{parts.count(part):,} {part}" for part in ("train", "val", "test") if part in parts)
        instead = "" if "test" in parts else " No row says test, so val is the test set."
        notes.append(f"The split is read from column {name!r}: {counts}.{instead}")
    return tuple(parts)


def _with_files(whole: Listing, table: Cells, finder: Finder, labelled: bool, *, drop_empty: bool) -> Listing:
    """Find the files of all rows; keep the rows that have one, each file once if there are labels."""
    names = ["" if cell is None else str(cell) for cell in table.cells["file"]]
    if labelled:
        _refuse_empty(table, names)
    found = finder.find_all(names)
    try:
        search_below(finder, names, found, whole.labels)
    except DataError as error:
        raise DataError(f"{table.path}: {error}") from None
    if found.outside and (labelled or not found.rows()):
        raise DataError(f"{table.path}: {_outside(table, names, found, finder)}")
    missing = found.missing()
    if 2 * len(missing) > len(names) if labelled else not found.rows() and missing:
        raise DataError(f"{table.path}: {_missing(table, names, missing, finder)}")
    warnings = [*whole.warnings, *found.notes]
    if found.outside:
        warnings.append(_outside(table, names, found, finder))
    rows = found.rows()
    if labelled:
        if whole.target == "class":
            warnings += _lost_classes(table, whole.labels or (), names, found, drop_empty=drop_empty)
        rows = _once(table, whole, found, rows, warnings)
    skipped = [Skipped(names[row], found.reasons[row]) for row in sorted([*missing, *found.outside])]

    return replace(
        whole,
        files=tuple(names[row] for row in rows),
        source=FileSource(tuple(str(found.paths[row]) for row in rows)),
        labels=_of_rows(rows, whole.labels),
        given=_of_rows(rows, whole.given),
        groups=_of_rows(rows, whole.groups),
        skipped=tuple(skipped),
        warnings=tuple(warnings),
        input_kind="text" if 2 * sum(promises_text(names[row]) for row in rows) > len(rows) else "image",
    )


def _of_rows(rows: Sequence[int], column: Sequence[_Cell] | None) -> tuple[_Cell, ...] | None:
    return None if column is None else tuple(column[row] for row in rows)


def _refuse_empty(table: Cells, names: Sequence[str]) -> None:
    empty = [row for row, name in enumerate(names) if not name or "\0" in name]
    if empty:
        more = "" if len(empty) == 1 else f", nor do {len(empty) - 1:,} others"
        raise DataError(f"{table.path}: {table.at(empty[0])} names no file{more}. Fill it in, or remove the row.")


def _outside(table: Cells, names: Sequence[str], found: Found, finder: Finder) -> str:
    """Say how many files lie outside the root, and which one root holds all files of the table."""
    row = min(found.outside)
    places = [*found.outside.values(), *(path for path in found.paths if path is not None)]
    common = os.path.commonpath({os.path.dirname(place) for place in places})  # noqa: PTH120
    n = "the file" if len(names) == 1 else f"{len(found.outside):,} of {len(names):,} files"
    verb = "leads" if len(found.outside) == 1 else "lead"
    return (
        f"{n} {verb} outside {finder.root}, where nothing is read unasked: {names[row]!r} ({table.at(row)}). "
        f"One root holds them all: --root {shell_word(common)}"
    )


def _missing(table: Cells, names: Sequence[str], rows: Sequence[int], finder: Finder) -> str:
    """Say how many files are missing, and what is the likeliest way to them."""
    count = f"{len(rows):,} of {len(names):,} files are not in {finder.root}"
    lost = [names[row] for row in rows]
    encoding = "" if all(map(str.isascii, lost)) else next((f" {n}" for n in table.notes if "is not UTF-8" in n), "")
    return f"{count}: {first_few(lost)}. {_way_to(table, lost, finder)}{encoding}"


def _way_to(table: Cells, names: Sequence[str], finder: Finder) -> str:
    if all(map(is_web_address, names)):
        return "These are addresses on the web, and nothing is downloaded: get the pictures, and give root (--root)."
    for above in (finder.root, *finder.root.parents[:3]):
        for place in (above, *(above / guess for guess in _GUESSES)):
            if any(_is_there(place / name) for name in names[:3]):
                return f"The first are in {place}: give it as root (--root {shell_word(place)})."
    stem = folded(names[0].replace("\\", "/").rpartition("/")[2])
    like = {stem, folded(Path(stem).stem)}
    for folder in finder.folders_below():
        other = next((file for file in folder.files if folded(Path(file).stem) in like), None)
        if other is not None and not promises_picture(other):
            return f"There is {other} instead: {why_no_picture(bytes(1), other)}."
    if not any(promises_picture(file) for folder in finder.folders_below() for file in folder.files):
        return "There is no picture below that folder. Give root (--root), the folder that holds them."
    column = table.choice.roles["file"]
    if not any(promises_picture(name) for name in names):
        return (
            f"If column {column!r} does not hold file names, name the one that does (--file-column). "
            "Give root (--root) if they lie in another folder."
        )
    return "Give root (--root) if they lie in another folder."


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _lost_classes(
    table: Cells, labels: Sequence[Any], names: Sequence[str], found: Found, *, drop_empty: bool
) -> list[str]:
    """Refuse a class of which no file is there, since it would vanish; say so if that is asked for."""
    there = {labels[row] for row in found.rows()}
    lost = [row for row, label in enumerate(labels) if label not in there]
    if lost:
        label = labels[lost[0]]
        n = sum(labels[row] == label for row in lost)
        if drop_empty:
            gone = dict.fromkeys(labels[row] for row in lost)
            classes = counted(len(gone), "class", "classes")
            return [f"Left out: {classes} without a file that is there ({first_few(gone)})."]
        raise DataError(
            f"{table.path}: no file of class {str(label)!r} is there ({counted(n, 'row')}), for one {names[lost[0]]!r} "
            f"({found.reasons[lost[0]]}). Give root (--root) if it lies in another folder, remove its rows, {GO_ON}."
        )
    return []


def _once(table: Cells, whole: Listing, found: Found, rows: Sequence[int], warnings: list[str]) -> list[int]:
    """Return the first row of each file; refuse another row that says something else of it.

    Raises:
        DataError: One file has two labels, groups or sets.
    """
    says = {"label": whole.labels, "group": whole.groups, "split": whole.given}
    first: dict[str, int] = {}
    repeats: list[int] = []
    clashes: list[tuple[int, int, str]] = []
    for row in rows:
        before = first.setdefault(str(found.paths[row]), row)
        if before != row:
            repeats.append(row)
            role = next((role for role, column in says.items() if column and column[before] != column[row]), None)
            clashes += [] if role is None else [(before, row, role)]
    if clashes:
        a, b, role = clashes[0]
        values = says[role] or ()
        raise DataError(
            f"{table.path}: {table.cells['file'][b]!r} is {values[a]!r} and {values[b]!r} ({_lines(table, a, b)})"
            f"{_as_others(len(clashes), role)}"
        )
    if repeats:
        a, b = first[str(found.paths[repeats[0]])], repeats[0]
        verb = "repeats another and is" if len(repeats) == 1 else "repeat others and are"
        warnings.append(
            f"{counted(len(repeats), 'row')} {verb} left out; first {table.cells['file'][b]} ({_lines(table, a, b)})."
        )
    return list(first.values())


def _lines(table: Cells, a: int, b: int) -> str:
    return f"{table.unit}s {table.places[a]} and {table.places[b]}"


def _as_others(n: int, role: str) -> str:
    if n == 1:
        return ". Keep one row."
    boxes = " (a table of boxes, or of several labels)" if role == "label" else ""
    return f", and {n - 1:,} more rows contradict another so{boxes}. Keep one row for each picture."
