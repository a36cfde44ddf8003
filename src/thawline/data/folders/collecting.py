"""Collect the samples below a folder, and account for every other file there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from thawline.data.folders.sought import PICTURES
from thawline.data.folders.tree import File, Folder, walk
from thawline.data.sources import read_file
from thawline.errors import UndecodableError
from thawline.inputs.image.formats import (
    HEAD_BYTES,
    RAW,
    format_of,
    is_text,
    reason_by_name,
    suffix_of,
)
from thawline.naming import written
from thawline.records import Skipped

_SIDECARS = frozenset((".mat", ".pts", ".npy", ".pkl"))
"""Notes about the picture of the same name, which are no text."""


_FIRST = 20
"""Notes that are looked into where a folder has no picture."""


@dataclass
class Collected:
    """What lies below one folder."""

    files: list[File] = field(default_factory=list)
    by_content: list[File] = field(default_factory=list)
    """Those of them whose names promise no sample."""
    skipped: list[Skipped] = field(default_factory=list)
    companions: Counter[str] = field(default_factory=Counter)
    """Suffixes of the files that nobody misses: notes, labels."""


def collect(folder: Folder, beside: Set[str] = frozenset()) -> Collected:
    """Collect the samples below a folder in order of name.

    Args:
        folder: Where to look, and for what.
        beside: Names, below the data folder, of folders to leave out.
    Raises:
        OSError: A folder cannot be listed.
    """
    found, sought = Collected(), folder.sought
    notes: list[File] = []
    for entry in walk(folder, beside):
        if not isinstance(entry, File):
            found.skipped.append(Skipped(written(entry[0].name), entry[1]))
        elif sought.promises(entry.base):
            barrier = folder.links.why_not(entry.path) if entry.is_link else None
            if barrier is None:
                found.files.append(entry)
            else:
                found.skipped.append(Skipped(written(entry.name), barrier))
        elif sought.is_companion(entry.base):
            found.companions[suffix_of(entry.base)] += 1
            notes.append(entry)
        else:
            _tell(found, entry)
    if sought is PICTURES and not found.files and any(map(is_picture, notes[:_FIRST])):
        _read_as_pictures(found, notes)
    if folder.links.follow:
        _leave_out_repeats(found)
    return found


def _tell(found: Collected, file: File) -> None:
    """Sort in a file whose name says nothing: a sample by its content, a note about one, or passed over."""
    reason = file.folder.links.why_not(file.path) if file.is_link else None
    reason = reason or reason_by_name(file.base)
    head = b""
    if reason is None:
        try:
            head = read_file(file.path, HEAD_BYTES)
        except UndecodableError as error:
            reason = str(error)
    sought = file.folder.sought
    if reason is None and sought.is_one(head, file.base):
        found.files.append(file)
        found.by_content.append(file)
        return
    is_note = reason == RAW or suffix_of(file.base) in _SIDECARS or (head and is_text(head))
    if is_note and _is_beside_its_picture(file):
        found.companions[suffix_of(file.base)] += 1
    else:
        found.skipped.append(Skipped(written(file.name), reason or sought.why_not(head, file.base)))


def is_picture(file: File) -> bool:
    """Tell by its content; a link that is not followed is none."""
    if file.is_link and file.folder.links.why_not(file.path) is not None:
        return False
    try:
        return format_of(read_file(file.path, HEAD_BYTES)) is not None
    except UndecodableError:
        return False


def _read_as_pictures(found: Collected, notes: Sequence[File]) -> None:
    """Take files for pictures that have the names of notes, where there is no other picture: they were misnamed."""
    for file in filter(is_picture, notes):
        found.files.append(file)
        found.by_content.append(file)
        found.companions[suffix_of(file.base)] -= 1
    found.companions = +found.companions


def _is_beside_its_picture(file: File) -> bool:
    """Tell whether a picture of the same name lies in the same folder: ``a.jpg`` beside ``a.nef`` or ``a.jpg.cat``."""
    stem = os.path.splitext(file.base)[0]  # noqa: PTH122
    return any(stem in (picture.base, os.path.splitext(picture.base)[0]) for picture in file.folder.loose)  # noqa: PTH122


def _leave_out_repeats(found: Collected) -> None:
    """Keep one of the names by which links reach the same file; a name that is no link comes first."""
    reals = {file: os.path.realpath(file.path) for file in found.files}
    seen = {real for file, real in reals.items() if not file.is_link}
    kept = []
    for file in found.files:
        if file.is_link and reals[file] in seen:
            found.skipped.append(Skipped(written(file.name), "a link to a file that is read already"))
            continue
        seen.add(reals[file])
        kept.append(file)
    found.files = kept
    found.by_content = [file for file in found.by_content if file in set(kept)]
