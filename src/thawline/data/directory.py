"""List what is in a folder: class folders, or the tables beside them; the one that is not read is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from thawline.data.folders.opening import open_folder, refuse_folder_options
from thawline.data.folders.readings import NoClassesError
from thawline.data.folders.words import part_of
from thawline.data.listing import Listing
from thawline.data.tables.columns import Columns, TableReading
from thawline.data.tables.names import other_tables, part_tables, tables_in
from thawline.errors import DataError, NoColumnError, UsageError
from thawline.showing import few


def list_directory(
    path: Path,
    how: TableReading,
    groups: Any,
) -> Listing:
    """List the labelled pictures of a folder.

    A training table is read before class folders; any other table only if there are no class folders.

    Raises:
        DataError: There is neither, or it cannot be understood.
        UsageError: An option that does not go with what the folder holds.
    """
    if (path / "bundle.json").is_file() and (path / "model.safetensors").is_file():
        raise DataError(f"{path} is a run folder, not data. Give the folder or table that holds the samples.")
    try:
        tables = tables_in(path)
        parts = part_tables(tables)
        if not parts:
            return _from_folders(path, other_tables(tables), how, groups)
        refuse_folder_options(how.folder._replace(follow_links=False), "tables")
        if groups is not None:
            raise UsageError("groups does not go with tables; give group_column instead.")
        from thawline.data.tables.in_folder import (
            from_part_tables,  # most folders have no tables, and are opened sooner
        )

        return from_part_tables(path, parts, how)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be listed: {error.strerror}.") from error


def _from_folders(
    path: Path,
    tables: Sequence[Path],
    how: TableReading,
    groups: Any,
) -> Listing:
    names = few([table.name for table in tables])
    try:
        listing = open_folder(path, groups if isinstance(groups, Mapping) else None, how.folder)
    except NoClassesError as error:
        if groups is None:
            with suppress(NoColumnError):
                return _by_table(path, tables, how)
        raise DataError(f"{error} Or give one of its tables: {names}.") if tables else error from None
    parts_only = all(map(part_of, {str(label) for label in listing.labels or ()}))
    if parts_only and groups is None:  # train/*.jpg and test/*.jpg are no classes
        with suppress(DataError):
            return _by_table(path, tables, how)
    if replace(how.columns, target="auto") != Columns():
        raise UsageError("columns can be named for tables and datasets objects; a folder of class folders has none.")
    if groups is not None and not isinstance(groups, Mapping):
        raise UsageError("groups of a folder must be a mapping from file (its path below the folder) to group.")
    if tables:
        note = f"Class folders are read; {names} beside them is not. Give the table itself to read its labels."
        return replace(listing, warnings=(note, *listing.warnings))
    return listing


def _by_table(
    path: Path,
    tables: Sequence[Path],
    how: TableReading,
) -> Listing:
    if not tables:
        raise NoColumnError(f"{path} holds no table.")
    from thawline.data.tables.in_folder import from_other_tables

    return from_other_tables(path, tables, how)
