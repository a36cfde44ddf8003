"""The feature store: what a frozen backbone said about a sample, found again by the sample's content.

``ROOT/features/KEY/`` holds shards and ``key.json``, which says what the key stands for and whose date is that of the
last use. Nothing is ever changed in place and names never collide, so two processes may read and write at once without
locks; a row that stands twice is harmless.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.errors import StorageError, UsageError
from thawline.scale import cache_root
from thawline.store.index import Index, Rows
from thawline.store.keys import FeatureKey
from thawline.store.shards import (
    SUFFIX,
    TEMPORARY,
    DamagedShardError,
    Shard,
    count_rows,
    digest_rows,
    open_shard,
    storage_dtype,
    write_shard,
    write_whole,
)
from thawline.store.sizes import format_bytes, limit_from_environment

logger = logging.getLogger(__name__)

SHARD_BYTES = 64 * 2**20
"""Largest shard: what is written, and checked, in one go."""
_ABANDONED_S = 3600.0
"""Age after which a temporary file belongs to a process that was killed."""
_TRASH = ".trash-"
_CHECKED_FRAC = 0.01
"""The size of the whole store is looked at again when it may have grown by this share of its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One key of the store, for people to see."""

    key: str
    model: str
    rung: str
    """``pooled``, a layer whose output was averaged, or ``line:LAYER`` for all that crosses the thaw line above a
    layer; then `` (view)`` follows where it is that of one augmented view."""
    precision: str
    engine: str
    rows: int
    bytes: int
    last_used: datetime
    """In UTC."""


class FeatureStore:
    """Rows on disk, addressed by (key, digest of the sample's content)."""

    def __init__(self, root: Path | None = None, limit_bytes: int | None = None) -> None:
        """Open a store; nothing is read or written before it is asked something.

        Args:
            root: Folder of the cache; by default ``$THAWLINE_CACHE`` or the platform's place for caches.
            limit_bytes: Size above which the least recently used keys are removed; by default
                ``$THAWLINE_CACHE_LIMIT`` (such as ``20GB``) or 20 GB. Keys that this store has used always stay.
        Raises:
            UsageError: The limit in the environment is not a size.
        """
        self.root = cache_root() if root is None else root
        self.limit_bytes = limit_from_environment() if limit_bytes is None else limit_bytes
        self._folder = self.root / "features"
        self._in_use: set[str] = set()
        self._indexes: dict[str, Index] = {}
        self._shards: dict[Path, Shard] = {}
        self._intact: set[Path] = set()
        self._damaged: set[Path] = set()
        self._said_too_large = False
        self._unchecked_bytes = self.limit_bytes  # the first rows are followed by a check

    def lookup(self, key: FeatureKey, digests: Sequence[str]) -> Rows:
        """Find which samples (N,) have a row; every shard that a row would come from is checked once per store.

        A damaged shard is removed, which is said in the log, and its rows count as not found.

        Raises:
            StorageError: The cache folder cannot be read.
        """
        wanted = digest_rows(digests)
        with self._storage_errors("read"):
            self._touch(key)
            while True:
                rows = Rows.locate(self._index(key), wanted)
                damaged = [shard for shard in rows.shards_in_use() if not self._is_intact(shard)]
                if not damaged:
                    return rows
                for shard in damaged:
                    self._set_aside(shard.path)

    def gather(self, key: FeatureKey, digests: Sequence[str]) -> NDArray[Any]:
        """Return the rows (N, ...) of samples that are all stored; raises KeyError for one that is not."""
        rows = self.lookup(key, digests)
        if not rows.found.all():
            raise KeyError(digests[int(np.argmin(rows.found))])
        return rows.read(np.arange(len(digests)))

    def holds(self, key: FeatureKey) -> bool:
        """Whether anything was ever stored under a key; costs one question to the file system and verifies nothing."""
        return (self._folder / key.digest() / "key.json").exists()

    def prepare(self, key: FeatureKey) -> None:
        """Make the folder of a key, so that a cache that cannot be written is refused before the work, not after it.

        Raises:
            StorageError: The cache folder cannot be written.
        """
        folder = self._key_folder(key)
        described = json.dumps(dataclasses.asdict(key), indent=2).encode()
        with self._storage_errors("write", len(described)):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "key.json").exists():
                write_whole(folder / "key.json", described)

    def append(self, key: FeatureKey, digests: Sequence[str], values: NDArray[Any]) -> None:
        """Store the rows of some samples.

        Args:
            digests: (N,) SHA-256 of the samples' content.
            values: (N, ...) in the number format of the key.
        Raises:
            ValueError: Lengths or number format do not fit.
            StorageError: The disk is full or the cache folder cannot be written; no half-written file is left.
        """
        packed = digest_rows(digests)
        if values.dtype != storage_dtype(key.dtype) or len(values) != len(packed):
            raise ValueError(f"values must be {len(packed)} rows of {key.dtype}; got {values.dtype} {values.shape}")
        if values.size == 0:
            return
        step = max(1, SHARD_BYTES // (values.nbytes // len(values)))
        for start in range(0, len(values), step):
            self._write(key, packed[start : start + step], values[start : start + step])
        self._unchecked_bytes += values.nbytes
        if self._unchecked_bytes >= self.limit_bytes * _CHECKED_FRAC:
            self._unchecked_bytes = 0
            self._make_room()

    def usage(self) -> list[CacheEntry]:
        """Say what is stored, most recently used first."""
        with self._storage_errors("read"):
            entries = [self._entry(folder, when, size) for when, size, folder in self._keys()]
        return entries[::-1]

    def clear(self, older_than: timedelta | None = None, key: str | None = None) -> int:
        """Remove stored rows and return how many bytes that freed.

        Args:
            older_than: Only keys that were not used for this long.
            key: Only the key whose digest begins with this.
        Raises:
            UsageError: No stored key begins like that.
            StorageError: The cache folder cannot be changed.
        """
        freed = 0
        with self._storage_errors("change"):
            keys = [entry for entry in self._keys() if entry[2].name.startswith(key or "")]
            if key is not None and not keys:
                raise UsageError(f"key must be one of those that `thawline cache` shows; got {key!r} ({self._folder}).")
            for when, size, folder in keys:
                if older_than is None or time.time() - when > older_than.total_seconds():
                    self._remove(folder)
                    freed += size
            self._sweep()
        return freed

    def _key_folder(self, key: FeatureKey) -> Path:
        self._in_use.add(key.digest())
        return self._folder / key.digest()

    def _touch(self, key: FeatureKey) -> None:
        with contextlib.suppress(FileNotFoundError, PermissionError):  # a shared cache may be readable only
            os.utime(self._key_folder(key) / "key.json")

    def _index(self, key: FeatureKey) -> Index:
        """The rows of a key as they stand on disk now."""
        folder = self._key_folder(key)
        try:
            paths = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path not in self._damaged)
        except FileNotFoundError:
            paths = []
        known = self._indexes.get(folder.name)
        if known is None or known.paths() != paths:
            shards = [shard for path in paths if (shard := self._open(path, key)) is not None]
            known = self._indexes[folder.name] = Index.build(shards)
        return known

    def _open(self, path: Path, key: FeatureKey) -> Shard | None:
        if path not in self._shards:
            try:
                self._shards[path] = open_shard(path, key.dtype)
            except FileNotFoundError:  # removed by another process just now
                return None
            except DamagedShardError:
                self._set_aside(path)
                return None
        return self._shards[path]

    def _is_intact(self, shard: Shard) -> bool:
        if shard.path not in self._intact and shard.is_intact():
            self._intact.add(shard.path)
        return shard.path in self._intact

    def _set_aside(self, path: Path) -> None:
        logger.warning("A stored feature file was damaged; its rows are computed again (%s).", path)
        self._damaged.add(path)
        self._shards.pop(path, None)
        with contextlib.suppress(FileNotFoundError, PermissionError):  # a shared cache may be readable only
            path.unlink()

    def _write(self, key: FeatureKey, digests: NDArray[np.void], values: NDArray[Any]) -> None:
        with self._storage_errors("write", values.nbytes):
            for attempt in (1, 2):
                self.prepare(key)
                try:
                    write_shard(self._key_folder(key), digests, values)
                    break
                except FileNotFoundError:  # another process removed the folder between the two steps
                    if attempt == 2:
                        raise

    def _keys(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, folder) of every key, least recently used first."""
        found = []
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            if len(folder.name) == 64:
                files = [stat for path in folder.glob("*") if (stat := _stat(path)) is not None]
                described = _stat(folder / "key.json")
                when = described.st_mtime if described else max((s.st_mtime for s in files), default=0.0)
                found.append((when, sum(s.st_size for s in files), folder))
        return sorted(found)

    def _entry(self, folder: Path, when: float, size: int) -> CacheEntry:
        try:
            key = FeatureKey(**json.loads((folder / "key.json").read_bytes()))
            rows = sum(count_rows(path, key.dtype) for path in folder.glob(f"*{SUFFIX}"))
        except (OSError, ValueError, TypeError):
            key = FeatureKey(weights_sha256="", preparation_sha256="", rung="?", precision="f32", engine="?", model="?")
            rows = 0
        return CacheEntry(
            key=folder.name,
            model=key.model,
            rung=key.rung if key.view_seed is None else f"{key.rung} (view)",
            precision=key.precision,
            engine=key.engine,
            rows=rows,
            bytes=size,
            last_used=datetime.fromtimestamp(when, UTC),
        )

    def _make_room(self) -> None:
        """Remove least recently used keys until the store is within its limit."""
        with self._storage_errors("change"):
            self._sweep()
            keys = self._keys()
            total = sum(size for _, size, _ in keys)
            for _, size, folder in keys:
                if total > self.limit_bytes and folder.name not in self._in_use:
                    self._remove(folder)
                    total -= size
        if total > self.limit_bytes and not self._said_too_large:
            self._said_too_large = True
            logger.warning(
                "The features in use take %s, over the limit of %s. Raise THAWLINE_CACHE_LIMIT to keep others too.",
                format_bytes(total),
                format_bytes(self.limit_bytes),
            )

    def _remove(self, folder: Path) -> None:
        """Take a key away at one stroke: another process sees all of it or nothing."""
        trash = folder.with_name(f"{_TRASH}{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed processes left behind."""
        for trash in self._folder.glob(f"{_TRASH}*"):
            shutil.rmtree(trash, ignore_errors=True)
        for temporary in self._folder.glob(f"*/.*{TEMPORARY}"):
            stat = _stat(temporary)
            if stat is not None and time.time() - stat.st_mtime > _ABANDONED_S:
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _storage_errors(self, verb: str, n_bytes: int = 0) -> Iterator[None]:
        """Say in a sentence what the operating system refused."""
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageError(
                    f"The disk that holds the feature cache is full: {format_bytes(n_bytes)} could not be written to "
                    f"{self._folder}. Make room with `thawline cache clear`, or set THAWLINE_CACHE to a folder on "
                    "another disk."
                ) from error
            raise StorageError(
                f"The feature cache must be a folder that this program can {verb}; {self._folder} is not "
                f"({error.strerror or error}). Set THAWLINE_CACHE to a folder of your own."
            ) from error


def _stat(path: Path) -> os.stat_result | None:
    """Size and date of a file, or None where another process has just removed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
