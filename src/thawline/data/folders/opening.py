"""List the samples of a folder with one folder for each class, below train, val and test folders or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from thawline.data.checks import GO_ON, left_out
from thawline.data.folders.collecting import Collected, collect
from thawline.data.folders.levels import ClassFolder, Layout, find_layout
from thawline.data.folders.readings import NoClassesError
from thawline.data.folders.sought import PICTURES, TEXTS
from thawline.data.folders.telling import told
from thawline.data.folders.tree import Folder, open_tree
from thawline.data.labels import variants
from thawline.data.listing import Listing
from thawline.data.passed_over import ending, sentences
from thawline.data.sources import FileSource
from thawline.errors import DataError, UsageError
from thawline.inputs.image.formats import suffix_of
from thawline.inputs.text.formats import SUFFIXES
from thawline.naming import canonical, quoted, written
from thawline.records import Part, Skipped
from thawline.showing import counted

_Found = list[tuple[ClassFolder, Collected]]


class FolderReading(NamedTuple):
    """How a folder of class folders is read."""

    follow_links: bool = False
    """Follow links that lead outside the folder, or to folders; else they are listed as skipped."""
    class_level: int | None = None
    """How many folders below this one the class folders stand; None finds out."""
    drop_empty_classes: bool = False
    """Leave out a class without a usable picture, with a remark."""
    trainable: bool = True
    """False: such a class is left out as well."""


AS_USUAL = FolderReading()


def refuse_folder_options(reading: FolderReading, kind: str) -> None:
    """Refuse the options of a folder where the data are none.

    Raises:
        UsageError: One of them was given.
    """
    if reading.follow_links:
        raise UsageError(f"follow_links (--follow-links) goes with a folder or a table, not with {kind}.")
    if reading.class_level is not None:
        raise UsageError(f"class_level (--class-level) goes with a folder of class folders, not with {kind}.")


def open_folder(folder: Path, groups: Mapping[str, object] | None = None, reading: FolderReading = AS_USUAL) -> Listing:
    """List the pictures or texts of a folder; the name of a class folder is the class of everything below it.

    Folders around the class folders are passed through, and the parts of a split are known by their names. Hidden
    files and notes beside the samples are passed over; every other file that is not used is listed as skipped. A file
    whose name promises no sample is told by its first bytes.

    Args:
        groups: File (path below the folder) -> group.
        reading: What is read, and what is refused.
    Raises:
        NoClassesError: The folder is empty, or its samples are in no class folder.
        DataError: A class has no usable sample, or it is not clear which folders are the classes.
    """
    tree = told(open_tree(folder, follow_links=reading.follow_links))
    noun = tree.sought.noun
    layout = find_layout(tree, reading.class_level, drop_empty=reading.drop_empty_classes)
    found = [(place, collect(place.folder, layout.beside)) for place in layout.classes]
    if not any(collected.files for _, collected in found):
        _refuse(folder, layout, found, reading.class_level)
    lost = _lost(found, noun, only_trained=layout.is_split and reading.trainable)
    if lost and reading.trainable and not reading.drop_empty_classes:
        name, why = next(iter(lost.items()))
        place = next(written(place.folder.name) for place, own in found if place.key == name and not own.files)
        why += _texts_instead(found, tree)
        more = f" The same holds for {len(lost) - 1} more." if len(lost) > 1 else ""
        raise DataError(f"{folder}: {why} Put that right, remove the folder {place}, {GO_ON}.{more}")
    kept = [(place, collected) for place, collected in found if place.key not in lost]
    files = [(file, place) for place, collected in kept for file in collected.files]
    names = tuple(file.name for file, _ in files)
    parts: tuple[Part, ...] = tuple(place.part or "train" for _, place in files)
    return Listing(
        name=folder.resolve().name,
        files=names,
        source=FileSource(tuple(file.path for file, _ in files)),
        labels=tuple(place.label for _, place in files),
        given=parts if layout.is_split else None,
        groups=None if groups is None else _grouped(groups, names),
        skipped=tuple(skipped for _, collected in found for skipped in collected.skipped),
        warnings=(
            *layout.notes, *_by_content(found, noun), *left_out(list(lost.values()), noun), *_empty(found, lost, noun),
            *_loose(layout), *variants(Counter(place.label for _, place in files)),
        ),
        root=folder,
        input_kind=tree.sought.input_kind,
    )  # fmt: skip


def _grouped(groups: Mapping[str, object], files: Sequence[str]) -> tuple[object, ...]:
    """Return the group of each file; a name may be written in either form, as the disk has it or as it is shown."""
    if not any(file not in groups for file in files):
        return tuple(groups[file] for file in files)
    by_form = {canonical(written(str(name))): group for name, group in groups.items()}
    return tuple(groups.get(file, by_form.get(canonical(written(file)))) for file in files)


def list_samples(folder: Path, *, follow_links: bool = False, input_kind: str = "image") -> Listing:
    """List every sample below a folder, without labels, and every file there that is not used."""
    sought = TEXTS if input_kind == "text" else PICTURES
    found = collect(open_tree(folder, follow_links=follow_links, sought=sought))
    return Listing(
        name=folder.resolve().name,
        files=tuple(file.name for file in found.files),
        source=FileSource(tuple(file.path for file in found.files)),
        skipped=tuple(found.skipped),
        root=folder,
        input_kind=input_kind,
    )


def _lost(found: _Found, noun: str, *, only_trained: bool) -> dict[str, str]:
    """Label -> why nothing is left of it, as a sentence; with ``only_trained``, nothing to train on."""
    lost: dict[str, str] = {}
    for label in dict.fromkeys(place.key for place, _ in found):
        own = [(place, collected) for place, collected in found if place.key == label]
        trained = [(place, collected) for place, collected in own if place.part == "train"]
        if only_trained and trained and not any(collected.files for _, collected in trained):
            lost[label] = f"class {quoted(label)} has no {noun} to train on. {_why_empty(trained)}"
        elif not any(collected.files for _, collected in own):
            lost[label] = f"class {quoted(label)} has no {noun}. {_why_empty(own)}"
    return lost


def _why_empty(own: Sequence[tuple[ClassFolder, Collected]]) -> str:
    skipped = [one for _, collected in own for one in collected.skipped]
    if skipped:
        return " ".join(sentences(skipped))
    name = written(own[0][0].folder.name)
    companions = sum((collected.companions for _, collected in own), Counter[str]())
    if not companions:
        return f"The folder {name} is empty."
    suffixes = ", ".join(sorted(suffix or "no suffix" for suffix in companions))
    files = counted(sum(companions.values()), "file")
    return f"The folder {name} holds no {own[0][0].folder.sought.noun}, only {files} of other kinds ({suffixes})."


def _texts_instead(found: _Found, tree: Folder) -> str:
    """Say how a folder of texts is read that is taken for one of pictures, because there are some."""
    texts = sum(collected.companions[suffix] for _, collected in found for suffix in SUFFIXES)
    pictures = sum(len(collected.files) for _, collected in found)
    if tree.sought is TEXTS or pictures >= texts:
        return ""
    return f" To read the {counted(texts, 'text')} of the folder instead, move its {counted(pictures, 'picture')} out."


def _empty(found: _Found, lost: Iterable[str], noun: str) -> list[str]:
    """Name the folders of a class that hold nothing, if others of the class hold something."""
    return [
        f"Class {quoted(place.label)} has no {noun} in a part of the data. {_why_empty([(place, collected)])}"
        for place, collected in found
        if not collected.files and place.key not in lost
    ]


def _by_content(found: _Found, noun: str) -> list[str]:
    """Say how many files were read although their names promise no sample."""
    groups = Counter((place.folder.name, suffix_of(file.base)) for place, c in found for file in c.by_content)
    return [
        f"{n:,} {'files' if n > 1 else 'file'} in {written(name)} {ending(suffix, n)} and "
        f"{'are' if n > 1 else 'is'} read as {f'{noun}s' if n > 1 else f'a {noun}'}: the content says so."
        for (name, suffix), n in groups.items()
    ]


def _loose(layout: Layout) -> list[str]:
    """Say that samples lie beside the folders of the classes or of the parts."""
    n, noun = len(layout.base.loose), layout.base.sought.noun
    first = layout.base.loose[0].name if n else ""
    if not n or any(place.folder is layout.base for place in layout.classes):
        return []
    return [f"{counted(n, noun)} in no class folder {'is' if n == 1 else 'are'} left out; first {written(first)}."]


def _refuse(folder: Path, layout: Layout, found: _Found, class_level: int | None) -> None:
    if class_level is not None and not found:
        raise DataError(
            f"{folder}: no folder stands {class_level} levels below it, where class_level (--class-level) says that "
            "the classes are. Give a lower level, or none: then it is found out."
        )
    noun = layout.base.sought.noun
    loose = len(layout.base.loose) or (0 if found else len(collect(layout.base).files))
    if loose:
        raise NoClassesError(
            f"{folder}: expected one folder for each class; found {loose} {noun}s in none. "
            "Put each class into a folder of its own, or give a table with the columns "
            f"{'text' if noun == 'text' else 'filename'},label."
        )
    skipped = [one for _, collected in found for one in collected.skipped]
    skipped = skipped if found else collect(layout.base).skipped
    if skipped:
        kind = DataError if found else NoClassesError  # without class folders, a table may hold the pictures
        raise kind(f"{folder}: none of its {_counted(skipped)} can be used. {' '.join(sentences(skipped))}")
    why = f" Class {quoted(found[0][0].label)} is one of them. {_why_empty(found[:1])}" if found else ""
    raise NoClassesError(f"{folder}: expected one folder of {noun}s for each class; found no {noun}s.{why}")


def _counted(skipped: Sequence[Skipped]) -> str:
    return f"{len(skipped):,} files" if len(skipped) > 1 else "files"
