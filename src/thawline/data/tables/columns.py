"""Tell which column of a table holds what: by its name, and by what its cells look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from thawline.data.folders.opening import FolderReading
from thawline.data.listing import PART_NAMES, first_few
from thawline.data.tables.samples import (
    Sample,
    SampleColumn,
    only_classes,
    other_texts,
    sample_column,
    text_column,
    usual_label,
)
from thawline.data.tables.usual import (
    FLAG_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMNS,
    is_index,
    key_of,
    named_column,
    shown,
    usual_column,
)
from thawline.errors import DataError, NoLabelsError, UsageError
from thawline.records import Part, TargetAsked

AreThere = Callable[[Sequence[Any]], bool]
_LABEL_WORDS = ("label", "labels", "class", "category", "target", "breed", "species", "diagnosis")
"""How the name of a column of labels often ends: ``Finding Labels``."""
_OTHER_SET: Mapping[Part, Part] = {"val": "train", "test": "train", "train": "test"}
_YES, _NO = ("true", "1", "1.0", "yes", "t", "y"), ("false", "0", "0.0", "no", "f", "n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column holds what, if it has none of the usual names."""

    file: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    image: str | None = None
    """Image bytes, in Parquet."""
    text: str | None = None
    """Texts themselves."""
    kind: str | None = None
    """What the samples are, ``image`` or ``text``, if that is known; None finds out."""
    target: TargetAsked = "auto"
    """What is learned."""
    known_label: str | None = None
    """Column of labels in the training table; beside it, no other is guessed. None: there is no such table."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which columns are read."""

    roles: Mapping[str, str]
    """Role -> name of the column."""
    one_hot: tuple[str, ...] = ()
    """Columns of 0 and 1, one for each class, instead of a column of labels."""
    several: tuple[str, ...] = ()
    """Columns of labels (0 and 1) or of numbers that are learned together, instead of a column of labels."""
    guessed_split: bool = False
    """The split column was not asked for: one that does not say train, val or test is left alone."""
    notes: tuple[str, ...] = ()

    @property
    def wanted(self) -> list[str]:
        return list(dict.fromkeys([*self.roles.values(), *self.one_hot, *self.several]))


@dataclass(frozen=True, slots=True)
class Cells:
    """The needed columns of a table, by role (file, text, label, group, split); image bytes stay in the file."""

    path: Path
    cells: Mapping[str, list[Any]]
    places: Sequence[int]
    """Line (text) or row (Parquet, from 0) of each sample, for messages."""
    unit: str
    image: str | None = None
    choice: Choice = Choice({})
    notes: tuple[str, ...] = ()
    """What a user should know of how the table was read."""

    def at(self, row: int) -> str:
        return f"{self.unit} {self.places[row]}"


class TableReading(NamedTuple):
    """How the tables in a folder are read."""

    columns: Columns
    root: Path | None
    """Folder that file names start from, if not that of the table."""
    class_names: Sequence[str] | None
    folder: FolderReading


