"""Find the files that a table names: each folder is listed once, and names are looked up in the lists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from thawline.errors import DataError
from thawline.inputs.image.formats import SUFFIXES, promises_picture
from thawline.naming import canonical, written
from thawline.showing import counted

_SUFFIXES = tuple(sorted(SUFFIXES))
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_MOST_FOLDERS = 50_000
"""Folders below the root that are searched for files that are not where the table says."""
NO_SUCH_FILE = "no such file"


def is_web_address(name: str) -> bool:
    """Tell ``https://...`` from a path and from ``file://...``."""
    match = _SCHEME.match(name)
    return match is not None and match[1].lower() != "file"


def folded(name: str) -> str:
    """Return the form in which names are matched if the name as written is not there: without case and blanks."""
    return canonical(name).strip().casefold()


class Folder:
    """The names in one folder, listed once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.prefix = path.rstrip(os.sep) + os.sep
        self.files: set[str] = set()
        self.folders: set[str] = set()
        self.links: set[str] = set()
        self._alike: dict[str, list[str]] | None = None
        self._stems: dict[str, list[str]] | None = None
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    self._add(entry)
        except OSError:  # nothing in it can be found, as if it were empty
            pass

    def _add(self, entry: os.DirEntry[str]) -> None:
        if entry.is_symlink():
            self.links.add(entry.name)
        elif entry.is_dir(follow_symlinks=False):
            self.folders.add(entry.name)
        elif entry.is_file(follow_symlinks=False):
            self.files.add(entry.name)

    def holds(self, name: str) -> bool:
        return name in self.files or name in self.links

    def find(self, name: str) -> str | None:
        """Return the file of that name; a name without a picture's suffix (ids) may leave it out, and dots or not."""
        if self.holds(name):
            return name
        bare = not promises_picture(name)
        if bare:
            found = next((name + suffix for suffix in _SUFFIXES if self.holds(name + suffix)), None)
            if found is not None:
                return found
        return self._one(self.alike(name) or (self.stems(name) if bare else []), name)

    def find_folder(self, name: str) -> str | None:
        """Return the folder (or link) whose name differs at most in case and form."""
        if name in self.folders or name in self.links:
            return name
        return self._one([other for other in self.alike(name) if other not in self.files], name)

    @staticmethod
    def _one(found: Sequence[str], name: str) -> str | None:
        """Return the one name that is meant: of several, the one that differs in form only."""
        if len(found) > 1:
            found = [other for other in found if canonical(other) == canonical(name)]
        return found[0] if len(found) == 1 else None

    def alike(self, name: str) -> list[str]:
        """Return the names that differ from this one in case, Unicode form or how bytes are written."""
        if self._alike is None:
            self._alike = {}
            for other in (*self.files, *self.links, *self.folders):
                for key in _keys(other):
                    self._alike.setdefault(key, []).append(other)
        return self._alike.get(folded(name), [])

    def stems(self, name: str) -> list[str]:
        """Return the pictures whose names without suffix are like this one."""
        if self._stems is None:
            self._stems = {}
            for other in (*self.files, *self.links):
                if promises_picture(other):
                    for key in _keys(os.path.splitext(other)[0]):  # noqa: PTH122
                        self._stems.setdefault(key, []).append(other)
        return self._stems.get(folded(name), [])


def _keys(name: str) -> set[str]:
    r"""Return the forms under which a name is found; one that is no UTF-8 as ``\xf6`` and as Latin-1 too."""
    keys = {folded(name)}
    shown = written(name)
    if shown != name:
        keys |= {folded(shown), folded(os.fsencode(name).decode("cp1252", "replace"))}
    return keys


@dataclass(slots=True)
class Found:
    """What became of the names of a table."""

    paths: list[str | None]
    """(N,) absolute paths; None for a file that is not there, or outside."""
    reasons: list[str]
    """(N,) why there is no path; empty where there is one."""
    outside: dict[int, str] = field(default_factory=dict)
    """Row -> real path of a file outside the root."""
    notes: list[str] = field(default_factory=list)

    def rows(self) -> list[int]:
        return [row for row, path in enumerate(self.paths) if path is not None]

    def missing(self) -> list[int]:
        """Return the rows whose file is neither found nor outside."""
        return [row for row, path in enumerate(self.paths) if path is None and row not in self.outside]


