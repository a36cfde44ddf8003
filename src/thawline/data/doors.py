"""Find out what the user brought, and list its samples by the door that fits; nothing is read yet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from thawline.data.arrays import open_array, open_paths
from thawline.data.directory import list_directory
from thawline.data.folders.opening import AS_USUAL, FolderReading, list_pictures, refuse_folder_options
from thawline.data.hub import is_hub_object, open_hub
from thawline.data.listing import Listing
from thawline.data.tables.columns import Columns, TableReading
from thawline.data.tables.names import SHEET_SUFFIXES, TABLE_SUFFIXES, is_table
from thawline.errors import DataError, MissingDataError, UsageError
from thawline.scale.disk import is_folder

Kind = Literal["auto", "folder", "table", "array", "files", "hub"]


def list_labelled(
    what: Any,
    kind: Kind,
    labels: Iterable[Any] | None,
    columns: Columns,
    place: Path | None,
    class_names: Sequence[str] | None,
    groups: Iterable[Any] | Mapping[str, Any] | None,
    given: Iterable[str] | None,
    reading: FolderReading = AS_USUAL,
) -> Listing:
    """List labelled samples; the arguments are those of ``open_data``.

    Raises:
        MissingDataError: No such path.
        DataError: The data cannot be understood.
        UsageError: An option that does not go with this kind of data.
    """
    kind = _kind_of(what) if kind == "auto" else kind
    if kind not in ("array", "files"):
        _only_without(given, "given", f"a {kind}", "split_column, or a train and a test folder or table,")
    if kind in ("folder", "table"):
        path = _existing(what)
        if labels is not None:
            raise UsageError("labels go with arrays and lists of paths; folders and tables bring their own.")
        if path.is_dir():
            return list_directory(path, TableReading(columns, place, class_names, reading), groups)
        _only_without(groups, "groups", "a table", "group_column")
        refuse_folder_options(reading._replace(follow_links=False), "a table")
        if not is_table(path):
            _refuse_sheet(path)
            raise DataError(f"{path}: expected a folder or a table ({', '.join(TABLE_SUFFIXES)}); got a single file.")
        from thawline.data.tables.opening import open_table

        return open_table(path, columns, root=place, class_names=class_names, reading=reading)
    refuse_folder_options(reading, {"array": "an array", "files": "a list of files", "hub": "a data set"}[kind])
    if kind == "hub":
        _only_without(labels, "labels", "a datasets object", "label_column")
        return open_hub(
            what, image_column=columns.image, label_column=columns.label, group_column=columns.group, groups=groups,
            class_names=class_names, whole=reading.trainable, target=columns.target,
        )  # fmt: skip
    if labels is None:
        raise UsageError("labels must come with an array or a list of paths: one string or integer for each sample.")
    open_it = open_array if kind == "array" else open_paths
    return open_it(what, labels, groups, class_names, given, whole=reading.trainable, target=columns.target)


def list_unlabelled(what: Any, columns: Columns, place: Path | None, *, follow_links: bool = False) -> Listing:
    """List samples to predict on; the arguments are those of ``open_data``, in a list only paths of pictures.

    Raises:
        MissingDataError: No such path.
        DataError: The table or array cannot be understood, or there is nothing in it.
    """
    kind = _kind_of(what)
    if kind == "files":
        _refuse_mixture(what)
    if kind in ("folder", "table"):
        path = _existing(what, "Give a picture, a folder of pictures, or a CSV, TSV or Parquet table.")
        if path.is_dir():
            listing = _listed(path, follow_links)
        elif is_table(path):
            from thawline.data.tables.opening import open_table

            reading = FolderReading(follow_links)
            listing = open_table(path, columns, root=place, labelled=False, reading=reading)
        else:
            _refuse_sheet(path)
            listing = open_paths([what], None)
    elif kind == "hub":
        listing = open_hub(what, image_column=columns.image, labelled=False)
    else:
        listing = (open_array if kind == "array" else open_paths)(what, None)
    if not listing.files and not listing.skipped:
        raise DataError(f"{what if isinstance(what, str | os.PathLike) else 'the list'}: found no pictures.")
    return listing


def _listed(path: Path, follow_links: bool) -> Listing:
    try:
        return list_pictures(path, follow_links=follow_links)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be listed: {error.strerror}.") from error


def _kind_of(what: Any) -> Kind:
    if isinstance(what, str | os.PathLike):
        return "folder" if is_folder(Path(what).expanduser()) else "table"
    if isinstance(what, np.ndarray):
        return "array"
    if is_hub_object(what):
        return "hub"
    if isinstance(what, Sequence) and all(isinstance(item, str | os.PathLike) for item in what):
        return "files"
    raise UsageError(
        f"data must be a folder, a table, a NumPy array, a list of paths or a datasets object; "
        f"got {type(what).__name__}."
    )


def _refuse_mixture(what: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse a folder or table in a list: each of them is given alone."""
    for path in map(Path, what):
        if is_folder(path) or is_table(path):
            kind = "a folder" if is_folder(path) else "a table"
            raise DataError(
                f"{path} is {kind}, given among other files. Give one folder or one table alone, or pictures."
            )


def _refuse_sheet(path: Path) -> None:
    if path.suffix.lower() in SHEET_SUFFIXES:
        raise DataError(f"{path} is a workbook. Save the sheet as CSV (UTF-8), and give that file.")


def _existing(
    what: str | os.PathLike[str], next_step: str = "Give a folder of class folders, or a CSV, TSV or Parquet table."
) -> Path:
    path = Path(what).expanduser()
    try:
        if path.exists():
            return path
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}.") from error
    raise MissingDataError(f"{path} does not exist. {next_step}")


def _only_without(value: object, option: str, kind: str, instead: str) -> None:
    if value is not None:
        raise UsageError(f"{option} does not go with {kind}; give {instead} instead.")
