"""The record of what an opener found before it read any sample, and the words that openers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thawline.errors import DataError
from thawline.naming import canonical, quoted, written
from thawline.records import Part, Skipped, Source, Target

if TYPE_CHECKING:
    from pathlib import Path

Label = str | int

PART_NAMES: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Names, in lower case, that folders, files and cells give to the training, validation and test set."""
SET_NAMES: Mapping[Part, str] = {"train": "training set", "val": "validation set", "test": "test set"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listing:
    """Samples by name and place, not yet read."""

    name: str
    files: tuple[str, ...]
    source: Source
    labels: tuple[Any, ...] | None = None
    """(N,) a ``Label`` each, as written; with another target, a tuple of labels or of numbers each; None if the samples
    have none."""
    given: tuple[Part, ...] | None = None
    groups: tuple[object, ...] | None = None
    """(N,) hashable; None means a group of its own."""
    class_names: Sequence[str] | None = None
    """Names of the labels 0, 1, 2 ..., if labels are such numbers."""
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    root: Path | None = None
    where: str | None = None
    """What errors name instead of the root: a table."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Role (file, text, label, ...) -> name of the column, of a table."""
    target: Target = "class"
    """What is learned of each sample. Of labels and numbers, ``class_names`` are the names, in their order."""
    input_kind: str = "image"
    """What the samples are, a name in ``inputs.KINDS``."""

    def __post_init__(self) -> None:
        """Hold names as every file and terminal can; ``source`` alone knows the bytes that they are on the disk."""
        object.__setattr__(self, "name", written(self.name))
        if not "".join(self.files).isascii():
            object.__setattr__(self, "files", tuple(map(written, self.files)))


def name_classes(
    labels: Sequence[Label], class_names: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], list[int]]:
    """Sort the labels that occur (numbers by value, others by name) and name them; return names and numbers (N,).

    Raises:
        DataError: ``class_names`` do not fit the labels.
    """
    spelled = _spellings(labels)
    present = set(spelled)
    try:
        order = sorted(present, key=int)
        numeric = len({int(label) for label in order}) == len(order)
    except ValueError:
        numeric = False
    if not numeric:
        order = sorted(present, key=lambda label: min(map(str, spelled[label])))  # accents apart keep their old place
    index = {label: i for i, label in enumerate(order)}
    if class_names is None:
        names = tuple(str(label) for label in order)
    elif not numeric:
        unknown = sorted({str(label) for label in present} - {canonical(written(name)) for name in class_names})
        if unknown:
            raise DataError(f"class_names must name every label; {unknown[0]!r} is not among them ({where}).")
        names = tuple(str(label) for label in order)
    else:
        for label in order:
            if not 0 <= int(label) < len(class_names):
                raise DataError(
                    f"class_names must name every label; got {len(class_names)} names, and label {label} ({where})."
                )
        given = unambiguous([canonical(written(name)) for name in class_names])
        names = tuple(given[int(label)] for label in order)
    numbers = {form: index[label] for label, forms in spelled.items() for form in forms}
    return names, [numbers[label] for label in labels]


def spelling_remarks(labels: Sequence[Label]) -> list[str]:
    """Say which classes stand under one name in two forms, which look the same to everybody."""
    twice = [str(label) for label, forms in _spellings(labels).items() if len(forms) > 1]
    if not twice:
        return []
    what = f"Class {first_few(twice)} stands" if len(twice) == 1 else f"Classes {first_few(twice)} stand"
    return [f"{what} under names in two forms, accents joined to their letters and apart, which are taken as one."]


def _spellings(labels: Sequence[Label]) -> dict[Label, set[Label]]:
    """Return each label in the form that all are matched by, with the forms that occur."""
    found: dict[Label, set[Label]] = {}
    for label in set(labels):
        found.setdefault(canonical(written(label)) if isinstance(label, str) else label, set()).add(label)
    return found


def unambiguous(names: Sequence[str]) -> list[str]:
    """Append the number of its label to each name that occurs more than once."""
    return [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def first_few(names: Iterable[object], n: int = 3) -> str:
    """``'a', 'b', 'c' and 4 more``, for messages."""
    found = [str(name) for name in names]
    more = f" and {len(found) - n} more" if len(found) > n else ""
    return ", ".join(map(quoted, found[:n])) + more
