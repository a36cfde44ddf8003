"""Read what is learned if that is not one class: several labels a sample, or numbers."""

from __future__ import annotations

import ast
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from thawline.data.labels import clean_labels, is_missing
from thawline.data.listing import Listing, first_few, name_classes
from thawline.errors import DataError, UsageError, nearest
from thawline.naming import canonical, quoted, written
from thawline.records import Target, TargetAsked, Targets
from thawline.showing import counted, printable
from thawline.strata import strata

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEPARATORS = ("|", ";", ",")
"""What labels in one cell may be parted by; the first of them that occurs in a column parts all its cells."""
_MOST_LISTED = 100_000
"""Characters of a cell that is read as a list."""
FEW = 10
"""With fewer samples that have a label, or lack it, the user is warned that its scores are uncertain."""


@dataclass(frozen=True, slots=True)
class Read:
    """Labels of all rows as a listing holds them."""

    labels: tuple[Any, ...]
    """(N,) a class each; or, with another target, a tuple of labels or of numbers each."""
    target: Target = "class"
    names: tuple[str, ...] | None = None
    """Of the labels or numbers, in their order; None if what occurs tells them."""
    notes: tuple[str, ...] = ()


def check_target(target: str) -> TargetAsked:
    """Return what was asked to be learned.

    Raises:
        UsageError: There is no such target.
    """
    if target not in get_args(TargetAsked):
        known = get_args(TargetAsked)
        raise UsageError(
            f"target (--target) must be one of {', '.join(known)}; got {target!r}.{nearest(target, known)}"
        )
    return cast(TargetAsked, target)


def read_column(
    values: Sequence[Any],
    target: TargetAsked,
    at: Callable[[int], str],
    where: str,
    *,
    name: str | None = None,
    whole: bool = True,
) -> Read:
    """Read one column of labels as what is asked for.

    Args:
        values: (N,) cells.
        target: ``auto`` takes cells that are lists for several labels, and all else for classes.
        at, where, whole: As ``clean_labels`` takes them.
        name: Of the column, if it has one.
    Raises:
        DataError: As ``clean_labels``, or a cell that is no list of labels, or no number.
    """
    if target == "number":
        numbers = [(_number(value, at(row), where),) for row, value in enumerate(values)]
        return Read(tuple(numbers), "number", None if name is None else (name,))
    if target == "labels" or (target == "auto" and _are_lists(values)):
        return _several(values, target, at, where)
    labels, notes = clean_labels(values, at, where, whole=whole)
    return Read(labels, notes=tuple(notes))


def read_columns(
    rows: Sequence[Sequence[Any]], names: Sequence[str], target: TargetAsked, at: Callable[[int], str], where: str
) -> Read:
    """Read several columns: of 0 and 1, one for each label; or, with target ``number``, one for each number.

    Args:
        rows: (N,) cells of the columns in each row.
        names: Of the columns.
    Raises:
        DataError: A cell that is neither 0 nor 1, or no number.
    """
    if target == "number":
        numbers = tuple(
            tuple(_number(cell, f"{at(row)}, column {name!r},", where) for name, cell in zip(names, cells, strict=True))
            for row, cells in enumerate(rows)
        )
        return Read(numbers, "number", tuple(names))
    found = []
    for row, cells in enumerate(rows):
        flags = [_flag(cell) for cell in cells]
        if None in flags:
            odd = flags.index(None)
            raise DataError(
                f"{where}: columns of labels must hold 0 and 1; {at(row)} has {printable(cells[odd], 40)!r} in column "
                f"{names[odd]!r}. Correct the cell, or read the columns as numbers with --target number."
            )
        found.append(tuple(name for name, flag in zip(names, flags, strict=True) if flag))
    note = f"Labels are read from {len(names)} columns of 0 and 1: {first_few(names)}."
    return Read(tuple(found), "labels", tuple(names), (note, *_without_any(found)))


