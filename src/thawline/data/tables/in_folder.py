"""Read a folder by its tables, whether its pictures lie in class folders or not; what is not read is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from thawline.data.folders.opening import open_folder
from thawline.data.folders.tree import Folder, open_tree
from thawline.data.folders.words import part_of
from thawline.data.listing import Listing
from thawline.data.tables.columns import Columns, TableReading
from thawline.data.tables.names import part_tables_by_words
from thawline.data.tables.opening import open_table
from thawline.data.tables.parts import open_part_tables
from thawline.errors import DataError, NoColumnError
from thawline.showing import few


def from_part_tables(
    path: Path,
    tables: Mapping[Any, Path],
    how: TableReading,
) -> Listing:
    """Read the training table of a folder, and others beside it; raises DataError."""
    beside = _folders_of_pictures(path)
    try:
        listing = open_part_tables(path, tables, how)
    except NoColumnError:
        if len(beside) > 1 and how.columns == Columns() and how.root is None:
            with suppress(DataError):
                listing = open_folder(path, None, how.folder)
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
    how: TableReading,
) -> Listing:
    """Read the only table of a folder, or those that say ``train`` and ``test`` in a word; raises NoColumnError."""
    named = part_tables_by_words(tables)
    if named:
        listing = open_part_tables(path, named, how)
        which = few([table.name for table in named.values()])
    elif len(tables) == 1:
        listing = open_table(tables[0], how.columns, root=how.root, class_names=how.class_names, reading=how.folder)
        which = f"{tables[0].name}, its only table"
    else:
        raise NoColumnError(f"{path}: no table is the only one.")
    note = f"{path} has no class folders: labels are read from {which}."
    return replace(listing, warnings=(note, *listing.warnings))


def _folders_of_pictures(path: Path) -> list[str]:
    """Return the folders that could be classes: they hold pictures, below a train or test folder or not."""
    found: list[str] = []
    for folder in _folders(open_tree(path, follow_links=False)):
        part = part_of(folder.base)
        found += [each.base for each in (_folders(folder) if part else [folder]) if each.samples]
    return list(dict.fromkeys(found))


def _folders(folder: Folder) -> list[Folder]:
    return [each for each in folder.folders if not each.is_link]