def choose(
    path: Path,
    names: Sequence[str],
    columns: Columns,
    labelled: bool,
    image: str | None,
    sample: Sample,
    are_there: AreThere = lambda cells: False,
) -> Choice:
    """Choose the columns of a table.

    Args:
        names: Of all columns.
        labelled: Whether labels are needed.
        image: Column of image bytes, if the table holds the pictures.
        sample: Returns the first cells of a column.
        are_there: Whether files of the names in these cells are there.
    Raises:
        DataError: A column that is needed is not there, or is there twice.
        NoLabelsError: There is no column of labels.
    """
    several = _several(columns.label, names) if labelled else ()
    asked = {
        "label": None if several or not labelled else named_column(path, "label", columns.label, names),
        "group": named_column(path, "group", columns.group, names),
        "split": named_column(path, "split", columns.split, names),
    }
    samples = SampleColumn("file", "")
    roles: dict[str, str] = {}
    if image is None:
        samples = _samples(path, names, columns, [*asked.values(), *several], sample, are_there)
        roles[samples.role] = samples.name
    roles |= {role: name for role in ("group", "split") if (name := asked[role]) is not None}
    _refuse_twice(path, names, roles)
    notes = [*samples.notes]
    one_hot: tuple[str, ...] = ()
    _refuse_twice(path, names, dict(zip(several, several, strict=True)))
    if labelled and not several:
        taken = {*roles.values(), *samples.texts, image}
        others = [name for name in names if name not in taken]
        of_texts = samples.role == "text"
        label = asked["label"] or usual_label(others if of_texts else names, of_texts=of_texts)
        if label is None:
            one_hot = _one_hot(others, sample, exclusive=columns.target != "labels")
        if label is None and columns.known_label in names:
            label = columns.known_label
        if label is None and columns.known_label is None and not one_hot:
            label = _ends_like_labels(others, notes)
        if label is None and not one_hot:
            others = others if columns.known_label is None else []
            label = _only_other(path, others, names, sample, notes, of_texts=of_texts)
        if label is not None:
            roles["label"] = label
        elif columns.target == "labels":
            one_hot, several = (), one_hot
    guessed = None
    if labelled and columns.split is None:
        guessed = usual_column((*SPLIT_COLUMNS, *FLAG_COLUMNS), [name for name in names if name not in roles.values()])
        roles |= {} if guessed is None else {"split": guessed}
    _refuse_twice(path, names, roles)
    return Choice(roles, one_hot, several, guessed is not None, tuple(notes))


