"""Open whatever the user brings, and read every sample once, or as many as there is time for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from thawline.data.arrays import open_array, open_paths
from thawline.data.checks import opened_remark, refuse_untrainable, remarks, skipped_remark
from thawline.data.columns import Columns
from thawline.data.duplicates import duplicate_groups
from thawline.data.folder import list_pictures, open_folder
from thawline.data.hub import is_hub_object, open_hub
from thawline.data.listing import Listing, name_classes
from thawline.data.sampling import Hurry, look
from thawline.data.scan import Scan, scan
from thawline.data.scan_store import ScanStore
from thawline.data.sources import SubsetSource
from thawline.data.table import TABLE_SUFFIXES, find_part_tables, open_part_tables, open_table
from thawline.errors import DataError, MissingDataError, UsageError
from thawline.listening import Progress
from thawline.records import Dataset, Skipped
from thawline.scale.paths import cache_root

Kind = Literal["auto", "folder", "table", "array", "files", "hub"]


def open_data(
    what: Any,
    labels: Iterable[Any] | None = None,
    *,
    kind: Kind = "auto",
    label_column: str | None = None,
    file_column: str | None = None,
    image_column: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    groups: Iterable[Any] | Mapping[str, Any] | None = None,
    given: Iterable[str] | None = None,
    strict: bool = False,
    trainable: bool = True,
    name: str | None = None,
    within: float | None = None,
    most: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """Open labelled pictures and read each of them once.

    Args:
        what: A folder of class folders (below train, val and test folders or not); a CSV, TSV or Parquet table, or a
            folder of train and test tables; a uint8 array (N, H, W), (N, H, W, 1) or (N, H, W, 3); a list of paths; a
            Hugging Face ``datasets`` object.
        labels: (N,) strings or integers, for arrays and lists of paths.
        kind: What ``what`` is, where that is to be said.
        label_column: Column of labels, if it is not called label, class, category or target.
        file_column: Column of file names, if it is not called filename, file, path, image, image_path or id.
        image_column: Column of image bytes, where a table or data set has several.
        group_column: Column whose equal values (a patient, a session) must stay on one side of a split.
        split_column: Column that says train, val or test.
        root: Folder that the file names of a table start from, if not the folder of the table.
        class_names: Names of the labels 0, 1, 2 ...
        groups: (N,) as ``group_column``, for arrays, lists and data sets; for a folder, a mapping from file to group.
        given: (N,) train, val or test, for arrays and lists of paths that come already split.
        strict: Refuse data with unreadable files instead of leaving those out; all are read for it.
        trainable: Refuse data that cannot be trained on (one class, a class with one sample); False to judge with it.
        name: Name of the data set, if not that of the folder or file.
        within: Seconds that reading may take: as many samples as can be read in them are drawn, classes and parts in
            proportion, and all others left out. Ten a class in the mean, and three of each, are read however long that
            takes.
        most: Draw no more than that in the same way; three of each class (of each part that the data bring) in any
            case.
        seed: Decides which are drawn.
        progress: Called with samples read and samples in all.
    Raises:
        MissingDataError: The path is not there.
        DataError: The data cannot be trained on as they are; the text says why and what to do.
        UsageError: An option that cannot be, or does not go with this kind of data.
    """
    started = time.perf_counter()
    if kind not in get_args(Kind):
        raise UsageError(f"kind must be one of {', '.join(get_args(Kind))}; got {kind!r}.")
    if not ((within is None or within > 0) and (most is None or most > 0)):
        raise UsageError(f"within and most must be above 0, seconds and samples; got {within} and {most}.")
    opened = _recorded(
        what, kind=kind, label_column=label_column, file_column=file_column, image_column=image_column,
        group_column=group_column, split_column=split_column, root=root, class_names=class_names, groups=groups,
        strict=strict, trainable=trainable, name=name,
    )  # fmt: skip
    columns = Columns(file=file_column, label=label_column, group=group_column, split=split_column, image=image_column)
    place = Path(os.fspath(root)).expanduser() if root is not None else None
    listing = _list(
        what, _kind_of(what) if kind == "auto" else kind, labels, columns, place, class_names, groups, given
    )
    listing = listing if name is None else replace(listing, name=name)
    hurry = Hurry() if strict else Hurry(within, most, seed)
    dataset = _assemble(listing, hurry, strict=strict, trainable=trainable, progress=progress)
    if opened is not None and dataset.drawn:
        opened |= {"most": dataset.drawn, "seed": seed}
    return replace(dataset, seconds=time.perf_counter() - started, opened=opened)


def open_files(
    what: Any,
    *,
    file_column: str | None = None,
    image_column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Open pictures without labels, to predict on: a path, a list of paths, a folder, a table, an array, a hub object.

    What cannot be read lands in ``skipped`` and never stops the rest. Labels are all -1 and there are no classes.

    Raises:
        MissingDataError: The one path given is not there.
        DataError: The table or array cannot be understood, or there is nothing in it.
    """
    kind = _kind_of(what)
    if kind == "files":
        _refuse_mixture(what)
    if kind in ("folder", "table"):
        path = _existing(what, "Give a picture, a folder of pictures, or a CSV, TSV or Parquet table.")
        place = Path(os.fspath(root)).expanduser() if root is not None else None
        if path.is_dir():
            listing = list_pictures(path)
        elif path.suffix.lower() in TABLE_SUFFIXES:
            listing = open_table(path, Columns(file=file_column, image=image_column), root=place, labelled=False)
        else:
            listing = open_paths([what], None)
    elif kind == "hub":
        listing = open_hub(what, image_column=image_column, labelled=False)
    else:
        listing = (open_array if kind == "array" else open_paths)(what, None)
    if not listing.files and not listing.skipped:
        raise DataError(f"{what if isinstance(what, str | os.PathLike) else 'the list'}: found no pictures.")
    seen = scan(listing.source, store=_store(), progress=progress)
    rows, unreadable = _readable(listing, np.arange(len(listing.files)), seen)
    return Dataset(
        name=listing.name,
        files=tuple(listing.files[row] for row in rows),
        labels=np.full(len(rows), -1, dtype=np.int64),
        classes=(),
        source=SubsetSource(listing.source, rows),
        digests=tuple(seen.digests[row] for row in rows),
        sketches=seen.sketches[rows],
        groups=np.arange(len(rows), dtype=np.int64),
        skipped=(*listing.skipped, *unreadable),
        root=listing.root,
    )


