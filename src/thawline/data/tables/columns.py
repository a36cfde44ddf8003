"""Tell which column of a table holds what: by its name, and by what its cells look like."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from thawline.data.folders.opening import FolderReading
from thawline.data.listing import PART_NAMES, first_few
from thawline.errors import DataError, NoColumnError, NoLabelsError, nearest
from thawline.inputs.image.formats import promises_picture
from thawline.records import Part, TargetAsked

FILE_COLUMNS = (
    "filename", "file", "path", "image", "imagepath", "filepath", "imagefile", "imagefilename", "imagename", "img",
    "imgpath", "imgfile", "imgname", "imgfilename", "fname", "picture", "photo", "imageid", "imgid", "imageindex",
    "fileid", "photoid", "pictureid", "id",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "class", "category", "target", "labels", "classes", "labelname", "classname", "categoryname", "classlabel",
    "targetname", "labelid", "classid", "categoryid", "targetid", "breed", "species", "diagnosis", "dx", "lbl", "y",
)  # fmt: skip
"""Usual names, the likeliest first, without case, blanks, underscores and hyphens."""
_LABEL_WORDS = ("label", "labels", "class", "category", "target", "breed", "species", "diagnosis")
"""How the name of a column of labels often ends: ``Finding Labels``."""
SPLIT_COLUMNS = ("split", "subset", "partition", "set", "dataset", "phase")
FLAG_COLUMNS = ("isvalid", "isval", "isvalidation", "istest", "istrain")
"""Columns of yes and no that name one set; ``is_valid`` is fastai's."""
_OTHER_SET: Mapping[Part, Part] = {"val": "train", "test": "train", "train": "test"}
_ALIKE = re.compile(r"^(image|img|file|photo|picture|pic|scan|slide|id)|(image|img|file|filename|path|uid)$")
"""How the name of a column of files often begins or ends, if no cell ends like a picture."""
_YES, _NO = ("true", "1", "1.0", "yes", "t", "y"), ("false", "0", "0.0", "no", "f", "n")
_SHOWN = 12
"""Names of columns in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column holds what, if it has none of the usual names."""

    file: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    image: str | None = None
    """Image bytes, in Parquet."""
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
    """The needed columns of a table, by role (file, label, group, split); image bytes stay in the file."""

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


def key_of(name: str) -> str:
    """Return a column's name as usual names are matched: ``Image Index``, ``image_index`` -> ``imageindex``."""
    return "".join(ch for ch in name.casefold() if ch.isalnum())


def is_index(name: str) -> bool:
    """Tell a column of row numbers, as pandas and R write it."""
    return name == "" or name.startswith(("Unnamed:", "__index_level_"))


def choose(
    path: Path,
    names: Sequence[str],
    columns: Columns,
    labelled: bool,
    image: str | None,
    sample: Callable[[str], list[Any]],
) -> Choice:
    """Choose the columns of a table.

    Args:
        names: Of all columns.
        labelled: Whether labels are needed.
        image: Column of image bytes, if the table holds the pictures.
        sample: Returns the first cells of a column.
    Raises:
        DataError: A column that is needed is not there, or is there twice.
        NoLabelsError: There is no column of labels.
    """
    notes: list[str] = []
    roles: dict[str, str] = {}
    if image is None:
        roles["file"] = _named(path, "file", columns.file, names) or _file_column(path, names, sample, notes)
    for role, asked in (("group", columns.group), ("split", columns.split)):
        if asked is not None:
            roles[role] = _named(path, role, asked, names) or asked
    _refuse_twice(path, names, roles)
    one_hot: tuple[str, ...] = ()
    several = _several(columns.label, names) if labelled else ()
    _refuse_twice(path, names, dict(zip(several, several, strict=True)))
    if labelled and not several:
        label = _named(path, "label", columns.label, names) or usual_column(LABEL_COLUMNS, names)
        taken = {*roles.values(), image}
        if label is None:
            one_hot = _one_hot(
                [name for name in names if name not in taken], sample, exclusive=columns.target != "labels"
            )
        if label is None and columns.known_label in names:
            label = columns.known_label
        if label is None and columns.known_label is None and not one_hot:
            label = _ends_like_labels([name for name in names if name not in taken], notes)
        if label is None and not one_hot:
            others = [name for name in names if name not in taken] if columns.known_label is None else []
            label = _only_other(path, others, names, notes)
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


def _refuse_twice(path: Path, names: Sequence[str], roles: Mapping[str, str]) -> None:
    repeated = [name for name in roles.values() if names.count(name) > 1]
    if repeated:
        raise DataError(f"{path}: the table has two columns {repeated[0]!r}. Rename one.")


