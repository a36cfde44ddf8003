"""Refuse data that nothing can be learned from, and say what a user must know before believing a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from thawline.data.copies import copy_remarks, why_one_group
from thawline.data.listing import SET_NAMES, first_few, unambiguous
from thawline.data.passed_over import MOST, are_alike, sentences
from thawline.data.split import leaking_rows
from thawline.errors import DataError, nearest
from thawline.inputs import kind_of
from thawline.naming import canonical, quoted, written
from thawline.records import PARTS, Dataset, Part, Skipped
from thawline.showing import counted

FEW = 10
"""With fewer samples of a class, the user is warned that its scores are uncertain."""

GO_ON = "or go on without the class: --drop-empty-classes (drop_empty_classes=True)"
"""The last of the next steps where a class has no picture."""


def refuse_untrainable(dataset: Dataset, where: str, declared: Sequence[object] | None = None) -> None:
    """Refuse data that no classifier could be trained on, or tested.

    Args:
        declared: (N,) groups as the user named them.
    Raises:
        DataError: There is one class, a class with one sample, or a given split without training samples of a class;
            or all samples of each class are one group, so that no sample can be set aside for a test.
    """
    if dataset.targets is not None:
        _refuse_unsplittable(dataset, where, declared)
        return
    if len(dataset.classes) < 2:
        found = f"only {quoted(dataset.classes[0])}" if dataset.classes else "none"
        raise DataError(f"{where}: expected two classes or more; found {found}. Add samples of a second class.")
    given = None if dataset.given is None or set(dataset.given) == {"train"} else dataset.given
    if given is not None and "train" not in given:
        raise DataError(f"{where}: the given split has no training set. Name one folder, table or cell value train.")
    counts = np.bincount(dataset.labels[given == "train"] if given is not None else dataset.labels)
    counts = np.pad(counts, (0, len(dataset.classes) - len(counts)))
    if given is not None and counts.min() == 0:
        raise DataError(f"{where}: {_untrained(dataset, given, counts)}")
    if given is None and counts.min() < 2:
        single = [dataset.classes[i] for i in np.flatnonzero(counts == 1)]
        raise DataError(
            f"{where}: class {first_few(single)} has one sample, which cannot be both trained on and tested. "
            f"Add samples, or remove the class."
        )
    if given is None:
        _refuse_one_group(dataset, where, declared)


def _refuse_unsplittable(dataset: Dataset, where: str, declared: Sequence[object] | None) -> None:
    """Refuse samples of labels or numbers of which none could be learned from, or none set aside for a test."""
    given = None if dataset.given is None or set(dataset.given) == {"train"} else dataset.given
    if given is not None and "train" not in given:
        raise DataError(f"{where}: the given split has no training set. Name one folder, table or cell value train.")
    if given is None and len(np.unique(dataset.groups)) < 2:
        rows = np.arange(len(dataset))
        raise DataError(f"{where}: all {len(rows)} samples {why_one_group(dataset, declared, rows)}")


def _refuse_one_group(dataset: Dataset, where: str, declared: Sequence[object] | None) -> None:
    """Refuse data of which nothing can be tested, because no class has samples of two groups."""
    of_class = [np.flatnonzero(dataset.labels == label) for label in range(len(dataset.classes))]
    if any(len(np.unique(dataset.groups[rows])) > 1 for rows in of_class):
        return
    together = len(np.unique(dataset.groups)) == 1
    rows = np.arange(len(dataset)) if together else of_class[0]
    whose = f"all {len(rows)} samples" + ("" if together else f" of class {quoted(dataset.classes[0])}")
    no_test = "" if together else "No class has samples of two groups, so that one could be tested: "
    raise DataError(f"{where}: {no_test}{whose} {why_one_group(dataset, declared, rows)}")


def skipped_remark(skipped: Sequence[Skipped], found: str) -> list[str]:
    """Say how many of the files ``found`` were left out, and why; nothing if none was."""
    if not skipped:
        return []
    many = f"{len(skipped)} of {found} cannot be used and are left out"
    if are_alike(skipped) or 1 < len(skipped) <= MOST:
        return [f"{many}. {' '.join(sentences(skipped))}"]
    return [f"{many}; first {skipped[0].file}: {skipped[0].reason}."]


def _untrained(dataset: Dataset, given: NDArray[np.str_], counts: NDArray[np.int64]) -> str:
    """Say of which classes a given split has no training sample, where they are, and what is the likely cause.

    Args:
        given: (N,) train, val or test.
        counts: (C,) training samples.
    """
    missing = [int(i) for i in np.flatnonzero(counts == 0)]
    trained = [name for name, count in zip(dataset.classes, counts, strict=True) if count]
    name = dataset.classes[missing[0]]
    rows = np.flatnonzero(dataset.labels == missing[0])
    sets = " and the ".join(SET_NAMES[part] for part in PARTS if part in given[rows])
    alike = [known for known in trained if known.casefold() == name.casefold()]
    hint = f" Did you mean {quoted(alike[0])}?" if alike else nearest(name, trained, n=1)
    what = "folder" if dataset.root is not None and f"{name}/" in f"/{dataset.files[rows[0]]}" else "class"
    step = (
        f"Rename the {what}, so that it is written the same in each set, or leave it out."
        if hint
        else f"Add samples of it to the training set, or remove the {what}."
    )
    more = f" The same holds for {first_few(dataset.classes[i] for i in missing[1:])}." if missing[1:] else ""
    return (
        f"the given split has no training sample of class {quoted(name)}: its {len(rows):,} samples are in the {sets} "
        f"alone, first {dataset.files[rows[0]]}.{hint} {step}{more}"
    )


def unreadable_of(
    files: Sequence[str], failures: Mapping[int, str], labels: NDArray[np.int64]
) -> dict[int, list[Skipped]]:
    """Return, for each label, the files of ``failures`` (row -> reason); labels are (N,)."""
    found: dict[int, list[Skipped]] = {}
    for row, reason in sorted(failures.items()):
        found.setdefault(int(labels[row]), []).append(Skipped(files[row], reason))
    return found


def lost_classes(
    classes: Sequence[str],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    unreadable: Mapping[int, Sequence[Skipped]],
) -> list[str]:
    """Say, for each class without a sample among ``rows``, why: what is the matter with its files."""
    present = set(labels[rows].tolist())
    return [
        f"no file of class {quoted(name)} can be read. {' '.join(sentences(unreadable.get(i, [])))}"
        for i, name in enumerate(classes)
        if i not in present
    ]


def left_out(why: Sequence[str], noun: str) -> list[str]:
    """Say that classes are left out, the first few with the reason."""
    more = [f"Left out: {len(why) - MOST} more classes without a {noun}."] if len(why) > MOST else []
    return [f"Left out: {one}" for one in why[:MOST]] + more


def absent_remark(class_names: Sequence[str] | None, classes: Sequence[str]) -> list[str]:
    """Say which of the names that came with the data no sample has."""
    named = unambiguous([canonical(written(name)) for name in class_names or ()])
    absent = [name for name in named if name not in classes]
    if not absent:
        return []
    have = "has" if len(absent) == 1 else "have"
    return [
        f"{len(absent)} of {len(named)} class names {have} no sample and stand for no class here: {first_few(absent)}."
    ]


def opened_remark(opened: int, listed: int) -> str:
    """Say that not all samples were opened."""
    return (
        f"{opened:,} of {listed:,} samples were opened, drawn from all classes in proportion, because time was short. "
        "Copies were sought among these."
    )


def remarks(dataset: Dataset) -> list[str]:
    """Say what the user should know: flat samples, copies, contradictory labels, leaks of a split, rare classes."""
    said = kind_of(dataset.kind).remarks(dataset.sketches, dataset.files)
    said += copy_remarks(dataset)
    said += _contradictions(dataset)
    said += _of_one_group(dataset) if dataset.targets is None else []
    if dataset.given is not None:
        for part, (rows, other) in leaking_rows(dataset).items():
            if len(rows):
                said.append(
                    f"{len(rows)} samples of the {SET_NAMES[part]} are in the {other} too (same content or group) and "
                    f"are left out; first {dataset.files[rows[0]]}."
                )
    if dataset.targets is not None:  # strata are no classes of anybody's
        return said
    said += _untested(dataset)
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    small = np.flatnonzero(counts < FEW)
    if len(small):
        rarest = int(np.argmin(counts))
        said.append(
            f"{len(small)} of {len(counts)} classes have fewer than {FEW} samples ({quoted(dataset.classes[rarest])} "
            f"has {counts[rarest]}): their scores, and the choice of settings, will be uncertain."
        )
    return said


def _of_one_group(dataset: Dataset) -> list[str]:
    """Say which classes the test set that came with the data lacks, or the validation set that stands in for it."""
    parts = set() if dataset.given is None else set(dataset.given)
    part: Part | None = "test" if "test" in parts else "val" if "val" in parts else None
    if part is None or "train" not in parts:
        return []
    tested = set(dataset.labels[dataset.given == part].tolist())
    absent = [name for label, name in enumerate(dataset.classes) if label not in tested]
    if not absent:
        return []
    return [f"The {SET_NAMES[part]} has no sample of class {first_few(absent)}: no score says anything about it."]


def _untested(dataset: Dataset) -> list[str]:
    """Name the classes of one group: drawing a split leaves none of their samples for the test."""
    if dataset.given is not None and len(set(dataset.given)) > 1:
        return []
    pairs = np.unique(np.stack([dataset.labels, dataset.groups], axis=1), axis=0)
    alone = np.flatnonzero(np.bincount(pairs[:, 0], minlength=len(dataset.classes)) == 1)
    alone = alone[np.bincount(dataset.labels, minlength=len(dataset.classes))[alone] > 1]
    if not len(alone):
        return []
    names = first_few(dataset.classes[label] for label in alone)
    return [f"All samples of class {names} are in one group each: they are learned from, and cannot be tested."]


def _contradictions(dataset: Dataset) -> list[str]:
    first: dict[object, int] = {}
    clashes: dict[object, tuple[int, int]] = {}
    truth, copies = dataset.truth, dataset.copies
    contents: Sequence[object] = dataset.digests
    same = "identical content"
    if dataset.kind == "text" and copies is not None and copies.sought == "near":
        contents, same = copies.family.tolist(), "identical content up to case, blanks and punctuation"
    for row, content in enumerate(contents):
        before = first.setdefault(content, row)
        if before != row and np.any(truth[before] != truth[row]):
            clashes.setdefault(content, (before, row))
    if not clashes:
        return []
    a, b = next(iter(clashes.values()))
    if dataset.targets is not None:
        what = "labels" if dataset.target == "labels" else "numbers"
        return [
            f"{len(clashes)} samples have {same} and other {what}, for one {dataset.files[a]} and {dataset.files[b]}."
        ]
    pair = (f"{dataset.files[row]} ({dataset.classes[dataset.labels[row]]})" for row in (a, b))
    what = counted(len(clashes), kind_of(dataset.kind).NOUN)
    stand = "stands" if len(clashes) == 1 else "stand"
    return [f"{what} {stand} under two classes with {same}, for one {' and '.join(pair)}."]