def _list(
    what: Any,
    kind: Kind,
    labels: Iterable[Any] | None,
    columns: Columns,
    place: Path | None,
    class_names: Sequence[str] | None,
    groups: Iterable[Any] | Mapping[str, Any] | None,
    given: Iterable[str] | None,
) -> Listing:
    """List the samples by the door that fits; nothing is read yet."""
    if kind not in ("array", "files"):
        _only_without(given, "given", f"a {kind}", "split_column, or train and test parts,")
    if kind in ("folder", "table"):
        path = _existing(what)
        if labels is not None:
            raise UsageError("labels go with arrays and lists of paths; folders and tables carry their own.")
        if path.is_dir():
            return _open_directory(path, columns, place, class_names, groups)
        _only_without(groups, "groups", "a table", "group_column")
        if path.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(f"{path}: expected a folder or a table ({', '.join(TABLE_SUFFIXES)}); got a single file.")
        return open_table(path, columns, root=place, class_names=class_names)
    if kind == "hub":
        _only_without(labels, "labels", "a datasets object", "label_column")
        return open_hub(
            what, image_column=columns.image, label_column=columns.label, group_column=columns.group, groups=groups,
            class_names=class_names,
        )  # fmt: skip
    if labels is None:
        raise UsageError("labels must be given with an array or a list of paths: one string or integer per sample.")
    open_it = open_array if kind == "array" else open_paths
    return open_it(what, labels, groups, class_names, given)


def _kind_of(what: Any) -> Kind:
    if isinstance(what, str | os.PathLike):
        return "folder" if Path(what).expanduser().is_dir() else "table"
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
    """Folders and tables are taken one at a time; a list is of pictures."""
    for path in map(Path, what):
        if path.is_dir() or path.suffix.lower() in TABLE_SUFFIXES:
            kind = "a folder" if path.is_dir() else "a table"
            raise DataError(
                f"{path} is {kind}, given among other files. Give one folder or one table alone, or pictures."
            )


