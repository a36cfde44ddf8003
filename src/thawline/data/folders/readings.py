"""Refuse folders that can be read in two ways, with both readings side by side and how to choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from thawline.data.folders.tree import Folder
from thawline.data.folders.words import is_beside, is_unlabelled, matched, part_of, rest_of, says_images
from thawline.data.listing import first_few
from thawline.errors import DataError


class NoClassesError(DataError):
    """There are no class folders with pictures: the labels may be in a table."""


NEARLY = 0.5
"""Share of names in common from which on the folders in class folders are worth a remark."""
MOSTLY = 0.8
"""The same from which on they are refused, unless the names are numbered, as those of patients are."""


def refuse_same_names(candidates: Sequence[Folder], inner: Sequence[Folder]) -> list[str]:
    """Refuse class folders that all hold folders of the same names; remark that the names are nearly the same.

    Args:
        candidates: Folders that would be classes.
        inner: Of each the folder that holds its folders: itself, or one below it.
    """
    filled = [(c, i) for c, i in zip(candidates, inner, strict=True) if c.entries]
    if len(filled) < 2 or any(not i.folders or i.samples for _, i in filled):
        return []
    names = [{matched(folder.base) for folder in i.folders} for _, i in filled]
    common, every = set.intersection(*names), set.union(*names)
    if len(common) < 2 or all(says_images(name) or is_beside(name) for name in every):
        return []
    outer = sorted(c.base for c, _ in filled)
    first, within = filled[0]
    level = first.name.count("/") + 1
    below = within.folders[0].name.count("/") + 1
    train = next((folder for folder in within.folders if part_of(folder.base) == "train"), None)
    if train is not None and train.folders and len(common) == len(every):  # a split in each of several domains
        common, below = {folder.base for folder in train.folders}, below + 1
        every = common
    numbered = all(any(character.isdigit() for character in name) for name in common)
    mostly = len(common) >= MOSTLY * len(every) and len(common) > 2 and not numbered
    if mostly or len(common) == len(every):
        which = "that each of them holds" if len(common) == len(every) else "that most of them hold"
        raise DataError(
            f"{_place(first)}: the classes may be the folders {first_few(outer)}, or the folders "
            f"{first_few(sorted(common))} {which}. Give --class-level {level} (class_level={level}) "
            f"for the former, --class-level {below} for the latter, or one folder alone, such as {within.path}."
        )
    if len(common) < NEARLY * len(every) or numbered:
        return []
    return [
        f"The folders {first_few(outer)}, read as classes, hold folders of nearly the same names: "
        f"{first_few(sorted(common))}. If these are the classes, give --class-level {below} (class_level={below})."
    ]


def refuse_loose_parts(base: Folder, candidates: Sequence[Folder]) -> None:
    """Refuse a training and a test set without class folders in them, which would be read as two classes."""
    parts = [folder for folder in candidates if part_of(folder.base) is not None]
    rest = {rest_of(folder.base) for folder in parts}
    kinds = {part_of(folder.base) for folder in parts}
    if len(kinds) < 2 or len(rest) > 1 or "train" not in kinds:
        return
    if any(not is_unlabelled(folder.base) for folder in candidates if folder not in parts):
        return
    if not all(folder.samples for folder in parts):
        return
    level = parts[0].name.count("/") + 1
    raise NoClassesError(
        f"{base.path}: the folders {first_few(folder.base for folder in parts)} are by name the parts of a split, "
        f"and hold loose {base.sought.noun}s, no class folders. Put each class into a folder of its own in them, "
        "give a table with the columns "
        f"{'text' if base.sought.input_kind == 'text' else 'filename'},label, or, if they are the classes, give "
        f"--class-level {level} (class_level={level})."
    )


def refuse_train_alone(base: Folder, train: Folder, classes: Sequence[str], others: Sequence[Folder]) -> NoReturn:
    """Refuse a folder called ``train`` beside folders that are no parts of a split."""
    level = train.name.count("/") + 1
    raise DataError(
        f"{base.path}: {train.base!r} may be a training set with the classes {first_few(classes)}, or a class beside "
        f"{first_few(sorted(folder.base for folder in others))}. Give {train.path} for the former, or --class-level "
        f"{level} (class_level={level}) for the latter."
    )


def _place(folder: Folder) -> str:
    return folder.path.removesuffix(folder.name).rstrip("/") or "/"
