"""List Hugging Face ``datasets`` objects; their columns are found by the type of the feature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thawline.data.arrays import as_listed, checked_groups, read_labels
from thawline.data.listing import PART_NAMES, Listing
from thawline.data.sources import ChainSource, FileSource, TextSource
from thawline.data.tables.samples import text_column as column_of_texts
from thawline.data.tables.samples import usual_label
from thawline.data.texts import as_texts
from thawline.errors import DataError, UndecodableError
from thawline.records import Part, Source, TargetAsked

_SAMPLE = 50
"""Rows by which columns of texts are told."""


def is_hub_object(what: object) -> bool:
    """Tell a ``datasets`` object without importing the library."""
    return type(what).__module__.split(".")[0] == "datasets"


class HubSource:
    """The image column of a ``datasets.Dataset``, read as the stored bytes."""

    def __init__(self, table: Any, column: str) -> None:
        from datasets import Image

        self._column = table.select_columns([column]).cast_column(column, Image(decode=False)).with_format(None)
        self._name = column

    def __len__(self) -> int:
        return len(self._column)

    def read(self, index: int) -> bytes:
        value = self._column[index][self._name] or {}
        if value.get("bytes"):
            return bytes(value["bytes"])
        if value.get("path"):
            return FileSource((value["path"],)).read(0)
        raise UndecodableError("the cell is empty")


def open_hub(
    what: Any,
    *,
    image_column: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    groups: Iterable[Any] | None = None,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    labelled: bool = True,
    whole: bool = True,
    target: TargetAsked = "auto",
    input_kind: str | None = None,
) -> Listing:
    """List a ``datasets.Dataset``, or a ``DatasetDict`` whose splits become the training, validation and test set.

    Raises:
        DataError: It streams, a split has an unknown name, or its columns are not an image or a text, and a label.
    """
    import datasets

    if isinstance(what, datasets.Dataset):
        tables: Mapping[str, Any] = {"train": what}
    elif isinstance(what, datasets.DatasetDict) and what:
        tables = what
    else:
        raise DataError(
            f"data must be a datasets.Dataset or a DatasetDict; got {type(what).__name__}. "
            f"Load it without streaming=True."
        )
    unknown = [split for split in tables if split.lower() not in PART_NAMES]
    if unknown:
        raise DataError(
            f"splits must be named train, val or test; got {unknown[0]!r}. Remove it, or pass one split alone."
        )
    first = next(iter(tables.values()))
    columns = first.features
    notes: list[str] = []
    image_column, text_column = _sample_column(first, image_column, text_column, label_column, input_kind, notes)
    label_column = (label_column or _label_column(columns, of_texts=text_column is not None)) if labelled else None
    for column in (label_column, group_column):
        if column is not None:
            _known(column, columns)
    feature = columns[label_column] if label_column is not None else None
    if label_column is not None:
        tables = _labelled(tables, label_column, notes)
    files, labels, parts, declared, sources = [], [], [], [], []
    for split, table in tables.items():
        part: Part = PART_NAMES[split.lower()]
        files += [f"{split}#{i}" for i in range(len(table))]
        parts += [part] * len(table)
        sources.append(_source(table, image_column, text_column, split))
        if label_column is not None:
            labels += list(table.with_format(None)[label_column])
        if group_column is not None:
            declared += list(table.with_format(None)[group_column])
    if isinstance(feature, datasets.ClassLabel) and -1 in labels:
        raise DataError(f"labels must not be missing; {labels.count(-1)} of {len(labels)} rows have none (label -1).")
    named = class_names or (feature.names if isinstance(feature, datasets.ClassLabel) else None)
    n, whole = len(files), whole and len(tables) == 1
    known = as_listed(None if label_column is None else read_labels(labels, n, named, target, whole=whole), named)
    return Listing(
        name=name or next(iter(tables.values())).info.dataset_name or "dataset",
        files=tuple(files),
        source=ChainSource(sources),
        given=tuple(parts) if len(tables) > 1 else None,
        input_kind="image" if text_column is None else "text",
        groups=tuple(declared) if group_column is not None else checked_groups(groups, len(files)),
        **known | {"warnings": (*notes, *known.get("warnings", ()))},
    )


def _labelled(tables: Mapping[str, Any], column: str, notes: list[str]) -> Mapping[str, Any]:
    """Leave out a test or validation split whose labels are withheld: all -1 or None, or no such column."""
    kept = {}
    for split, table in tables.items():
        known = column in table.features and any(label not in (-1, None) for label in table.with_format(None)[column])
        if known or PART_NAMES[split.lower()] == "train":
            kept[split] = table
        else:
            notes.append(f"Split {split!r} has no labels and is left out. Predict on it afterwards.")
    return kept


def _sample_column(
    table: Any,
    image: str | None,
    text: str | None,
    label: str | None,
    input_kind: str | None,
    notes: list[str],
) -> tuple[str | None, str | None]:
    """Return the column of images or, if there is none, that of texts."""
    from datasets import Image, Value

    columns: Mapping[str, Any] = table.features
    for asked in (image, text):
        if asked is not None:
            _known(asked, columns)
    if image is not None or text is not None:
        return image, text
    found = [column for column, feature in columns.items() if isinstance(feature, Image)]
    if len(found) == 1 and input_kind != "text":
        return found[0], None
    strings = [
        column
        for column, feature in columns.items()
        if isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    ]
    if found or not strings or input_kind == "image":
        raise DataError(
            f"data must have one Image column, or a column of strings; got {len(found)} Image columns among "
            f"{', '.join(columns)}. Give image_column or text_column."
        )
    cells = table.with_format(None)[:_SAMPLE]
    chosen = column_of_texts("the data set", strings, [label], lambda name: list(cells[name]))
    notes += chosen.notes
    return None, chosen.name


def _source(table: Any, image: str | None, text: str | None, split: str) -> Source:
    if text is None:
        assert image is not None
        return HubSource(table, image)
    return TextSource(as_texts(list(table.with_format(None)[text]), lambda row: f"{split}#{row}", "the data set"))


def _label_column(columns: Mapping[str, Any], *, of_texts: bool) -> str:
    from datasets import ClassLabel

    found = [column for column, feature in columns.items() if isinstance(feature, ClassLabel)]
    usual = found[0] if len(found) == 1 else usual_label(list(columns), of_texts=of_texts)
    if usual is None:
        raise DataError(f"data must have a label column; got {', '.join(columns)}. Give label_column.")
    return usual


def _known(column: str, columns: Mapping[str, Any]) -> None:
    if column not in columns:
        raise DataError(f"there is no column {column!r}; the columns are {', '.join(columns)}.")
