"""Read a folder by its tables, whether its pictures lie in class folders or not; what is not read is named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from thawline.data.folders.opening import FolderReading, open_folder
from thawline.data.folders.words import part_of
from thawline.data.listing import Listing
from thawline.data.tables.columns import Columns
from thawline.data.tables.names import part_tables_by_words
from thawline.data.tables.opening import open_table
from thawline.data.tables.parts import open_part_tables
from thawline.errors import DataError, NoColumnError
from thawline.inputs.image.formats import promises_picture
from thawline.showing import few


def from_part_tables(
    path: Path,
    tables: Mapping[Any, Path],
    columns: Columns,
    root: Path | None,
    class_names: Sequence[str] | None,
    reading: FolderReading,
) -> Listing:
    """Read the training table of a folder, and others beside it; raises DataError."""
    beside = _folders_of_pictures(path)
    try:
        listing = open_part_tables(path, tables, columns, root=root, class_names=class_names, reading=reading)
    except NoColumnError:
        if len(beside) > 1 and columns == Columns() and root is None:
            with suppress(DataError):
                listing = open_folder(path, None, reading)
                note = f"Class folders are read; {tables['train'].name} beside them is not: it is no table of pictures."
                return replace(listing, warnings=(note, *listing.warnings))
        raise
    if len(beside) < 2:
        return listing
    names = few([table.name for table in tables.values()])
    note = f"Labels are read from {names}; the names of the folders beside ({few(beside)}) are not used."
    return replace(listing, warnings=(note, *listing.warnings))


def from_other_tables(
    path: Path,
    tables: Sequence[Path],
    columns: Columns,
    root: Path | None,
    class_names: Sequence[str] | None,
    reading: FolderReading,
) -> Listing:
    """Read the only table of a folder, or those that say ``train`` and ``test`` in a word; raises NoColumnError."""
    named = part_tables_by_words(tables)
    if named:
        listing = open_part_tables(path, named, columns, root=root, class_names=class_names, reading=reading)
        which = few([table.name for table in named.values()])
    elif len(tables) == 1:
        listing = open_table(tables[0], columns, root=root, class_names=class_names, reading=reading)
        which = f"{tables[0].name}, its only table"
    else:
        raise NoColumnError(f"{path}: no table is the only one.")
    note = f"{path} has no class folders: labels are read from {which}."
    return replace(listing, warnings=(note, *listing.warnings))


def _folders_of_pictures(path: Path) -> list[str]:
    """Return the folders that could be classes: they hold pictures, below a train or test folder or not."""
    found = []
    for name in _folders(path):
        inner = _folders(path / name) if part_of(name) else []
        found += [each for each in inner if _holds_pictures(path / name / each)]
        if not part_of(name) and _holds_pictures(path / name):
            found.append(name)
    return list(dict.fromkeys(found))


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False))


def _holds_pictures(path: Path) -> bool:
    with os.scandir(path) as entries:
        return any(promises_picture(entry.name) for entry in entries)