def _named(path: Path, role: str, asked: str | None, names: Sequence[str]) -> str | None:
    """Return the column that was asked for by name."""
    if asked is None or asked in names:
        return asked
    if asked.strip() in names:
        return asked.strip()
    error = NoLabelsError if role == "label" else DataError
    raise error(
        f"{path}: {role}_column {asked!r} is not in the table, which has {_shown(names)}.{nearest(asked, names)}"
    )


def usual_column(usual: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column with the likeliest of the usual names."""
    keys = {key_of(name): name for name in reversed(names)}
    return next((keys[name] for name in usual if name in keys), None)


def _file_column(path: Path, names: Sequence[str], sample: Callable[[str], list[Any]], notes: list[str]) -> str:
    """Return the column of file names: of those with a usual name, the first whose cells look like pictures."""
    keys = {key_of(name): name for name in reversed(names)}
    known = [keys[name] for name in FILE_COLUMNS if name in keys]
    if len(known) == 1:
        return known[0]
    found = next((name for name in known if _holds_pictures(sample(name))), known[0] if known else None)
    if found is not None:
        return found
    likely = [name for name in names if not is_index(name) and names.count(name) == 1 and _holds_pictures(sample(name))]
    if len(likely) == 1:
        notes.append(f"File names are read from column {likely[0]!r}, whose cells end like names of pictures.")
        return likely[0]
    alike = [name for name in names if not likely and _ALIKE.search(key_of(name)) and not is_index(name)]
    if len(alike) == 1:
        notes.append(f"File names are read from column {alike[0]!r}.")
        return alike[0]
    _refuse_pixels(path, names, sample)
    raise NoColumnError(
        f"{path}: expected a file column named filename, file, path, image, image_path, id or alike; found "
        f"{_shown(names)}. Name it with file_column (--file-column), or add a header row if this line is data."
    )


def _refuse_pixels(path: Path, names: Sequence[str], sample: Callable[[str], list[Any]]) -> None:
    """Refuse tables of pixels, one in each column or all in one cell, as contests give digits and faces."""
    own = [name for name in names if re.fullmatch(r"pixel\d+|p\d+|\d+x\d+|\d+", key_of(name))]
    lists = [name for name in names if key_of(name) in ("pixels", "pixel", "image") and names.count(name) == 1]
    held = next((name for name in lists if any(str(cell).count(" ") > 60 for cell in sample(name)[:3])), None)
    if len(own) > 60 or held is not None:
        where = f"columns {own[0]} to {own[-1]} hold" if held is None else f"column {held!r} holds"
        raise NoColumnError(
            f"{path}: {where} pixels, not names of picture files. Save each row as a PNG, or load the pixels in Python "
            "and give them as an array: open_data(pixels, labels)."
        )


def _holds_pictures(cells: Sequence[Any]) -> bool:
    texts = [cell for cell in cells if isinstance(cell, str) and cell]
    return bool(texts) and 2 * sum(promises_picture(text.strip()) for text in texts) > len(texts)


def _ends_like_labels(others: Sequence[str], notes: list[str]) -> str | None:
    """Return the one column whose name ends in a word for labels."""
    found = [name for name in others if key_of(name).endswith(_LABEL_WORDS)]
    if len(found) != 1:
        return None
    notes.append(f"Labels are read from column {found[0]!r}.")
    return found[0]


def _only_other(path: Path, others: Sequence[str], names: Sequence[str], notes: list[str]) -> str:
    """Return the one column beside the file names: it holds the labels, whatever it is called."""
    plain = [name for name in others if not is_index(name) and key_of(name) not in (*SPLIT_COLUMNS, *FLAG_COLUMNS)]
    if len(plain) == 1:
        notes.append(f"Labels are read from column {plain[0]!r}, the only one beside the file names.")
        return plain[0]
    if not plain:
        raise NoLabelsError(
            f"{path}: expected a column of labels; found only {_shown(names)}. Add one, or label the pictures with "
            f"`thawline predict RUN {path.name}`."
        )
    raise NoLabelsError(
        f"{path}: expected a label column named {', '.join(LABEL_COLUMNS[:4])} or alike; found {_shown(names)}. "
        "Name it with label_column (--label-column)."
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
    note = f"Labels are read from the columns {_shown(choice.one_hot)}: each row has one 1."
    return replace(cells, cells=roles | {"label": labels}, notes=(*cells.notes, note))


def _one_hot_labels(cells: Cells, columns: Mapping[str, Sequence[Any]]) -> list[str]:
    names, labels = list(columns), []
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        flags = [flag(value) for value in values]
        ones = [name for name, one in zip(names, flags, strict=True) if one]
        if len(ones) != 1 or None in flags:
            what = "another value" if None in flags else f"a 1 for {first_few(ones)}" if ones else "no 1"
            raise DataError(
                f"{cells.path}: columns {_shown(names)} hold one class each, and {cells.at(row)} has {what}. "
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


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