def read_given(labels: Any, n: int, target: TargetAsked, class_names: Sequence[str] | None) -> Read | None:
    """Read labels that were given as an array (N, C), or for a target that needs more than classes; else None.

    Args:
        n: Samples.
        class_names: Names of the columns of an array.
    Raises:
        DataError: There is not one row for each sample, or a label or number cannot be read.
    """
    array = np.asarray(labels) if isinstance(labels, np.ndarray) else None
    listed = list(labels) if array is None else array.tolist()
    if target == "class" or (target == "auto" and (array is None or array.ndim != 2) and not _are_lists(listed)):
        return None
    if len(listed) != n:
        raise DataError(f"labels must be one for each sample; got {len(listed)} labels for {n} samples.")
    where = "the labels given"

    def at(row: int) -> str:
        return f"sample {row}"

    rows = [row for row in listed if isinstance(row, list | tuple)]
    matrix = (
        len(rows) == n and len({len(row) for row in rows}) == 1 and not any(isinstance(cell, str) for cell in rows[0])
    )
    if matrix and (array is not None or target == "number"):
        width = len(rows[0])
        names = [
            str(name)
            for name in class_names or [f"{target if target == 'number' else 'label'} {i}" for i in range(width)]
        ]
        if len(names) != width:
            raise DataError(f"class_names must name the {width} columns of the labels; got {len(names)} names.")
        return read_columns(rows, names, target, at, where)
    return read_column(listed, target, at, where, name="number")


def _are_lists(values: Sequence[Any]) -> bool:
    """Tell cells that are lists of labels beyond doubt: as the file holds them, or as JSON or Python writes them."""
    known = [value for value in values if not is_missing(value)]
    if not known:
        return False
    if all(isinstance(value, list | tuple | set) for value in known):
        return True
    return all(isinstance(value, str) and _listed(value) is not None for value in known)


