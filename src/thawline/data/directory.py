"""List what is in a folder: class folders, or the tables beside them; the one that is not read is named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from thawline.data.columns import Columns, NoColumnError
from thawline.data.finding import has_picture_suffix
from thawline.data.folder import FolderReading, open_folder, refuse_folder_options
from thawline.data.listing import Listing
from thawline.data.part_tables import find_part_tables, open_part_tables, part_tables_by_words
from thawline.data.readings import NoClassesError
from thawline.data.table import TABLE_SUFFIXES, open_table
from thawline.data.words import part_of
from thawline.errors import DataError, UsageError
from thawline.showing import few


def list_directory(
    path: Path,
    columns: Columns,
    root: Path | None,
    class_names: Sequence[str] | None,
    groups: Any,
    reading: FolderReading,
) -> Listing:
    """List the labelled pictures of a folder.

    A training table is read before class folders; any other table only if there are no class folders.

    Raises:
        DataError: There is neither, or it cannot be understood.
        UsageError: An option that does not go with what the folder holds.
    """
    if (path / "bundle.json").is_file() and (path / "model.safetensors").is_file():
        raise DataError(f"{path} is a run folder, not data. Give the folder or table that holds the pictures.")
    try:
        tables = find_part_tables(path)
        if tables:
            refuse_folder_options(reading._replace(follow_links=False), "tables")
        if tables and groups is not None:
            raise UsageError("groups does not go with tables; give group_column instead.")
        if tables:
            return _from_tables(path, tables, columns, root, class_names, reading)
        return _from_folders(path, columns, root, class_names, groups, reading)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be listed: {error.strerror}.") from error


def _from_tables(
    path: Path,
    tables: Mapping[Any, Path],
    columns: Columns,
    root: Path | None,
    class_names: Sequence[str] | None,
    reading: FolderReading,
) -> Listing:
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


def _from_folders(
    path: Path,
    columns: Columns,
    root: Path | None,
    class_names: Sequence[str] | None,
    groups: Any,
    reading: FolderReading,
) -> Listing:
    tables = _other_tables(path)
    names = few([table.name for table in tables])
    try:
        listing = open_folder(path, groups if isinstance(groups, Mapping) else None, reading)
    except NoClassesError as error:
        if groups is None:
            with suppress(NoColumnError):
                return _from_other_tables(path, tables, columns, root, class_names, reading)
        raise DataError(f"{error} Or give one of its tables: {names}.") if tables else error from None
    parts_only = all(map(part_of, {str(label) for label in listing.labels or ()}))
    if parts_only and groups is None:  # train/*.jpg and test/*.jpg are no classes
        with suppress(DataError):
            return _from_other_tables(path, tables, columns, root, class_names, reading)
    if columns != Columns():
        raise UsageError("columns can be named for tables and datasets objects; a folder of class folders has none.")
    if groups is not None and not isinstance(groups, Mapping):
        raise UsageError("groups of a folder must be a mapping from file (its path below the folder) to group.")
    if tables:
        note = f"Class folders are read; {names} beside them is not. Give the table itself to read its labels."
        return replace(listing, warnings=(note, *listing.warnings))
    return listing


def _from_other_tables(
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


def _other_tables(path: Path) -> list[Path]:
    """Return the tables in a folder, without names of classes and samples of a contest's answers."""
    with os.scandir(path) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(TABLE_SUFFIXES) and not e.name.startswith(".")]
    return [path / name for name in sorted(names) if "submission" not in name.lower() and name != "class_names.csv"]


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
        return any(has_picture_suffix(entry.name) for entry in entries)
