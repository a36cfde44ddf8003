"""The feature store: what a frozen backbone computed for a sample, found again by the sample's content.

``ROOT/features/KEY/`` holds shards, and ``key.json``, which describes the key. Nothing is ever changed in place and
names never collide, so two processes may read and write at once without locks; a row that is stored twice is harmless.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.errors import UsageError
from thawline.scale import cache_root
from thawline.scale.disk import storage_errors, whole_file
from thawline.store.index import Index, Rows
from thawline.store.keys import FeatureKey
from thawline.store.room import ELSEWHERE, CacheEntry, Kept, Shelf, make_room
from thawline.store.shards import (
    SUFFIX,
    DamagedShardError,
    Shard,
    count_rows,
    digest_rows,
    open_shard,
    storage_dtype,
    write_shard,
)
from thawline.store.sizes import format_bytes, limit_from_environment

logger = logging.getLogger(__name__)

SHARD_BYTES = 64 * 2**20
"""Largest shard: what is written, and checked, in one go."""
_CHECKED_FRAC = 0.01
"""The size of the whole cache is looked at again when it may have grown by this share of its limit."""


class FeatureStore:
    """Rows on disk, addressed by (key, digest of the sample's content)."""

    def __init__(self, root: Path | None = None) -> None:
        """Open a store; nothing is read or written before the first question.

        Keys that a store has used stay as long as it lives, also above the limit of ``$THAWLINE_CACHE_LIMIT``.

        Args:
            root: Folder of the cache; by default ``$THAWLINE_CACHE`` or the platform's place for caches.
        Raises:
            UsageError: The limit in the environment is not a size.
        """
        self.root = cache_root() if root is None else root
        self.limit_bytes = limit_from_environment()
        self._shelf = Shelf(self.root, "features")
        self._indexes: dict[str, Index] = {}
        self._shards: dict[Path, Shard] = {}
        self._intact: set[Path] = set()
        self._damaged: set[Path] = set()
        self._said_too_large = False
        self._unchecked_bytes = self.limit_bytes  # the first rows are followed by a check

    def lookup(self, key: FeatureKey, digests: Sequence[str]) -> Rows:
        """Find which samples (N,) have a row; every shard that a row would come from is checked once per store.

        A damaged shard is removed, the log says so, and its rows count as not found.

        Raises:
            StorageError: The cache folder cannot be read.
        """
        wanted = digest_rows(digests)
        with storage_errors(self._shelf.folder, "read", elsewhere=ELSEWHERE):
            self._shelf.touch(key.digest())
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
        """Whether anything was ever stored under a key; asks the file system once and verifies nothing."""
        return (self._shelf.folder / key.digest() / "key.json").exists()

    def prepare(self, key: FeatureKey) -> None:
        """Make the folder of a key, to refuse a cache that cannot be written before the work and not after it.

        Raises:
            StorageError: The cache folder cannot be written.
        """
        folder = self._shelf.use(key.digest())
        with storage_errors(self._shelf.folder, elsewhere=ELSEWHERE):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "key.json").exists():
                with whole_file(folder / "key.json") as file:
                    json.dump(dataclasses.asdict(key), file, indent=2)

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
        """List what is stored, most recently used first."""
        with storage_errors(self._shelf.folder, "read", elsewhere=ELSEWHERE):
            return [_entry(kept) for kept in reversed(self._shelf.kept())]

    def clear(self, older_than: timedelta | None = None, key: str | None = None) -> int:
        """Remove stored rows and return how many bytes that freed; see ``Shelf.clear``.

        Raises:
            UsageError: No stored key begins like that.
        """
        if key is not None and not any(kept.folder.name.startswith(key) for kept in self._shelf.kept()):
            raise UsageError(
                f"key must be one of those that `thawline cache` shows; got {key!r} ({self._shelf.folder})."
            )
        return self._shelf.clear(older_than, key)

    def _index(self, key: FeatureKey) -> Index:
        """Return the rows of a key as they are on disk now."""
        folder = self._shelf.use(key.digest())
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
        with storage_errors(self._shelf.folder, elsewhere=ELSEWHERE):
            for attempt in (1, 2):
                self.prepare(key)
                try:
                    write_shard(self._shelf.use(key.digest()), digests, values)
                    break
                except FileNotFoundError:  # another process removed the folder after `prepare`
                    if attempt == 2:
                        raise

    def _make_room(self) -> None:
        total = make_room(self.root, self.limit_bytes)
        if total > self.limit_bytes and not self._said_too_large:
            self._said_too_large = True
            logger.warning(
                "The features in use take %s, over the limit of %s. Raise THAWLINE_CACHE_LIMIT to keep others too.",
                format_bytes(total),
                format_bytes(self.limit_bytes),
            )


def _entry(kept: Kept) -> CacheEntry:
    try:
        key = FeatureKey(**json.loads((kept.folder / "key.json").read_bytes()))
        rows = sum(count_rows(path, key.dtype) for path in kept.folder.glob(f"*{SUFFIX}"))
    except (OSError, ValueError, TypeError):
        key = FeatureKey(weights_sha256="", preparation_sha256="", rung="?", precision="f32", engine="?", model="?")
        rows = 0
    return CacheEntry(
        key=kept.folder.name,
        model=key.model,
        rung=key.rung if key.view_seed is None else f"{key.rung} (view)",
        precision=key.precision,
        engine=key.engine,
        rows=rows,
        bytes=kept.bytes,
        last_used=kept.last_used,
    )