def _several(asked: str | None, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that were named together, with commas; none if one column was named, or nothing."""
    parts = tuple(part.strip() for part in (asked or "").split(","))
    return parts if asked not in names and len(parts) > 1 and set(parts) <= set(names) else ()


def _samples(
    path: Path,
    names: Sequence[str],
    columns: Columns,
    taken: Sequence[str | None],
    sample: Sample,
    are_there: AreThere,
) -> SampleColumn:
    """Return the column of the samples, as asked for or found."""
    if columns.text is not None and columns.file is not None:
        raise UsageError("text_column (--text-column) and file_column (--file-column) exclude each other; give one.")
    text = named_column(path, "text", columns.text, names)
    file = named_column(path, "file", columns.file, names)
    if text is not None:
        return SampleColumn("text", text, other_texts([name for name in names if name not in (text, *taken)], sample))
    if file is not None:
        return SampleColumn("file", file)
    if columns.kind == "text":
        return text_column(path, names, taken, sample)
    return sample_column(path, names, taken, sample, lambda name: columns.kind == "image" or are_there(sample(name)))


def _refuse_twice(path: Path, names: Sequence[str], roles: Mapping[str, str]) -> None:
    repeated = [name for name in roles.values() if names.count(name) > 1]
    if repeated:
        raise DataError(f"{path}: the table has two columns {repeated[0]!r}. Rename one.")


def _ends_like_labels(others: Sequence[str], notes: list[str]) -> str | None:
    """Return the one column whose name ends in a word for labels."""
    found = [name for name in others if key_of(name).endswith(_LABEL_WORDS)]
    if len(found) != 1:
        return None
    notes.append(f"Labels are read from column {found[0]!r}.")
    return found[0]


def _only_other(
    path: Path, others: Sequence[str], names: Sequence[str], sample: Sample, notes: list[str], *, of_texts: bool
) -> str:
    """Return the one column beside the samples: it holds the labels, whatever it is called."""
    plain = [name for name in others if not is_index(name) and key_of(name) not in (*SPLIT_COLUMNS, *FLAG_COLUMNS)]
    what = "texts" if of_texts else "file names"
    if len(plain) == 1:
        notes.append(f"Labels are read from column {plain[0]!r}, the only one beside the {what}.")
        return plain[0]
    if not plain:
        raise NoLabelsError(
            f"{path}: expected a column of labels; found only {shown(names)}. Add one, or label the "
            f"{'texts' if of_texts else 'pictures'} with `thawline predict RUN {path.name}`."
        )
    cells = {name: sample(name) for name in plain}
    flags = [name for name, found in cells.items() if found and None not in map(flag, found)]
    found = only_classes(cells) if of_texts and len(flags) < 2 else None
    if found is not None:
        notes.append(f"Labels are read from column {found!r}, the only one whose values come again and again.")
        return found
    raise NoLabelsError(
        f"{path}: expected a label column named {', '.join(LABEL_COLUMNS[:4])} or alike; found {shown(names)}. "
        f"Name it with label_column (--label-column){', or several with commas' if len(flags) > 1 else ''}."
    )


def _one_hot(others: Sequence[str], sample: Callable[[str], list[Any]], *, exclusive: bool) -> tuple[str, ...]:
    """Return the columns of 0 and 1 of which each row has one 1; none if these are not one-hot.

    Args:
        exclusive: False: a row may have any number of them.
    """
    flags = (*SPLIT_COLUMNS, *FLAG_COLUMNS)
    cells = {name: sample(name) for name in others if not is_index(name) and key_of(name) not in flags}
    binary = {name: [flag(cell) for cell in found] for name, found in cells.items()}
    binary = {name: flags for name, flags in binary.items() if flags and None not in flags}
    if len(binary) < 2:
        return ()
    if not exclusive:
        return tuple(binary)
    ones = [sum(map(bool, row)) for row in zip(*binary.values(), strict=False)]  # rows may be short
    return tuple(binary) if 2 * sum(n >= 1 for n in ones) > len(ones) and (len(binary) > 2 or set(ones) == {1}) else ()


def flag(cell: Any) -> bool | None:
    """Read a cell of yes and no; None if it is neither."""
    text = str(cell).strip().lower()
    return True if text in _YES else False if text in _NO else None


def filled(
    path: Path,
    choice: Choice,
    read: Mapping[str, list[Any]],
    places: Sequence[int],
    unit: str,
    image: str | None = None,
    notes: Sequence[str] = (),
) -> Cells:
    """Put together what was read: columns by role, and labels from one-hot columns.

    Raises:
        DataError: Columns of 0 and 1 that do not name one class in each row.
    """  # fmt: skip
    roles = {role: read[name] for role, name in choice.roles.items()}
    cells = Cells(path, roles, places, unit, image, choice, (*notes, *choice.notes))
    if choice.several:
        together = [list(row) for row in zip(*(read[name] for name in choice.several), strict=True)]
        return replace(cells, cells=roles | {"label": together})
    if not choice.one_hot:
        return cells
    labels = _one_hot_labels(cells, {name: read[name] for name in choice.one_hot})
    note = f"Labels are read from the columns {shown(choice.one_hot)}: each row has one 1."
    return replace(cells, cells=roles | {"label": labels}, notes=(*cells.notes, note))


def _one_hot_labels(cells: Cells, columns: Mapping[str, Sequence[Any]]) -> list[str]:
    names, labels = list(columns), []
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        flags = [flag(value) for value in values]
        ones = [name for name, one in zip(names, flags, strict=True) if one]
        if len(ones) != 1 or None in flags:
            what = "another value" if None in flags else f"a 1 for {first_few(ones)}" if ones else "no 1"
            raise DataError(
                f"{cells.path}: columns {shown(names)} hold one class each, and {cells.at(row)} has {what}. "
                "Read them as labels, of which a sample may have several or none, with --target labels; or leave such "
                "rows out."
            )
        labels.append(ones[0])
    return labels


def part_of_cell(cell: Any, column: str) -> Part | None:
    """Read one cell of a split column, which names a set or, in ``is_valid`` and its like, says yes or no to one."""
    part = PART_NAMES.get(str(cell).strip().lower())
    own = PART_NAMES.get(key_of(column).removeprefix("is"))
    said = flag(cell)
    if part is not None or own is None or said is None:
        return part
    return own if said else _OTHER_SET[own]