def _recorded(what: Any, **options: Any) -> dict[str, Any] | None:
    """Note how data were opened, so that a run that was stopped opens them again; None if that cannot be noted."""
    if not isinstance(what, str | os.PathLike):
        return None
    given = {name: value for name, value in options.items() if value is not None}
    if "root" in given:
        given["root"] = _absolute(given["root"])
    if "class_names" in given:
        given["class_names"] = list(given["class_names"])
    described = {"what": _absolute(what), **given}
    try:
        return described if json.loads(json.dumps(described)) == described else None
    except (TypeError, ValueError):  # groups may be anything hashable
        return None


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(Path(path).expanduser().absolute())


def _existing(
    what: str | os.PathLike[str], next_step: str = "Give a folder of class folders, or a CSV, TSV or Parquet table."
) -> Path:
    path = Path(what).expanduser()
    try:
        if path.exists():
            return path
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}.") from error
    raise MissingDataError(f"{path} is not there. {next_step}")


def _only_without(value: object, option: str, kind: str, instead: str) -> None:
    if value is not None:
        raise UsageError(f"{option} does not go with {kind}; give {instead} instead.")


def _open_directory(
    path: Path, columns: Columns, root: Path | None, class_names: Sequence[str] | None, groups: Any
) -> Listing:
    if (path / "bundle.json").is_file() and (path / "model.safetensors").is_file():
        raise DataError(f"{path} is a run folder, not data. Give the folder or table that holds the pictures.")
    try:
        tables = find_part_tables(path)
        listing = None if tables else open_folder(path, groups if isinstance(groups, Mapping) else None)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be listed: {error.strerror}.") from error
    if listing is None:
        _only_without(groups, "groups", "tables", "group_column")
        return open_part_tables(path, tables, columns, root=root, class_names=class_names)
    if columns != Columns():
        raise UsageError("columns can be named for tables and datasets objects; a folder of class folders has none.")
    if groups is not None and not isinstance(groups, Mapping):
        raise UsageError("groups of a folder must be a mapping from file (its path below the folder) to group.")
    return listing


def _store() -> ScanStore:
    return ScanStore(cache_root() / "scan.sqlite")


def _readable(listing: Listing, opened: NDArray[np.int64], seen: Scan) -> tuple[NDArray[np.int64], list[Skipped]]:
    rows = np.array([row for row in opened if row not in seen.failures], dtype=np.int64)
    return rows, [Skipped(listing.files[row], reason) for row, reason in sorted(seen.failures.items())]


def _assemble(listing: Listing, hurry: Hurry, *, strict: bool, trainable: bool, progress: Progress | None) -> Dataset:
    assert listing.labels is not None
    where = listing.where or str(listing.root or listing.name)
    classes, numbers = name_classes(listing.labels, listing.class_names, where)
    all_labels = np.array(numbers, dtype=np.int64)
    opened, seen = look(listing.source, all_labels, listing.given, hurry, store=_store(), progress=progress)
    rows, unreadable = _readable(listing, opened, seen)
    skipped = (*listing.skipped, *unreadable)
    found = f"{len(opened) + len(listing.skipped)} files"
    if skipped and (strict or not len(rows)):
        some = "; ".join(f"{s.file} ({s.reason})" for s in skipped[:3])
        raise DataError(f"{where}: {len(skipped)} of {found} cannot be read: {some}.")
    present = np.unique(all_labels[rows])
    lost = [name for i, name in enumerate(classes) if i not in present]
    if lost:
        raise DataError(f"{where}: no file of class {lost[0]!r} can be read. Repair its files or remove the class.")
    digests = tuple(seen.digests[row] for row in rows)
    declared = None if listing.groups is None else [listing.groups[row] for row in rows]
    dataset = Dataset(
        name=listing.name,
        files=tuple(listing.files[row] for row in rows),
        labels=all_labels[rows],
        classes=classes,
        source=SubsetSource(listing.source, rows) if len(rows) < len(listing.files) else listing.source,
        digests=digests,
        sketches=seen.sketches[rows],
        groups=duplicate_groups(digests, seen.sketches[rows], declared),
        given=None if listing.given is None else np.array(listing.given, dtype=np.str_)[rows],
        skipped=skipped,
        root=listing.root,
        drawn=len(opened) if len(opened) < len(listing.files) else 0,
    )
    if trainable:
        refuse_untrainable(dataset, where)
    fewer = [opened_remark(dataset.drawn, len(listing.files))] if dataset.drawn else []
    warnings = [*fewer, *skipped_remark(skipped, found), *listing.warnings, *remarks(dataset)]
    return replace(dataset, warnings=tuple(warnings))
