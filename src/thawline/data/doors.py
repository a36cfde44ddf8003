"""Find out what the user brought, and list its samples by the door that fits; nothing is read yet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from thawline.data.arrays import open_array, open_paths, open_texts
from thawline.data.directory import list_directory
from thawline.data.folders.opening import AS_USUAL, FolderReading, list_samples, refuse_folder_options
from thawline.data.hub import is_hub_object, open_hub
from thawline.data.listing import Listing
from thawline.data.tables.columns import Columns, TableReading
from thawline.data.tables.names import SHEET_SUFFIXES, TABLE_SUFFIXES, is_table
from thawline.data.texts import is_no_text
from thawline.errors import DataError, MissingDataError, UsageError
from thawline.inputs import kind_of
from thawline.inputs.image.formats import promises_picture
from thawline.inputs.text.formats import promises_text
from thawline.scale.disk import is_folder

Kind = Literal["auto", "folder", "table", "array", "files", "texts", "hub"]
_PATHS = ("/", "./", "../", "~/")
"""How paths begin that are no single word."""
_TRIED = 200
"""Strings of a list that are looked at to tell paths from texts."""


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
    what = _listed_cells(what)
    kind = _kind_of(what) if kind == "auto" else kind
    if kind not in ("array", "files", "texts"):
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
            raise DataError(
                f"{path}: expected a folder or a table ({', '.join(TABLE_SUFFIXES)}); got a single file. If it is a "
                "table, give its name one of these endings."
            )
        from thawline.data.tables.opening import open_table
        from thawline.data.tables.parts import named_beside

        table = open_table(path, columns, root=place, class_names=class_names, reading=reading)
        return named_beside(table, path.parent)
    words = {"array": "an array", "files": "a list of files", "texts": "a list of texts", "hub": "a data set"}
    refuse_folder_options(reading, words[kind])
    if kind == "hub":
        _only_without(labels, "labels", "a datasets object", "label_column")
        return open_hub(
            what, image_column=columns.image, text_column=columns.text, label_column=columns.label,
            group_column=columns.group, groups=groups,
            class_names=class_names, whole=reading.trainable, target=columns.target,
        )  # fmt: skip
    if labels is None:
        raise UsageError(
            "labels must come with an array, or a list of paths or texts: one string or integer for each sample."
        )
    open_it = open_array if kind == "array" else open_paths if kind == "files" else open_texts
    return open_it(what, labels, groups, class_names, given, whole=reading.trainable, target=columns.target)


def list_unlabelled(
    what: Any, columns: Columns, place: Path | None, *, follow_links: bool = False, input_kind: str = "image"
) -> Listing:
    """List samples to predict on; the arguments are those of ``open_data``.

    Args:
        input_kind: What the samples are. In a list of pictures there are only paths; a string that names nothing on
            the disk is a text, if these are asked for.
    Raises:
        MissingDataError: No such path.
        DataError: The table or array cannot be understood, or there is nothing in it.
    """
    what, columns = _listed_cells(what), replace(columns, kind=input_kind)
    noun = kind_of(input_kind).NOUN
    kind = _kind_of([what] if input_kind == "text" and isinstance(what, str) and not _names_path(what) else what)
    if input_kind == "image" and kind == "texts":
        kind = "files"
    if kind == "files":
        _refuse_mixture(what, noun)
    if kind in ("folder", "table"):
        path = _existing(what, f"Give a {noun}, a folder of {noun}s, or a CSV, TSV or Parquet table.")
        if path.is_dir():
            listing = _listed(path, follow_links, input_kind)
        elif is_table(path) and not (input_kind == "text" and promises_text(path.name)):
            from thawline.data.tables.opening import open_table

            reading = FolderReading(follow_links)
            listing = open_table(path, columns, root=place, labelled=False, reading=reading)
        else:
            _refuse_sheet(path)
            listing = open_paths([what], None, input_kind=input_kind)
    elif kind == "hub":
        listing = open_hub(
            what, image_column=columns.image, text_column=columns.text, labelled=False, input_kind=input_kind
        )
    elif kind == "array":
        listing = open_array(what, None)
    elif kind == "files":
        listing = open_paths(what, None, input_kind=input_kind)
    else:
        texts = [what] if isinstance(what, str) else what
        listing = open_texts(texts, None)
        listing = replace(listing, files=tuple(f"text {i + 1}" for i in range(len(texts))))
    if listing.input_kind != input_kind:
        found = kind_of(listing.input_kind).NOUN
        raise DataError(f"{listing.where or listing.name}: expected {noun}s, as the model reads them; found {found}s.")
    if not listing.files and not listing.skipped:
        raise DataError(f"{what if isinstance(what, str | os.PathLike) else 'the list'}: found no {noun}s.")
    return listing


def _listed_cells(what: Any) -> Any:
    """Return a column of pandas or polars, or an array of strings, as a list; everything else as it is."""
    if isinstance(what, np.ndarray):
        return what.ravel().tolist() if what.dtype.kind in "OUT" and what.ndim == 1 else what
    if not is_hub_object(what) and not isinstance(what, Sequence) and hasattr(what, "to_list"):
        return what.to_list()
    return what


def _listed(path: Path, follow_links: bool, input_kind: str) -> Listing:
    try:
        return list_samples(path, follow_links=follow_links, input_kind=input_kind)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be listed: {error.strerror}.") from error


def _kind_of(what: Any) -> Kind:
    if isinstance(what, str | os.PathLike):
        return "folder" if is_folder(Path(what).expanduser()) else "table"
    if isinstance(what, np.ndarray):
        return "array"
    if is_hub_object(what):
        return "hub"
    if isinstance(what, Sequence):
        if all(isinstance(item, str | os.PathLike) for item in what):
            return "files" if _are_paths(what) else "texts"
        if all(isinstance(item, str) or is_no_text(item) for item in what):
            return "texts"
    if hasattr(what, "columns"):
        raise UsageError(
            f"data must be one column of a {type(what).__name__}, not all of it. Give the samples and the labels: "
            "open_data(table['text'], table['label'])."
        )
    raise UsageError(
        f"data must be a folder, a table, a NumPy array, a list of paths or texts, or a datasets object; "
        f"got {type(what).__name__}."
    )


def _are_paths(items: Sequence[str | os.PathLike[str]]) -> bool:
    """Tell paths from texts: most of the first are files that are there, or look like paths."""
    tried = items[:_TRIED]
    return 2 * sum(not isinstance(item, str) or _names_path(item) for item in tried) > len(tried) or not tried


def _names_path(text: str) -> bool:
    """Tell a string that names what is on the disk, or looks as if it should."""
    if "\n" in text or "\0" in text or not text.strip():
        return False
    path = Path(text)
    try:
        if path.expanduser().exists():
            return True
    except (OSError, RuntimeError):  # too long, or a home that nobody has
        return False
    if promises_picture(text) or len(text.split()) > 1:
        return promises_picture(text)
    return is_table(path) or promises_text(path.name) or text.startswith(_PATHS)


def _refuse_mixture(what: Sequence[str | os.PathLike[str]], noun: str) -> None:
    """Refuse a folder or table in a list: each of them is given alone."""
    for path in map(Path, what):
        if is_folder(path) or (is_table(path) and not (noun == "text" and promises_text(path.name))):
            kind = "a folder" if is_folder(path) else "a table"
            raise DataError(
                f"{path} is {kind}, given among other files. Give one folder or one table alone, or {noun}s."
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