class Finder:
    """Looks up names, first from the root, then from the folder of the table; nothing outside the root is opened."""

    def __init__(
        self,
        root: Path,
        beside: Path,
        *,
        part: str | None = None,
        follow_links: bool = False,
        most_folders: int = _MOST_FOLDERS,
    ) -> None:
        """Take the resolved folder to search and that of the table.

        Args:
            part: The set that the table stands for: of equal folders, the one of its name is meant.
            follow_links: Follow links that lead outside; names that do must still be asked for with another root.
            most_folders: Below the root, that are searched.
        """
        self._most_folders = most_folders
        self.root, self.beside, self.part, self.follow_links = root, beside, part, follow_links
        self._inside = str(root).rstrip(os.sep) + os.sep
        self._listed: dict[str, Folder] = {}
        self._known: dict[str, tuple[Sequence[Folder], Sequence[str]]] = {}

    def find_all(self, cells: Sequence[object]) -> Found:
        """Find the file of each cell where its name says that it is."""
        names = ["" if cell is None else str(cell) for cell in cells]
        found = Found([None] * len(names), [NO_SUCH_FILE] * len(names))
        slashed: list[str] = []
        respelled: list[tuple[str, str]] = []
        for row, name in enumerate(names):
            if not name or "\0" in name:
                found.reasons[row] = "the cell names no file"
                continue
            path, how = self._look_up(row, name, found)
            if path is None:
                continue
            found.paths[row], found.reasons[row] = path, ""
            if how == "slashed":
                slashed.append(name)
            base = os.path.basename(path)  # noqa: PTH119
            if not name.endswith(base) and _differs(name, base):
                respelled.append((name, base))
        if slashed:
            found.notes.append(
                f"{counted(len(slashed), 'file name')} with backslashes: these are read as slashes; first {slashed[0]}."
            )
        if respelled:
            found.notes.append(
                f"{counted(len(respelled), 'file name')} differ in case from the files; first {respelled[0][0]}, which "
                f"is {respelled[0][1]}."
            )
        return found

    def _look_up(self, row: int, name: str, found: Found) -> tuple[str | None, str]:
        plain = file_path(name)
        path = self._in_place(row, plain, found)
        if path is not None or "\\" not in plain or row in found.outside:
            return path, ""
        return self._in_place(row, plain.replace("\\", "/"), found), "slashed"

    def _in_place(self, row: int, name: str, found: Found) -> str | None:
        """Return the path of a file that is where its name says; note one that is there and outside."""
        lead, _, base = name.rpartition("/")
        lead = lead or ("/" if name.startswith("/") else "")
        inside, outside = self._folders(lead)
        for folder in inside:
            there = folder.find(base)
            if there is not None and there in folder.files:
                return folder.prefix + there
            if there is not None and (target := self._follow(row, folder.prefix + there, found)) is not None:
                return target
        for path in outside if base else ():
            if not inside:
                found.reasons[row] = f"leads outside {self.root}"
            if (target := self._reach(row, path + "/" + base, found)) is not None:
                return target
        return None

    def _reach(self, row: int, path: str, found: Found) -> str | None:
        """Return the file inside the root that a link outside leads to; note one that is outside by its status."""
        bare = not promises_picture(path)
        there = next((p for p in (path, *(path + s for s in _SUFFIXES if bare)) if _is_file(p)), None)
        return None if there is None else self._follow(row, there, found)

    def _follow(self, row: int, link: str, found: Found) -> str | None:
        """Return the file that a path leads to, links followed; note why it is not to be read."""
        target = os.path.realpath(link)
        if not _is_file(target):
            found.reasons[row] = "a link that leads nowhere"
        elif target.startswith(self._inside) or (self.follow_links and link.startswith(self._inside)):
            found.outside.pop(row, None)
            return target
        else:
            found.outside[row] = target
            found.reasons[row] = f"leads outside {self.root}"
        return None

    def _folders(self, lead: str) -> tuple[Sequence[Folder], Sequence[str]]:
        """Return the folders of that name inside the root, and the paths of those outside."""
        if lead not in self._known:
            self._known[lead] = self._open(lead)
        return self._known[lead]

    def _open(self, lead: str) -> tuple[Sequence[Folder], Sequence[str]]:
        inside: dict[str, Folder] = {}
        outside: dict[str, None] = {}
        for start in (self.root, self.beside):
            path = os.path.realpath(os.path.join(start, lead))  # noqa: PTH118
            if not _is_folder(path):
                path = self._respelled(str(start), lead) or ""
            if path and ((path + os.sep).startswith(self._inside) or self._is_followed(start, lead)):
                inside[path] = self.listed(path)
            elif path:
                outside[path] = None
        return tuple(inside.values()), tuple(outside)

    def _is_followed(self, start: Path, lead: str) -> bool:
        """Tell a folder that only links, which may be followed, place outside the root."""
        below = not lead.startswith("/") and ".." not in lead.split("/")
        return self.follow_links and below and (str(start) + os.sep).startswith(self._inside)

    def _respelled(self, start: str, lead: str) -> str | None:
        """Walk down to a folder whose name differs in case or form; never out of the root."""
        path = start
        if lead.startswith("/") or not (path + os.sep).startswith(self._inside):
            return None
        for part in lead.split("/"):
            if part in ("", "."):
                continue
            name = None if part == ".." else self.listed(path).find_folder(part)
            if name is None:
                return None
            path = os.path.realpath(os.path.join(path, name))  # noqa: PTH118
            if not (path + os.sep).startswith(self._inside):
                return None
        return path

    def listed(self, path: str) -> Folder:
        """List a folder, unless that was done already."""
        if path not in self._listed:
            self._listed[path] = Folder(path)
        return self._listed[path]

    def folders_below(self) -> Iterable[Folder]:
        """Yield the root and every folder below it; hidden folders and links are left out.

        Raises:
            DataError: There are too many.
        """
        waiting = [str(self.root)]
        for number, path in enumerate(waiting):
            if number >= self._most_folders:
                raise DataError(f"{self.root} holds more than {self._most_folders:,} folders. Give root (--root).")
            folder = self.listed(path)
            yield folder
            waiting += [folder.prefix + name for name in sorted(folder.folders) if not name.startswith(".")]


