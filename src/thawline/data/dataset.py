"""Open labelled or unlabelled data of any kind, and read every sample once, or as many as there is time for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from thawline.data.checks import (
    GO_ON,
    absent_remark,
    left_out,
    lost_classes,
    opened_remark,
    refuse_untrainable,
    remarks,
    skipped_remark,
    unreadable_of,
)
from thawline.data.doors import Kind, list_labelled
from thawline.data.duplicates import CopiesSought, check_copies, find_copies
from thawline.data.folders.opening import FolderReading
from thawline.data.listing import Listing, spelling_remarks
from thawline.data.passed_over import sentences
from thawline.data.sampling import Hurry, look
from thawline.data.scan import Scan
from thawline.data.scan_store import ScanStore
from thawline.data.sources import SubsetSource
from thawline.data.tables.columns import Columns
from thawline.data.targets import check_target, classes_and_targets, learnable
from thawline.errors import DataError, UsageError
from thawline.inputs import kind_of
from thawline.inputs.settled import Settled
from thawline.listening import Progress
from thawline.records import Dataset, Skipped, TargetAsked
from thawline.scale.paths import cache_remark, cache_root


def open_data(
    what: Any,
    labels: Iterable[Any] | None = None,
    *,
    kind: Kind = "auto",
    target: TargetAsked = "auto",
    label_column: str | None = None,
    file_column: str | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    groups: Iterable[Any] | Mapping[str, Any] | None = None,
    given: Iterable[str] | None = None,
    follow_links: bool = False,
    class_level: int | None = None,
    drop_empty_classes: bool = False,
    copies: CopiesSought = "near",
    strict: bool = False,
    trainable: bool = True,
    name: str | None = None,
    within: float | None = None,
    most: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    listed: Callable[[str], None] | None = None,
) -> Dataset:
    """Open labelled pictures or texts and read each of them once.

    Args:
        what: A folder of class folders (below train, val and test folders or not); a CSV, TSV or Parquet table, or a
            folder with a train and a test table; an array (N, H, W), (N, H, W, 1) or (N, H, W, 3), uint8 or
            deeper; a list of paths or of texts, or a column of pandas or polars; a Hugging Face ``datasets`` object.
        labels: (N,) strings or integers, for arrays and lists.
        kind: What ``what`` is; ``auto`` looks: strings that name no files are ``texts``.
        target: What is learned: ``class`` (one for each sample), ``labels`` (any number of them for each: lists, text
            such as ``red|round``, or columns of 0 and 1) or ``number``; ``auto`` takes lists for labels and all else
            for classes.
        label_column: Column of labels, if it has no usual name (label, class, category, target, breed, ...); several
            with commas are labels of 0 and 1, or numbers.
        file_column: Column of file names, if it has no usual name (filename, file, path, image, id, ...).
        image_column: Column of image bytes, if a table or data set has several.
        text_column: Column of texts, if it has no usual name (text, sentence, review, message, question, ...) or the
            table names pictures, too.
        group_column: Column whose equal values (a patient, a session) must stay on one side of a split.
        split_column: Column that says train, val or test, if it has no usual name (split, is_valid, ...).
        root: Folder that the file names of a table start from, if not the folder of the table.
        class_names: Names of the labels 0, 1, 2 ...
        groups: (N,) as ``group_column``, for arrays, lists and data sets; for a folder, a mapping from file to group.
        given: (N,) train, val or test, for arrays and lists of paths that come already split.
        follow_links: Follow links that lead outside the folder, or to folders; else they are skipped or refused.
        class_level: How many folders below a folder its class folders stand; None finds out.
        drop_empty_classes: Leave out a class without a picture that can be used, with a warning; else it is refused.
        copies: Which copies must stay on one side of a split: ``near`` (the same picture, saved or shrunk again, too),
            ``exact`` (identical content only) or ``off``. A split that the data bring is kept but for exact copies.
        strict: Refuse data with unreadable files instead of leaving these out; every file is read for this.
        trainable: Refuse data that cannot be trained on (one class, a class with one sample); False for data that a
            model is only evaluated on.
        name: Name of the data set, if not that of the folder or file.
        within: Seconds that reading may take. As many samples as fit are drawn, in proportion from every class (and
            from the training, validation and test set, if the data bring them); the others are left out. Ten samples
            for each class on average, and three of each, are read however long that takes.
        most: Draw at most so many samples in the same way, but at least three of each class (of each set).
        seed: Decides which samples are drawn.
        progress: Called with samples read and samples in all.
        listed: Called with the kind of input that the samples are, before the first of them is read.
    Raises:
        MissingDataError: The path does not exist.
        DataError: The data cannot be trained on as they are; the text says why and what to do.
        UsageError: An option has no such value, or does not go with this kind of data.
    """
    started = time.perf_counter()
    if kind not in get_args(Kind):
        raise UsageError(f"kind must be one of {', '.join(get_args(Kind))}; got {kind!r}.")
    if not ((within is None or within > 0) and (most is None or most > 0)):
        raise UsageError(f"within (seconds) and most (samples) must be above 0; got {within} and {most}.")
    if class_level is not None and class_level < 1:
        raise UsageError(f"class_level (--class-level) must be 1 or more: folders below the data; got {class_level}.")
    check_copies(copies)
    opened = _recorded(
        what, kind=kind, label_column=label_column, file_column=file_column, image_column=image_column,
        text_column=text_column, group_column=group_column, split_column=split_column, root=root,
        class_names=class_names, groups=groups, follow_links=follow_links or None, class_level=class_level,
        drop_empty_classes=drop_empty_classes or None, copies=copies, strict=strict, trainable=trainable, name=name,
        target=None if check_target(target) == "auto" else target,
    )  # fmt: skip
    columns = Columns(
        file=file_column, label=label_column, group=group_column, split=split_column, image=image_column,
        text=text_column, target=target,
    )  # fmt: skip
    place = Path(os.fspath(root)).expanduser() if root is not None else None
    reading = FolderReading(follow_links, class_level, drop_empty_classes, trainable)
    listing = list_labelled(what, kind, labels, columns, place, class_names, groups, given, reading)
    listing = listing if name is None else replace(listing, name=name)
    if target not in ("auto", listing.target):
        raise UsageError(
            f"target {target} needs a table, or labels given in Python; {listing.name} has one class for each sample. "
            "Write a table with a column of them."
        )
    if listed is not None:
        listed(listing.input_kind)
    hurry = Hurry() if strict else Hurry(within, most, seed)
    dataset = _assemble(
        listing, hurry, copies=copies, strict=strict, trainable=trainable,
        drop_empty=drop_empty_classes or not trainable, progress=progress,
    )  # fmt: skip
    if opened is not None and dataset.drawn:
        opened |= {"most": dataset.drawn, "seed": seed}
    return replace(dataset, seconds=time.perf_counter() - started, opened=opened)


def _recorded(what: Any, **options: Any) -> dict[str, Any] | None:
    """Return the arguments that open the data again when a run is resumed; None if JSON cannot hold them."""
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


def _store() -> ScanStore:
    return ScanStore(cache_root() / "scan.sqlite")


def _readable(listing: Listing, opened: NDArray[np.int64], seen: Scan) -> tuple[NDArray[np.int64], list[Skipped]]:
    rows = np.array([row for row in opened if row not in seen.failures], dtype=np.int64)
    return rows, [Skipped(listing.files[row], reason) for row, reason in sorted(seen.failures.items())]


def _settled(
    seen: Scan, rows: NDArray[np.int64], given: NDArray[np.str_] | None, files: Sequence[str], kind: str
) -> Settled:
    """Decide, over the samples that can be read, what their kind decides over a whole data set."""
    place = {int(row): at for at, row in enumerate(rows)}
    extras = {place[row]: extra for row, extra in seen.extras.items() if row in place}
    judged_by = np.ones(len(rows), bool) if given is None else given != "test"
    return kind_of(kind).settled(extras, seen.sketches[rows], judged_by, files)


def _assemble(
    listing: Listing,
    hurry: Hurry,
    *,
    copies: CopiesSought,
    strict: bool,
    trainable: bool,
    drop_empty: bool,
    progress: Progress | None,
) -> Dataset:
    assert listing.labels is not None
    kind = listing.input_kind
    where = listing.where or str(listing.root or listing.name)
    classes, numbers, targets = classes_and_targets(listing, where)
    all_labels = np.array(numbers, dtype=np.int64)
    opened, seen = look(listing.source, all_labels, listing.given, hurry, kind=kind, store=_store(), progress=progress)
    rows, unreadable = _readable(listing, opened, seen)
    skipped = (*listing.skipped, *unreadable)
    found = f"{len(opened) + len(listing.skipped)} {'texts' if kind == 'text' else 'files'}"
    if skipped and (strict or not len(rows)):
        raise DataError(f"{where}: {len(skipped)} of {found} cannot be read. {' '.join(sentences(skipped))}")
    lost = lost_classes(classes, all_labels, rows, unreadable_of(listing.files, seen.failures, all_labels))
    if targets is not None:
        lost = []  # strata may lose all their samples
    if lost and not drop_empty:
        raise DataError(f"{where}: {lost[0]} Repair its files, remove the class, {GO_ON}.")
    present = np.unique(all_labels[rows])
    absent = absent_remark(listing.class_names, classes) if targets is None else []
    if targets is not None:
        targets, absent = learnable(targets.of(rows), where) if trainable else (targets.of(rows), [])
    classes = tuple(classes[i] for i in present)
    all_labels = np.searchsorted(present, all_labels).astype(np.int64)  # a lost class gets any number: it has no row
    digests = tuple(seen.digests[row] for row in rows)
    declared = None if listing.groups is None else [listing.groups[row] for row in rows]
    files = tuple(listing.files[row] for row in rows)
    given = None if listing.given is None else np.array(listing.given, dtype=np.str_)[rows]
    settled = _settled(seen, rows, given, files, kind)
    groups, found_copies = find_copies(
        digests, settled.sketches, declared, labels=all_labels[rows], sought=copies, kind=kind
    )
    dataset = Dataset(
        name=listing.name,
        files=files,
        labels=all_labels[rows],
        classes=classes,
        source=SubsetSource(listing.source, rows) if len(rows) < len(listing.files) else listing.source,
        digests=digests,
        sketches=settled.sketches,
        groups=groups,
        copies=found_copies,
        given=given,
        scales=settled.scales,
        skipped=skipped,
        root=listing.root,
        kind=kind,
        drawn=len(opened) if len(opened) < len(listing.files) else 0,
        targets=targets,
    )
    if trainable:
        refuse_untrainable(dataset, where, declared)
    fewer = [opened_remark(dataset.drawn, len(listing.files))] if dataset.drawn else []
    left = [*skipped_remark(skipped, found), *left_out(lost, kind_of(kind).NOUN)]
    warnings = [
        *fewer,
        *left,
        *listing.warnings,
        *absent,
        *(spelling_remarks(listing.labels) if targets is None else ()),
        *settled.remarks,
        *remarks(dataset),
    ]
    if (unkept := cache_remark()) is not None:
        warnings.append(unkept)
    return replace(dataset, warnings=tuple(warnings))
