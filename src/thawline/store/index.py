"""Find rows by the digest of their sample, a million at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.errors import StorageError
from thawline.store.shards import Shard


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """All rows of one key, sorted by digest."""

    shards: tuple[Shard, ...]
    prefixes: NDArray[np.uint64]
    """(n,) first 8 bytes of each digest, ascending: searching them is six times faster than searching 32 bytes."""
    digests: NDArray[np.void]
    """(n,) in the order of ``prefixes``."""
    shard: NDArray[np.int32]
    """(n,) which shard holds the row."""
    row: NDArray[np.int64]
    """(n,) where in the shard."""

    @classmethod
    def build(cls, shards: Sequence[Shard]) -> Index:
        """Index the rows of these shards."""
        lengths = [len(s.digests) for s in shards]
        digests = np.concatenate([np.empty(0, "V32"), *(s.digests for s in shards)])
        shard = np.repeat(np.arange(len(shards), dtype=np.int32), lengths)
        row = np.concatenate([np.empty(0, np.int64), *(np.arange(n) for n in lengths)])
        prefixes = _prefixes(digests)
        order = np.argsort(prefixes, kind="stable")
        return cls(tuple(shards), prefixes[order], digests[order], shard[order], row[order])

    def paths(self) -> list[Path]:
        """The files that are indexed, in order."""
        return [shard.path for shard in self.shards]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows that a lookup of N samples found, and the way to read them."""

    found: NDArray[np.bool_]
    """(N,)"""
    _shards: tuple[Shard, ...]
    _shard: NDArray[np.int32]
    _row: NDArray[np.int64]

    @classmethod
    def locate(cls, index: Index, wanted: NDArray[np.void]) -> Rows:
        """Find ``wanted`` (N,) digests of 32 bytes."""
        if not len(index.digests):
            nothing = np.zeros(len(wanted), np.int64)
            return cls(np.zeros(len(wanted), np.bool_), (), nothing.astype(np.int32), nothing)
        at = np.minimum(np.searchsorted(index.prefixes, _prefixes(wanted)), len(index.prefixes) - 1)
        # Of two digests with the same first 8 bytes, one counts as not stored and is computed again.
        return cls(index.digests[at] == wanted, index.shards, index.shard[at], index.row[at])

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of one row, or None if nothing was found."""
        return next((shard.shape[1:] for shard in self.shards_in_use()), None)

    def shards_in_use(self) -> list[Shard]:
        """List the shards that found rows come from."""
        return [self._shards[i] for i in np.unique(self._shard[self.found])]

    def read(self, positions: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Read the rows of these samples; nothing else is loaded.

        Args:
            positions: (n,) places in the sequence that was looked up, in any order; each must be found.
        Returns:
            (n, ...) in the stored number format (bfloat16 as the bits in uint16).
        Raises:
            KeyError: A sample was not found.
            StorageError: The rows were cleared after the lookup.
        """
        if not self.found[positions].all():
            raise KeyError("a sample that is not stored cannot be read")
        if not len(positions):
            return np.empty((0, *(self.row_shape or ())), np.float32)
        first = self._shards[self._shard[positions[0]]]
        out = np.empty((len(positions), *first.shape[1:]), first.dtype)
        self._fill(out, np.arange(len(positions)), positions)
        return out

    def _fill(self, out: NDArray[Any], places: NDArray[np.integer[Any]], positions: NDArray[np.integer[Any]]) -> None:
        """Copy the row of each position to its place in ``out``, shard by shard."""
        shards, rows = self._shard[positions], self._row[positions]
        order = np.argsort(shards, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
            out[places[group]] = _map(self._shards[shards[group[0]]])[rows[group]]


def _map(shard: Shard) -> NDArray[Any]:
    try:
        return shard.values()
    except FileNotFoundError as error:
        raise StorageError(
            f"Stored features were cleared while they were being read ({shard.path.parent}). Run the command again."
        ) from error


def _prefixes(digests: NDArray[np.void]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(digests).view(np.uint64).reshape(-1, 4)[:, 0]