def _listed(cell: str) -> list[Any] | None:
    """Read a cell such as ``["a", "b"]`` or ``['a', 'b']``; None if it is no such list."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")) or len(text) > _MOST_LISTED:
        return None
    for read in (json.loads, ast.literal_eval):  # neither runs anything
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(item, str | int) for item in found):
            return found
    return None


def _several(values: Sequence[Any], target: TargetAsked, at: Callable[[int], str], where: str) -> Read:
    texts = [value for value in values if isinstance(value, str) and _listed(value) is None]
    separator = next((one for one in SEPARATORS if any(one in text for text in texts)), None)
    found: list[tuple[str, ...]] = []
    for row, value in enumerate(values):
        items = _items(value, separator)
        if items is None:
            raise DataError(
                f"{where}: labels of {at(row)} must be a list, or text such as 'red|round'; got "
                f"{printable(value, 60)!r}. Correct it."
            )
        found.append(tuple(dict.fromkeys(items)))
    how = f"cells are parted at {separator!r}" if separator else "cells are lists"
    said = "Each sample may have several labels" + (", as asked" if target == "labels" else "")
    return Read(tuple(found), "labels", None, (f"{said}: {how}.", *_without_any(found)))


def _items(value: Any, separator: str | None) -> list[str] | None:
    """Return the labels in one cell; empty if it has none; None if it holds something else."""
    if is_missing(value):
        return []
    if isinstance(value, str):
        listed = _listed(value)
        parts = listed if listed is not None else value.split(separator) if separator else [value]
    elif isinstance(value, list | tuple | set):
        parts = sorted(value) if isinstance(value, set) else list(value)
    else:
        parts = [value]
    if not all(isinstance(part, str | int) for part in parts):
        return None
    return [canonical(written(text)) for part in parts if (text := str(part).strip())]


def _without_any(found: Sequence[Sequence[str]]) -> list[str]:
    n = sum(not labels for labels in found)
    return (
        [f"{counted(n, 'sample')} {'has' if n == 1 else 'have'} no label: none of the labels is theirs."] if n else []
    )


def _flag(cell: Any) -> bool | None:
    if is_missing(cell):
        return None
    if isinstance(cell, bool | int | float):
        return bool(cell) if cell in (0, 1) else None
    text = str(cell).strip().lower()
    return True if text in ("1", "1.0", "true", "yes") else False if text in ("0", "0.0", "false", "no") else None


def _number(value: Any, place: str, where: str) -> float:
    number = math.nan
    if isinstance(value, str):
        try:
            number = float(value.strip().replace(",", ".") if value.count(",") == 1 and "." not in value else value)
        except ValueError:
            number = math.nan
    elif isinstance(value, bool | int | float):
        number = float(value)
    if not math.isfinite(number):
        what = "is empty" if is_missing(value) else f"holds {printable(value, 40)!r}"
        raise DataError(
            f"{where}: target number needs a finite number for each sample; {place} {what}. Fill it in, or remove the "
            "row."
        )
    return number


def classes_and_targets(listing: Listing, where: str) -> tuple[tuple[str, ...], list[int], Targets | None]:
    """Return the classes and the number of each sample's class; with another target, strata in their place.

    Raises:
        DataError: ``class_names`` do not fit, or there is nothing to learn.
    """
    assert listing.labels is not None
    if listing.target == "class":
        return *name_classes(listing.labels, listing.class_names, where), None
    if listing.target == "number":
        numbers = np.array(listing.labels, dtype=np.float64).reshape(len(listing.labels), -1)
        names = tuple(listing.class_names or ("number",) * numbers.shape[1])
        if len(names) != numbers.shape[1]:
            raise DataError(f"{where}: class_names must name {numbers.shape[1]} numbers; got {len(names)} names.")
        targets = Targets("number", names, numbers)
    else:
        there = {label for labels in listing.labels for label in labels}
        order = [*dict.fromkeys(canonical(written(name)) for name in listing.class_names or ()), *sorted(there)]
        names = tuple(dict.fromkeys(name for name in order if name in there))
        index = {name: i for i, name in enumerate(names)}
        has = np.zeros((len(listing.labels), len(names)), dtype=np.bool_)
        for row, labels in enumerate(listing.labels):
            has[row, [index[label] for label in labels]] = True
        targets = Targets("labels", names, has)
    numbered = strata(targets.values)
    return (
        tuple(_stratum(targets, numbered == i) for i in range(int(numbered.max(initial=-1)) + 1)),
        numbered.tolist(),
        targets,
    )


def _stratum(targets: Targets, inside: NDArray[np.bool_]) -> str:
    values = targets.values[inside]
    if targets.kind == "number":
        return f"{values[:, 0].min():g} to {values[:, 0].max():g}"
    counts = np.where(values.all(axis=0), targets.values.sum(axis=0), np.iinfo(np.int64).max)
    return targets.names[int(counts.argmin())] if values.any() else "no label"


def learnable(targets: Targets, where: str) -> tuple[Targets, list[str]]:
    """Return the targets of the samples that can be read, without labels that none of them has, and what to know.

    Raises:
        DataError: Nothing can be learned: no label is left, or every sample has the same ones or the same number.
    """
    if targets.kind == "number":
        flat = [name for name, column in zip(targets.names, targets.values.T, strict=True) if np.ptp(column) == 0]
        if flat:
            raise DataError(f"{where}: column {quoted(flat[0])} holds one number for all samples. Name another column.")
        return targets, []
    counts, n = targets.values.sum(axis=0), len(targets.values)
    kept = (counts > 0) & (counts < n)
    lost = [name for name, keep in zip(targets.names, kept, strict=True) if not keep]
    if not kept.any():
        raise DataError(
            f"{where}: expected labels that some samples have and others lack; found none. Check the column."
        )
    notes = []
    if lost:
        notes.append(
            f"Left out: {counted(len(lost), 'label')} that no sample has, or that all have ({first_few(lost)})."
        )
    names = tuple(name for name, keep in zip(targets.names, kept, strict=True) if keep)
    rare = Counter(
        {name: int(min(c, n - c)) for name, c in zip(names, counts[kept], strict=True) if min(c, n - c) < FEW}
    )
    if rare:
        name, least = rare.most_common()[-1]
        notes.append(
            f"{len(rare)} of {len(names)} labels tell fewer than {FEW} samples from the others ({quoted(name)}: "
            f"{least}): their scores, and their thresholds, will be uncertain."
        )
    return Targets("labels", names, targets.values[:, kept]), notes
