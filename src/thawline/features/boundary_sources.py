"""The origins of missing rows of a boundary: the samples, or stored rows of a lower line."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from thawline.features.activations import FrozenPart, PreparedViews
from thawline.features.layout import empty_rows, from_store, to_store
from thawline.inputs import kind_of
from thawline.scale import executor
from thawline.store.index import Rows

Pair = tuple[int, "int | None"]
"""Row of the samples, and number of the view or None for the picture itself."""
Made = Generator[tuple[list[Pair], NDArray[Any]]]
"""A batch of pairs at a time, and their rows (B, n) as the store takes them."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Which views of which samples are to be made."""

    rows: NDArray[np.int64]
    """(n,) of the samples."""
    views: tuple[int | None, ...]
    mask: NDArray[np.bool_]
    """(n, n_views)"""

    def __len__(self) -> int:
        return int(self.mask.sum())

    def views_of(self, place: int) -> list[int | None]:
        """List the wanted views of one of ``rows``."""
        return [view for view, wanted in zip(self.views, self.mask[place], strict=True) if wanted]

    def stored(self, found: Mapping[int | None, Rows]) -> Wanted:
        """Keep those that were found under another key."""
        there = [
            found[view].found[self.rows] if view in found else np.zeros(len(self.rows), np.bool_) for view in self.views
        ]
        return replace(self, mask=self.mask & np.stack(there, axis=1))

    def without(self, others: Wanted) -> Wanted:
        """Leave out others."""
        return replace(self, mask=self.mask & ~others.mask)

    def first(self, n: int) -> Wanted:
        """Keep at most ``n``."""
        return replace(self, mask=self.mask & (np.cumsum(self.mask).reshape(self.mask.shape) <= n))


class Origin(Protocol):
    """Makes rows."""

    @property
    def name(self) -> str: ...

    def make(self, wanted: Wanted) -> Made:
        """Make rows in any order; memory stays flat. Wrap it in ``contextlib.closing``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FromSamples:
    """Decodes each sample once for all its views, and runs everything below the line."""

    prepared: PreparedViews
    part: FrozenPart

    @property
    def name(self) -> str:
        return f"{kind_of(self.prepared.preparation.kind).NOUN}s"

    def make(self, wanted: Wanted) -> Made:
        """See ``Origin.make``."""

        def decode(place: int) -> torch.Tensor:
            return self.prepared.read(int(wanted.rows[place]), wanted.views_of(place))

        places = np.flatnonzero(wanted.mask.any(axis=1)).tolist()
        # A sample is decoded once for all its views, however many are wanted of it: rows wait until a batch is full.
        batch = self.part.at_once
        at_once = max(1, batch // len(wanted.views))
        pairs: list[Pair] = []
        ready = empty_rows(0, self.part.start)
        with closing(executor().pipelined(places, decode, torch.cat, batch_size=at_once)) as decoded:
            for done, pixels in decoded:
                pairs += [(int(wanted.rows[place]), view) for place in done for view in wanted.views_of(place)]
                ready = torch.cat([ready, pixels])
                while len(pairs) >= batch:
                    yield pairs[:batch], to_store(self.part.run(ready[:batch]))
                    pairs, ready = pairs[batch:], ready[batch:]
        if pairs:
            yield pairs, to_store(self.part.run(ready))


@dataclass(frozen=True, slots=True, eq=False)
class FromLine:
    """Reads the rows of a lower line, and runs the layers from there."""

    name: str
    """The lower rung."""
    stretch: FrozenPart
    found: Mapping[int | None, Rows]
    """For each view that is stored there: where each of the samples lies."""

    def make(self, wanted: Wanted) -> Made:
        """See ``Origin.make``."""
        chosen = np.flatnonzero(wanted.mask.T)  # one view after the other: each is read from shards of its own
        batch = self.stretch.at_once

        def pairs_from(start: int) -> list[Pair]:
            places = (divmod(int(at), len(wanted.rows)) for at in chosen[start : start + batch])
            return [(int(wanted.rows[place]), wanted.views[view]) for view, place in places]

        def read(start: int) -> torch.Tensor:
            groups = groupby(pairs_from(start), key=itemgetter(1))
            parts = [self.found[view].read(np.array([row for row, _ in group])) for view, group in groups]
            return from_store(np.concatenate(parts))

        starts = range(0, len(chosen), batch)
        run = executor().pipelined(starts, read, lambda rows: self.stretch.run(rows[0]), batch_size=1)
        with closing(run) as done:
            for [start], made in done:
                yield pairs_from(start), to_store(made)


def pays(line: Origin, pictures: Origin, trial: Wanted) -> bool:
    """Try on a few samples whether stored rows of a lower line give the same bits as the samples, and sooner."""
    # Bits, not closeness: rows of both origins are stored under one key, and training must not depend on which of them
    # came first.
    (expected, longer), (found, shorter) = _tried(pictures, trial), _tried(line, trial)
    return expected == found and shorter < longer


def _tried(origin: Origin, trial: Wanted) -> tuple[dict[Pair, bytes], float]:
    """(bytes of each row, seconds)"""
    # The first run chooses kernels and takes memory; only the second one tells how long the work takes.
    for _ in range(2):
        started = time.perf_counter()
        with closing(origin.make(trial)) as parts:
            made = {pair: row.tobytes() for pairs, rows in parts for pair, row in zip(pairs, rows, strict=True)}
        seconds = time.perf_counter() - started
    return made, seconds
