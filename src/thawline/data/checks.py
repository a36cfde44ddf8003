"""Refuse data that nothing can be learned from, and say what a user must know before believing a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from thawline.data.listing import SET_NAMES, first_few
from thawline.data.split import leaking_rows
from thawline.errors import DataError
from thawline.inputs import kind_of
from thawline.records import Dataset, Skipped

FEW = 10
"""With fewer samples of a class, the user is warned that its scores are uncertain."""


def refuse_untrainable(dataset: Dataset, where: str) -> None:
    """Refuse data that no classifier could be trained on, or tested.

    Raises:
        DataError: There is one class, a class with one sample, or a given split without training samples of a class.
    """
    if len(dataset.classes) < 2:
        found = f"only {dataset.classes[0]!r}" if dataset.classes else "none"
        raise DataError(f"{where}: expected two classes or more; found {found}. Add samples of a second class.")
    given = None if dataset.given is None or set(dataset.given) == {"train"} else dataset.given
    if given is not None and "train" not in given:
        raise DataError(f"{where}: the given split has no training set. Name one folder, table or cell value train.")
    counts = np.bincount(dataset.labels[given == "train"] if given is not None else dataset.labels)
    counts = np.pad(counts, (0, len(dataset.classes) - len(counts)))
    if given is not None and counts.min() == 0:
        missing = [dataset.classes[i] for i in np.flatnonzero(counts == 0)]
        raise DataError(f"{where}: the given split has no training sample of class {first_few(missing)}.")
    if given is None and counts.min() < 2:
        single = [dataset.classes[i] for i in np.flatnonzero(counts == 1)]
        raise DataError(
            f"{where}: class {first_few(single)} has one sample, which cannot be both trained on and tested. "
            f"Add samples, or remove the class."
        )


def skipped_remark(skipped: Sequence[Skipped], found: str) -> list[str]:
    """Say how many of the files ``found`` were left out, and why the first was; nothing if none was."""
    if not skipped:
        return []
    return [f"{len(skipped)} of {found} cannot be used and are left out; first {skipped[0].file}: {skipped[0].reason}."]


def opened_remark(opened: int, listed: int) -> str:
    """Say that not all samples were opened."""
    return (
        f"{opened:,} of {listed:,} samples were opened, drawn from all classes in proportion, because time was short. "
        "Copies were sought among these."
    )


def remarks(dataset: Dataset) -> list[str]:
    """Say what the user should know: flat samples, copies, contradictory labels, leaks of a split, rare classes."""
    n, said = len(dataset), kind_of(dataset.kind).remarks(dataset.sketches, dataset.files)
    copies = Counter(dataset.digests)
    more = sum(count - 1 for count in copies.values())
    if more:
        said.append(f"{more} of {n} samples repeat the content of another. Copies stay on one side of the split.")
    said += _contradictions(dataset, copies)
    if dataset.given is not None:
        for part, (rows, other) in leaking_rows(dataset).items():
            if len(rows):
                said.append(
                    f"{len(rows)} samples of the {SET_NAMES[part]} are in the {other} too (same content or group) and "
                    f"are left out; first {dataset.files[rows[0]]}."
                )
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    small = np.flatnonzero(counts < FEW)
    if len(small):
        rarest = int(np.argmin(counts))
        said.append(
            f"{len(small)} of {len(counts)} classes have fewer than {FEW} samples ({dataset.classes[rarest]!r} has "
            f"{counts[rarest]}): their scores, and the choice of settings, will be uncertain."
        )
    return said


def _contradictions(dataset: Dataset, copies: Mapping[str, int]) -> list[str]:
    first: dict[str, int] = {}
    clashes: dict[str, tuple[int, int]] = {}
    for row, digest in enumerate(dataset.digests):
        if copies[digest] > 1 and dataset.labels[first.setdefault(digest, row)] != dataset.labels[row]:
            clashes.setdefault(digest, (first[digest], row))
    if not clashes:
        return []
    a, b = next(iter(clashes.values()))
    return [
        f"{len(clashes)} pictures stand under two classes with identical content, for one {dataset.files[a]} "
        f"({dataset.classes[dataset.labels[a]]}) and {dataset.files[b]} ({dataset.classes[dataset.labels[b]]})."
    ]
