"""Folders as they lie on disk, each listed once, and the links in them: whether they may be followed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from thawline.data.folders.sought import PICTURES, Sought

_OF_SYSTEMS = frozenset(
    "__macosx @eadir @recycle @recently-snapshot #recycle #snapshot $recycle.bin lost+found __pycache__".split()
) | {"system volume information", "network trash folder", "temporary items"}
"""Names, in lower case, of folders that systems put beside people's files."""
LEADS_OUTSIDE = "a link that leads outside the folder, which is read with --follow-links (follow_links=True)"
TO_FOLDER = "a link to a folder, which is read with --follow-links (follow_links=True)"
NOWHERE = "a link that leads nowhere"
CIRCLE = "a link that leads in a circle"
TWICE = "a link to a folder that is read already"
REACHED = "a folder that was read already, by way of a link"


@dataclass(frozen=True, slots=True)
class Links:
    """Which links are followed: those to files in the data folder, or all."""

    root: Path
    """The data folder, without links in it."""
    follow: bool = False

    def why_not(self, path: str) -> str | None:
        """Say why a link is not followed; None if it is."""
        try:
            target = Path(path).resolve(strict=True)
        except (OSError, RuntimeError):
            return NOWHERE
        if self.follow:
            return None
        if not target.is_relative_to(self.root):
            return LEADS_OUTSIDE
        return TO_FOLDER if target.is_dir() else None


class File(NamedTuple):
    """A file, or a link to one."""

    folder: Folder
    base: str
    is_link: bool

    @property
    def path(self) -> str:
        return os.path.join(self.folder.path, self.base)  # noqa: PTH118  # 100,000 Path objects take their time

    @property
    def name(self) -> str:
        """Path below the data folder, with slashes."""
        return f"{self.folder.name}/{self.base}" if self.folder.name else self.base


@dataclass(eq=False)
class Folder:
    """A folder below the data folder. Hidden files and what systems put there are not seen."""

    path: str
    name: str
    """Path below the data folder, with slashes; empty for the data folder itself."""
    links: Links
    is_link: bool = False
    sought: Sought = PICTURES

    @property
    def base(self) -> str:
        return self.name.rpartition("/")[2]

    @cached_property
    def barrier(self) -> str | None:
        """Why this folder, a link, is not entered; None if it is."""
        return self.links.why_not(self.path) if self.is_link else None

    @cached_property
    def entries(self) -> list[Folder | File]:
        """Folders and files in order of name; none of a folder that is not entered.

        Raises:
            OSError: The folder cannot be listed.
        """
        if self.barrier is not None:
            return []
        with os.scandir(self.path) as found:
            listed = sorted((entry for entry in found if not is_hidden(entry.name)), key=lambda entry: entry.name)
        entries: list[Folder | File] = []
        for entry in listed:
            if not _is_folder(entry):
                entries.append(File(self, entry.name, entry.is_symlink()))
            elif entry.name.lower() not in _OF_SYSTEMS:
                name = f"{self.name}/{entry.name}" if self.name else entry.name
                entries.append(Folder(entry.path, name, self.links, entry.is_symlink(), self.sought))
        return entries

    @cached_property
    def folders(self) -> list[Folder]:
        return [entry for entry in self.entries if isinstance(entry, Folder)]

    @cached_property
    def files(self) -> list[File]:
        return [entry for entry in self.entries if isinstance(entry, File)]

    @cached_property
    def loose(self) -> list[File]:
        """Files right in this folder whose name promises a sample."""
        return [file for file in self.files if self.sought.promises(file.base)]

    @cached_property
    def samples(self) -> list[File]:
        """Those that make it a folder of samples: texts beside folders of texts are notes about them."""
        beside = self.sought.input_kind == "text" and any(inner.holds_samples for inner in self.folders)
        return [] if beside else self.loose

    @cached_property
    def holds_samples(self) -> bool:
        """Whether there are such files in it or below."""
        return bool(self.loose) or any(inner.holds_samples for inner in self.folders if not inner.is_link)


def open_tree(folder: Path, *, follow_links: bool, sought: Sought = PICTURES) -> Folder:
    """Open the data folder; nothing is listed yet."""
    return Folder(os.fspath(folder), "", Links(folder.resolve(), follow_links), sought=sought)


def is_hidden(name: str) -> bool:
    """Tell a file that nobody sees, or a mark that Windows leaves beside a file."""
    return name.startswith(".") or name.endswith(":Zone.Identifier")


def walk(folder: Folder, beside: Set[str] = frozenset()) -> Iterator[File | tuple[Folder, str]]:
    """Yield the files below a folder in order of name, and each folder that is not entered, with the reason.

    A folder that links reach twice is entered once, and a link to a folder around this one not at all.

    Args:
        folder: Where to begin.
        beside: Names, below the data folder, of folders to leave out without a word.
    """
    start = os.path.realpath(folder.path) if folder.links.follow else ""
    yield from _walk(folder, beside, start, set())


def _walk(folder: Folder, beside: Set[str], start: str, entered: set[str]) -> Iterator[File | tuple[Folder, str]]:
    reason = folder.barrier
    if folder.links.follow:
        real = os.path.realpath(folder.path)
        if reason is None and folder.is_link:
            around = os.path.realpath(os.path.dirname(folder.path))  # noqa: PTH120
            if Path(around).is_relative_to(real) or (real != start and Path(start).is_relative_to(real)):
                reason = CIRCLE
        if reason is None and real in entered:
            reason = TWICE if folder.is_link else REACHED
        entered.add(real)
    if reason is not None:
        yield folder, reason
        return
    for entry in folder.entries:
        if isinstance(entry, File):
            yield entry
        elif entry.name not in beside:
            yield from _walk(entry, beside, start, entered)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False
