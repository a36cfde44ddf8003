"""One limit over all that the cache keeps and can make again: what was not used for longest goes first.

``ROOT/features/KEY/``, ``ROOT/models/KEY/`` and ``ROOT/weights/KEY/`` each hold a file that describes them; its date is
that of the last use.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import uuid
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from thawline.backbones import derived
from thawline.scale.disk import TEMPORARY, storage_errors

DESCRIPTIONS = {"features": "key.json", "models": "graphs.json", derived.SHELF: derived.FILE}
"""Name of a shelf -> the file that describes a key there."""
ELSEWHERE = "set THAWLINE_CACHE to a folder"
"""What a user can do to name another cache folder."""
_TRASH = ".trash-"
_TEMPORARIES = (TEMPORARY, ".tmp")
"""Endings of files that are being written; earlier versions used the second."""
_ABANDONED_S = 3600.0
"""Age after which something half-written belongs to a process that was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One key of the cache, for people to see."""

    key: str
    model: str
    rung: str
    """``pooled``, a layer whose output was averaged, or ``line:LAYER`` for all that crosses the thaw line above a
    layer. `` (view)`` follows if the rows are those of one augmented view, `` (converted)`` for a converted model."""
    precision: str
    engine: str
    rows: int
    bytes: int
    last_used: datetime
    """In UTC."""


@dataclass(frozen=True, slots=True, order=True)
class Kept:
    """All that is stored under one key."""

    used_s: float
    """When it was last used, in seconds since 1970."""
    bytes: int
    folder: Path

    @property
    def last_used(self) -> datetime:
        """The same in UTC."""
        return datetime.fromtimestamp(self.used_s, UTC)


class Shelf:
    """The keys of one kind, each a folder that is added and taken away at one stroke."""

    def __init__(self, root: Path, name: Literal["features", "models", "weights"]) -> None:
        self.root, self.folder = root, root / name
        self._description = DESCRIPTIONS[name]
        self._in_use: set[str] = derived.in_use if name == derived.SHELF else set()
        with _registering:
            _shelves.add(self)

    def use(self, key: str) -> Path:
        """Return the folder of a key; ``make_room`` does not remove it while this shelf lives."""
        self._in_use.add(key)
        return self.folder / key

    def touch(self, key: str) -> None:
        """Note that a key is used now."""
        with contextlib.suppress(FileNotFoundError, PermissionError):  # a shared cache may be readable only
            os.utime(self.folder / key / self._description)

    def keeps(self, kept: Kept) -> bool:
        """Whether this shelf uses that key."""
        return kept.folder.parent == self.folder and kept.folder.name in self._in_use

    def kept(self) -> list[Kept]:
        """List every key, least recently used first."""
        found = []
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if len(folder.name) == 64:
                files = [stat for path in folder.glob("*") if (stat := _stat(path)) is not None]
                described = _stat(folder / self._description)
                when = described.st_mtime if described else max((s.st_mtime for s in files), default=0.0)
                found.append(Kept(when, sum(s.st_size for s in files), folder))
        return sorted(found)

    def clear(self, older_than: timedelta | None = None, key: str | None = None) -> int:
        """Remove what is stored and return how many bytes that freed.

        Args:
            older_than: Only keys that were not used for this long.
            key: Only keys whose digest begins with this.
        Raises:
            StorageError: The cache folder cannot be changed.
        """
        freed = 0
        with storage_errors(self.folder, "change", elsewhere=ELSEWHERE):
            for kept in self.kept():
                old = older_than is None or time.time() - kept.used_s > older_than.total_seconds()
                if old and kept.folder.name.startswith(key or ""):
                    remove(kept.folder)
                    freed += kept.bytes
            self.sweep()
        return freed

    def sweep(self) -> None:
        """Remove what killed processes left behind."""
        for path in self.folder.glob(".*"):
            if path.name.startswith(_TRASH) or _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob("*/.*"):
            if path.suffix in _TEMPORARIES and _is_abandoned(path):
                path.unlink(missing_ok=True)


def make_room(root: Path, limit_bytes: int) -> int:
    """Remove least recently used keys of every kind until the cache is within its limit; return how large it is then.

    Keys that a shelf of this process uses stay, and so do those that the system does not let us remove.
    """
    shelves = [Shelf(root, "features"), Shelf(root, "models"), Shelf(root, "weights")]
    with _registering:
        living = list(_shelves)
    for shelf in shelves:
        with contextlib.suppress(OSError):
            shelf.sweep()
    everything = sorted(kept for shelf in shelves for kept in shelf.kept())
    total = sum(kept.bytes for kept in everything)
    for kept in everything:
        if total <= limit_bytes:
            break
        if not any(shelf.keeps(kept) for shelf in living):
            with contextlib.suppress(OSError):
                remove(kept.folder)
                total -= kept.bytes
    return total


def remove(folder: Path) -> None:
    """Take a key away at one stroke: another process sees all of it or nothing."""
    trash = folder.with_name(f"{_TRASH}{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


_shelves: weakref.WeakSet[Shelf] = weakref.WeakSet()
"""The shelves of this process: what they use stays."""
_registering = threading.Lock()


def _is_abandoned(path: Path) -> bool:
    stat = _stat(path)
    return stat is not None and time.time() - stat.st_mtime > _ABANDONED_S


def _stat(path: Path) -> os.stat_result | None:
    """Size and date of a file, or None if another process has just removed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
