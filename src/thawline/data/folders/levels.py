"""Find out at which level of a folder the classes stand, and which folders are the parts of a split.

    photos/CLASS/...                     photos/train/CLASS/...          photos/CLASS/train/...
    photos/flowers/CLASS/...             photos/seg_train/seg_train/CLASS/...

A part of a split is known by a word of its name, but only if its contents agree: a class may be called ``train`` too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from thawline.data.folders.readings import refuse_loose_parts, refuse_same_names, refuse_train_alone
from thawline.data.folders.sought import TEXTS
from thawline.data.folders.tree import File, Folder
from thawline.data.folders.words import (
    exact_part,
    is_beside,
    is_generic,
    is_unlabelled,
    matched,
    part_of,
    rest_of,
    says_images,
    says_unlabelled,
)
from thawline.data.listing import first_few
from thawline.naming import written
from thawline.records import PARTS, Part


class ClassFolder(NamedTuple):
    """A folder of one class; several may have the same label."""

    label: str
    """The name of the class, as it is on the disk."""
    part: Part | None
    folder: Folder

    @property
    def key(self) -> str:
        """The name by which classes are matched."""
        return matched(self.label)


@dataclass
class Layout:
    """Where the classes stand."""

    base: Folder
    """The folder that holds the class folders, or the folders of the parts of a split."""
    classes: list[ClassFolder] = field(default_factory=list)
    is_split: bool = False
    beside: set[str] = field(default_factory=set)
    """Names of folders below the classes that are left out: masks, annotations."""
    notes: list[str] = field(default_factory=list)


def find_layout(root: Folder, class_level: int | None = None, *, drop_empty: bool = False) -> Layout:
    """Find the class folders below the data folder.

    Args:
        root: The data folder.
        class_level: How many folders below the data folder the class folders stand; None finds out.
        drop_empty: Empty folders beside the folder that holds the classes are left out, with a note.
    Raises:
        DataError: Two readings are equally good; the text names both, and how to choose.
        OSError: A folder cannot be listed.
    """
    if class_level is not None:
        return _at_level(root, class_level)
    layout = Layout(root)
    layout.base = base = _unwrapped(root, layout.notes, drop_empty=drop_empty)
    if parts := _parts(base, layout.notes):
        layout.is_split = True
        _read_parts(layout, parts)
    elif inside := _split_inside(base, layout.notes):
        layout.is_split = True
        layout.classes = inside
    else:
        candidates = _candidates(base)
        refuse_loose_parts(base, candidates)
        layout.notes += refuse_same_names(candidates, _inner(candidates))
        layout.classes = [ClassFolder(folder.base, None, folder) for folder in candidates]
    if root.sought is TEXTS:
        _leave_out_unlabelled(layout)
    _set_masks_aside(layout)
    return layout


def _at_level(root: Folder, level: int) -> Layout:
    """Take the folders of one level as the classes; above them, the parts of a split are known by their very names."""
    layout = Layout(root)

    def descend(folder: Folder, left: int, part: Part | None) -> None:
        loose = len(folder.loose)
        if loose:
            layout.notes.append(
                f"{loose} {folder.sought.noun}s in {folder.name or folder.path} are in no class folder and are left "
                "out."
            )
        parts = dict[str, Part]() if left == 1 or part else _named_parts(folder)
        for inner in _candidates(folder):
            if left > 1 and inner.barrier:
                layout.notes.append(f"{written(inner.name)} is {inner.barrier}, and left out.")
            elif left == 1:
                layout.classes.append(ClassFolder(inner.base, part, inner))
            else:
                descend(inner, left - 1, parts.get(inner.base, part))

    descend(root, level, None)
    layout.is_split = all(found.part is not None for found in layout.classes) and bool(layout.classes)
    return layout


def _named_parts(folder: Folder) -> dict[str, Part]:
    """Return the parts of a split that all folders in a folder are by their names, if a training set is among them."""
    parts = {inner.base: part_of(inner.base) for inner in _candidates(folder)}
    found = {name: part for name, part in parts.items() if part is not None}
    return found if len(found) == len(parts) and "train" in found.values() else {}


def _candidates(folder: Folder) -> list[Folder]:
    """Return the folders that may be classes: all but those that by name and content are notes, or hold runs."""
    return [inner for inner in folder.folders if not is_quiet(inner)]


def _holds_notes(folder: Folder) -> bool:
    """Tell a folder with notes about pictures, and nothing else."""
    files = _files(folder)
    first = next(files, None)
    is_note = folder.sought.is_companion
    return first is not None and is_note(first.base) and all(is_note(file.base) for file in files)


def _files(folder: Folder) -> Iterator[File]:
    for entry in folder.entries:
        if isinstance(entry, File):
            yield entry
        elif not entry.is_link:
            yield from _files(entry)


def _unwrapped(
    folder: Folder, notes: list[str], classes: frozenset[str] = frozenset(), *, drop_empty: bool = False
) -> Folder:
    """Descend through folders that hold nothing but one folder of folders.

    Args:
        classes: Names at which to stop.
    """
    while not folder.samples:
        inside = [inner for inner in folder.folders if not _holds_notes(inner) and not is_quiet(inner)]
        inside = [inner for inner in inside if inner.entries or inner.barrier] if drop_empty else inside
        pictures = [inner for inner in inside if says_images(inner.base)]
        if len(pictures) == 1 and all(is_beside(inner.base) for inner in inside if inner is not pictures[0]):
            inside = pictures
        if len(inside) != 1 or not _is_wrapper(inside[0]) or matched(inside[0].base) in classes:
            return folder
        left = [inner.base for inner in folder.folders if inner is not inside[0] and not is_quiet(inner)]
        if left:
            notes.append(f"Folders beside {inside[0].base!r} are left out: {first_few(left)}.")
        folder = inside[0]
    return folder


def is_quiet(folder: Folder) -> bool:
    """Tell a folder that nobody misses: notes, under the name of notes; run folders of Thawline."""
    return (is_beside(folder.base) and _holds_notes(folder)) or any(map(_is_run, (folder, *folder.folders)))


def _is_run(folder: Folder) -> bool:
    return {"bundle.json", "model.safetensors"} <= {file.base for file in folder.files}


def _is_wrapper(folder: Folder) -> bool:
    return folder.barrier is None and bool(folder.folders) and not folder.samples


def _inner(candidates: Sequence[Folder]) -> list[Folder]:
    """Return each class folder, or the one folder in it that holds all its folders."""
    return [_unwrapped(folder, []) for folder in candidates]


def _names(part: Folder) -> set[str]:
    """Return the names of the classes in a part of a split."""
    return {matched(folder.base) for folder in _candidates(_unwrapped(part, []))}


def _is_set(folder: Folder) -> bool:
    """Tell a folder that holds folders of pictures, and no loose ones."""
    return folder.barrier is None and _is_wrapper(_unwrapped(folder, []))


def _parts(base: Folder, notes: list[str]) -> list[tuple[Part, Folder]]:
    """Return the training, validation and test folders, or none."""
    siblings = [folder for folder in base.folders if folder.barrier is None]
    exact = [(part, folder) for folder in siblings if (part := exact_part(folder.base))]
    if any(part == "train" and _is_set(folder) for part, folder in exact):
        missing = {"val", "test"} - {part for part, _ in exact}
        more = [(p, f) for f in siblings if (p := part_of(f.base)) in missing and not exact_part(f.base) and _is_set(f)]
        parts = exact + [(part, folder) for part, folder in more if part is not None]
        if len({part for part, _ in parts}) == 1:
            _check_train_alone(base, [folder for _, folder in exact], siblings)
        if more:
            notes.append(_taken(parts))
    else:
        parts = _parts_by_word(siblings)
        if not parts:
            return []
        notes.append(_taken(parts))
    taken = {folder.base for _, folder in parts}
    others = [folder for folder in base.folders if folder.base not in taken and not is_quiet(folder)]
    if others:
        names = first_few(folder.base for folder in others)
        notes.append(f"Folders beside the train and test folders are left out: {names}.")
    notes += [f"{written(folder.name)} is {folder.barrier}." for folder in others if folder.barrier]
    return parts


def _check_train_alone(base: Folder, train: list[Folder], siblings: list[Folder]) -> None:
    """Refuse a training set beside folders that may be classes as well as it may be one."""
    known = set().union(*(_names(folder) for folder in train))
    others = [
        folder
        for folder in siblings
        if folder not in train and not is_unlabelled(folder.base) and not _holds_notes(folder) and folder.entries
    ]
    if any(not _names(folder) & known for folder in others):
        refuse_train_alone(base, train[0], sorted(known), others)


def _parts_by_word(siblings: list[Folder]) -> list[tuple[Part, Folder]]:
    """Find parts of a split whose names say so by one word, if the other words or the classes in them agree."""
    named = [(part, folder) for folder in siblings if (part := part_of(folder.base))]
    train = [folder for part, folder in named if part == "train"]
    others = [(part, folder) for part, folder in named if part != "train"]
    if not train or not all(_is_set(folder) for folder in train):
        return []
    known = set().union(*(_names(folder) for folder in train))
    rest = rest_of(train[0].base)
    alike = all(rest_of(folder.base) == rest for _, folder in named)
    sharing = all(_is_set(folder) and _names(folder) & known for _, folder in others)
    strange = [
        folder
        for folder in siblings
        if not (part_of(folder.base) or is_unlabelled(folder.base) or is_beside(folder.base) or _holds_notes(folder))
    ]
    if any(not (_names(train[0]) & _names(folder)) for folder in train) or (strange and not others):
        return []
    if alike and (sharing or all(_is_set(folder) or _unwrapped(folder, []).samples for _, folder in others)):
        return named
    return named if others and sharing and not strange else []


def _taken(parts: Sequence[tuple[Part, Folder]]) -> str:
    words = {"train": "training", "val": "validation", "test": "test"}
    ordered = sorted(parts, key=lambda pair: PARTS.index(pair[0]))
    said = ", ".join(f"{folder.base!r} as the {words[part]} set" for part, folder in ordered)
    return f"The folders are read as a split: {said}."


def _read_parts(layout: Layout, parts: Sequence[tuple[Part, Folder]]) -> None:
    """Add the class folders of each part; leave out loose pictures and folders of pictures without labels."""
    inner = {folder: _unwrapped(folder, layout.notes) for part, folder in parts if part == "train"}
    trained = frozenset(matched(found.base) for base in inner.values() for found in _candidates(base))
    for part, folder in parts:
        base = inner.get(folder) or _unwrapped(folder, layout.notes, trained)
        candidates = _candidates(base)
        if part == "train":
            layout.notes += refuse_same_names(candidates, _inner(candidates))
        for found in candidates:
            label = matched(found.base)
            alone = len(candidates) == 1 and (is_generic(label) or rest_of(label) == rest_of(folder.base) != ())
            if part != "train" and label not in trained and (is_unlabelled(label) or alone):
                layout.notes.append(
                    f"{found.name} has no folder of that name in the training set and is left out, as "
                    f"{found.sought.noun}s without labels; thawline predict labels them."
                )
            else:
                layout.classes.append(ClassFolder(found.base, part, found))
        loose = len(base.loose)
        if not candidates and not loose:
            layout.notes.append(f"{base.name} holds no class folders.")
        if loose:
            layout.notes.append(f"{loose} {base.sought.noun}s in {base.name} are in no class folder and are left out.")


def _split_inside(base: Folder, notes: list[str]) -> list[ClassFolder]:
    """Return the parts of class folders that hold a training set and others each; none if they do not."""
    candidates = _candidates(base)
    found: list[ClassFolder] = []
    for outer in candidates:
        parts = [ClassFolder(outer.base, part_of(inner.base), inner) for inner in _candidates(outer)]
        parts = [inner for inner in parts if inner.part or not is_unlabelled(inner.folder.base)]
        if outer.samples or None in {inner.part for inner in parts} or "train" not in {inner.part for inner in parts}:
            return []
        found += parts
    below = [_names(inner.folder) for inner in found if inner.part == "train"]
    if len(candidates) < 2 or len({inner.part for inner in found}) < 2:
        return []
    if len(below[0]) > 1 and all(names == below[0] for names in below):  # the classes stand below
        return []
    notes.append("Each class folder holds a training set and others; these make the split.")
    left = [inner.name for outer in candidates for inner in outer.folders if is_unlabelled(inner.base)]
    if left:
        notes.append(f"Folders of {base.sought.noun}s without labels are left out: {first_few(left)}.")
    return found


def _leave_out_unlabelled(layout: Layout) -> None:
    """Leave out class folders whose very name says that they hold texts without labels, as those of reviews do."""
    left = [place for place in layout.classes if says_unlabelled(place.label)]
    if left:
        layout.classes = [place for place in layout.classes if place not in left]
        layout.notes.append(
            f"Folders of texts without labels are left out: {first_few(written(place.folder.name) for place in left)}."
        )


def _set_masks_aside(layout: Layout) -> None:
    """Leave out the folders of masks or notes that stand in a class folder beside its folder of pictures."""
    for _, _, folder in layout.classes:
        if folder.samples or not any(says_images(inner.base) for inner in folder.folders):
            continue
        masks = {inner.name for inner in folder.folders if is_beside(inner.base) and not _holds_notes(inner)}
        layout.beside |= masks
    if layout.beside:
        layout.notes.append(
            f"{len(layout.beside)} folders beside folders of pictures are left out: {first_few(sorted(layout.beside))}."
        )
