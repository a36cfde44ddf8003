"""Draw some of the samples: in which order, and how many can be looked at in the time that there is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thawline.data.scan import Scan, scan
from thawline.data.sources import SubsetSource
from thawline.inputs import kind_of
from thawline.randomness import generator
from thawline.records import PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thawline.data.scan_store import ScanStore
    from thawline.listening import Progress
    from thawline.records import Source

FEWEST_OF_A_CLASS = 10
"""Samples for each class, on average, that are read however little time there is; fewer would say nothing."""
ALWAYS = 3
"""Samples of a class (in each given set) that come before all others: one to train, one to test, and one more."""
LEAST_READABLE = 2
"""Of these three, how many must be readable."""
_LEAST_AT_ONCE = 16
_OVER = 0.1
"""Share of the time; when less is left, reading stops."""


class Hurry(NamedTuple):
    """How many samples need be looked at, at most."""

    within: float | None = None
    """Seconds that looking at them may take."""
    most: int | None = None
    """How many, at most."""
    seed: int = 0


def places(strata: NDArray[np.int64], rng: np.random.Generator, *, first: int = 1) -> NDArray[np.float64]:
    """Draw the place of each sample among those of its stratum; (n,) from 0 to 1.

    Taking samples in the order of their places takes them from every stratum in proportion.

    Args:
        strata: (n,) equal numbers for samples of one class, for instance.
        first: How many samples of each stratum have place 0.
    """
    found = np.empty(len(strata))
    for stratum in np.unique(strata):
        own = rng.permutation(np.flatnonzero(strata == stratum))
        found[own] = np.maximum(np.arange(len(own)) - (first - 1), 0) / len(own)
    return found


def opening_order(
    labels: NDArray[np.int64], given: Sequence[str] | NDArray[np.str_] | None, seed: int
) -> tuple[NDArray[np.int64], int]:
    """Return row numbers (n,) in the order in which samples are opened, and how many are opened in any case."""
    place = places(_strata(labels, given), generator(seed, "opening"), first=ALWAYS)
    return np.argsort(place, kind="stable"), int(np.count_nonzero(place == 0))


def _strata(labels: NDArray[np.int64], given: Sequence[str] | NDArray[np.str_] | None) -> NDArray[np.int64]:
    """Return (n,) equal numbers for samples of one class and one given set."""
    return labels if given is None else len(PARTS) * labels + np.unique(np.asarray(given), return_inverse=True)[1]


def look(
    source: Source,
    labels: NDArray[np.int64],
    given: Sequence[str] | None,
    hurry: Hurry,
    *,
    kind: str = "image",
    store: ScanStore | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.int64], Scan]:
    """Look at all samples, or at as many as ``hurry`` allows; return their sorted row numbers, and what was seen.

    If too few samples of a class can be read, all samples are looked at after all.

    Args:
        labels: (N,)
        given: (N,) train, val or test, if the data come already split.
    """
    n = len(source)
    if hurry.within is None and (hurry.most is None or hurry.most >= n):
        return np.arange(n), scan(source, kind=kind, store=store, progress=progress)
    (order, least), strata = opening_order(labels, given, hurry.seed), _strata(labels, given)
    most = n if hurry.most is None else min(max(hurry.most, least), n)
    if hurry.within is not None:
        least = min(max(least, FEWEST_OF_A_CLASS * len(np.unique(labels))), most)
    digests, sketches, failures = [""] * n, np.zeros((n, *kind_of(kind).SKETCH_SHAPE), dtype=np.uint8), dict[int, str]()
    extras: dict[int, bytes] = {}
    began, taken = time.monotonic(), 0
    if progress is not None:
        progress(0, n)
    while size := _next(taken, time.monotonic() - began, hurry.within, least, most):
        rows = order[taken : taken + size]
        seen = scan(SubsetSource(source, rows), kind=kind, store=store)
        sketches[rows] = seen.sketches
        for row, digest in zip(rows, seen.digests, strict=True):
            digests[row] = digest
        failures |= {int(rows[at]): why for at, why in seen.failures.items()}
        extras |= {int(rows[at]): extra for at, extra in seen.extras.items()}
        taken += len(rows)
        if progress is not None:
            progress(taken, n)
    if progress is not None:
        progress(taken, taken)
    readable = strata[[row for row in order[:taken] if row not in failures]]
    wanted = np.minimum(np.bincount(strata), LEAST_READABLE)
    if (np.bincount(readable, minlength=len(wanted)) < wanted).any():
        return look(source, labels, given, Hurry(), kind=kind, store=store, progress=progress)
    return np.sort(order[:taken]), Scan(tuple(digests), sketches, failures, extras)


def _next(taken: int, took: float, within: float | None, least: int, most: int) -> int:
    """Return how many to look at next, half of what seems to fit in the time left; 0 if it was enough."""
    if within is None:
        return most - taken
    if taken < least:
        return least - taken
    left = within - took
    if left < _OVER * within:
        return 0
    return min(max(int(left / 2 * taken / max(took, 1e-9)), _LEAST_AT_ONCE), most - taken)
