"""Run an engine over samples as they come: each is read and prepared once, and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thawline.engines.batches import run_batches, run_whole
from thawline.errors import UndecodableError
from thawline.scale.allocator import share_one_arena

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.engines.choices import Engine

BATCH_SIZE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a few samples gave."""

    rows: list[int]
    """Numbers of the samples that could be read."""
    values: NDArray[np.float32]
    """(len(rows), D)"""
    failures: list[tuple[int, str]]
    """(number, reason) of each sample that could not be read."""

    def __len__(self) -> int:
        return len(self.rows) + len(self.failures)


def run_over(engine: Engine, n: int, prepare: Callable[[int], NDArray[np.uint8]]) -> Generator[Batch]:
    """Prepare and run ``n`` samples, in order. Memory does not grow with their number.

    Args:
        prepare: Takes the number of a sample, and gives what the engine takes; called from several threads. Raises
            UndecodableError with the reason if the sample cannot be read.
    """
    share_one_arena()

    def one(number: int) -> NDArray[np.uint8] | str:
        try:
            return prepare(number)
        except UndecodableError as error:
            return str(error)

    def run(numbers: Sequence[int], prepared: Sequence[NDArray[np.uint8] | str]) -> Batch:
        found = [(i, array) for i, array in zip(numbers, prepared, strict=True) if not isinstance(array, str)]
        failures = [(i, reason) for i, reason in zip(numbers, prepared, strict=True) if isinstance(reason, str)]
        values = run_whole(engine, [array for _, array in found]) if found else np.empty((0, 0), np.float32)
        return Batch([i for i, _ in found], values, failures)

    batches = run_batches(engine, range(n), one, run, batch_size=BATCH_SIZE)
    with closing(batches):
        for _, batch in batches:
            yield batch


def in_blocks(arrays: Iterable[NDArray[np.float32]], size: int) -> Generator[NDArray[np.float32]]:
    """Yield the rows of (n, D) arrays again, ``size`` at a time; the last block may be shorter."""
    kept: list[NDArray[np.float32]] = []
    n = 0
    for array in arrays:
        kept.append(array)
        n += len(array)
        if n >= size:
            rows = np.concatenate(kept)
            whole = n - n % size
            for start in range(0, whole, size):
                yield rows[start : start + size]
            kept, n = [rows[whole:]], n - whole
    if n:
        yield np.concatenate(kept)