def file_path(name: str) -> str:
    """Return the path of a ``file://`` address; every other name as it is."""
    match = _SCHEME.match(name)
    if match is None or match[1].lower() != "file":
        return name
    path = unquote(name[match.end() :])
    host, _, rest = path.partition("/")
    path = "/" + rest if host in ("", "localhost") else path
    return path[1:] if _DRIVE.match(path[1:]) else path


def steps_of(name: str) -> list[str]:
    """Return folders and name of a path of any machine: without drive, address of a server, ``.`` and ``..``."""
    plain = file_path(name)
    if is_web_address(plain):
        plain = unquote(_SCHEME.sub("", plain, count=1).split("?")[0].split("#")[0])
    elif _DRIVE.match(plain):
        plain = plain[2:]
    return [part for part in plain.replace("\\", "/").split("/") if part not in ("", ".", "..", "~")]


def _differs(name: str, base: str) -> bool:
    """Tell whether a name differs from that of the file in case: forms and missing suffixes need no word."""
    last = canonical(name.replace("\\", "/").rpartition("/")[2].strip())
    whole = canonical(base)
    stem = os.path.splitext(whole)[0]  # noqa: PTH122
    return last not in (whole, stem) and last.casefold() in (whole.casefold(), stem.casefold())


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)  # noqa: PTH113
    except (OSError, ValueError):
        return False


def _is_folder(path: str) -> bool:
    try:
        return os.path.isdir(path)  # noqa: PTH112
    except (OSError, ValueError):
        return False
