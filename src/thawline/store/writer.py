"""Gather rows on their way into the store: few files are written, and an interruption loses little."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.store.keys import FeatureKey
from thawline.store.store import FeatureStore

FLUSH_BYTES = 4 * 2**20
FLUSH_S = 10.0
"""Computed rows wait at most this long, or until those of one key are this large. An interruption loses no more than
this, and memory holds no more, however many samples there are."""


class Writer:
    """Hand rows to the store every few seconds and when the block ends, also by an error."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._held: dict[FeatureKey, _Held] = {}
        self._since = time.monotonic()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, key: FeatureKey, digests: Sequence[str], values: NDArray[Any]) -> None:
        """Take rows (n, ...) of one key, in its number format."""
        held = self._held.get(key)
        if held is None or not held.has_room_for(values):
            self._flush_one(key)
            held = self._held[key] = _Held.of(values)
        held.take(digests, values)
        if held.is_full():
            self._flush_one(key)
        if time.monotonic() - self._since >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Store the rows that wait."""
        self._since = time.monotonic()
        for key in self._held:
            self._flush_one(key)

    def _flush_one(self, key: FeatureKey) -> None:
        if (held := self._held.get(key)) is not None and held.digests:
            digests, values = held.digests, held.rows[: len(held.digests)]
            held.digests = []  # first: what the store refuses now, it would refuse again when the block ends
            self._store.append(key, digests, values)


@dataclass(slots=True, eq=False)
class _Held:
    """Rows of one key that wait, one behind the other, in memory that is used again: storing them copies nothing."""

    rows: NDArray[Any]
    digests: list[str]
    """Of the first rows; the rows behind them mean nothing."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> _Held:
        """Make room for ``FLUSH_BYTES``, and for one batch beyond it."""
        n = len(values) + FLUSH_BYTES // max(1, values.nbytes // len(values))
        return cls(np.empty((n, *values.shape[1:]), values.dtype), [])

    def has_room_for(self, values: NDArray[Any]) -> bool:
        fits = (values.shape[1:], values.dtype) == (self.rows.shape[1:], self.rows.dtype)
        return fits and len(self.digests) + len(values) <= len(self.rows)

    def is_full(self) -> bool:
        return len(self.digests) * (self.rows.nbytes // len(self.rows)) >= FLUSH_BYTES

    def take(self, digests: Sequence[str], values: NDArray[Any]) -> None:
        begin = len(self.digests)
        self.rows[begin : begin + len(values)] = values
        self.digests.extend(digests)
