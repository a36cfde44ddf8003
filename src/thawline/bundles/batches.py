"""Run an engine over samples as they come: each is read and prepared once, and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thawline.errors import UndecodableError
from thawline.scale import executor
from thawline.scale.allocator import share_one_arena

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.engines.choices import Engine

BATCH_SIZE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What a few samples gave."""

    size: int
    """Samples, readable or not."""
    rows: list[int]
    """Numbers of the samples that could be read."""
    values: NDArray[np.float32]
    """(len(rows), D)"""
    failures: list[tuple[int, str]]
    """(number, reason) of each sample that could not be read."""


def run_batches(engine: Engine, n: int, prepare: Callable[[int], NDArray[np.uint8]]) -> Generator[Batch]:
    """Prepare and run ``n`` samples, in order. Memory stays flat, however many there are.

    An engine that runs batches side by side gets two threads for each of them, and each thread prepares what it runs:
    while one waits for the interpreter, another has work. For any other engine, threads prepare ahead of it.

    Args:
        prepare: Takes the number of a sample, and gives what the engine takes; called from several threads. Raises
            UndecodableError with the reason if the sample cannot be read.
    """
    share_one_arena()
    size = min(BATCH_SIZE, engine.at_once or BATCH_SIZE)

    def one(number: int) -> NDArray[np.uint8] | str:
        try:
            return prepare(number)
        except UndecodableError as error:
            return str(error)

    def run(numbers: Sequence[int], prepared: Sequence[NDArray[np.uint8] | str]) -> Batch:
        found = [(i, array) for i, array in zip(numbers, prepared, strict=True) if not isinstance(array, str)]
        failures = [(i, reason) for i, reason in zip(numbers, prepared, strict=True) if isinstance(reason, str)]
        values = engine.run(np.stack([array for _, array in found])) if found else np.empty((0, 0), np.float32)
        return Batch(len(numbers), [i for i, _ in found], values, failures)

    if engine.workers == 1:
        ahead = executor().pipelined(range(n), lambda i: (i, one(i)), list, batch_size=BATCH_SIZE)
        with closing(ahead):
            for numbers, pairs in ahead:
                yield run(numbers, [array for _, array in pairs])
        return
    chunks = [range(start, min(start + size, n)) for start in range(0, n, size)]
    side_by_side = executor().pipelined(
        chunks, lambda chunk: run(chunk, [one(i) for i in chunk]), list, batch_size=1, workers=2 * engine.workers
    )
    with closing(side_by_side):
        for _, (batch,) in side_by_side:
            yield batch


def in_blocks(arrays: Iterable[NDArray[np.float32]], size: int) -> Generator[NDArray[np.float32]]:
    """Yield the rows of (n, D) arrays again, ``size`` at a time; the last block may be shorter."""
    kept: list[NDArray[np.float32]] = []
    for array in arrays:
        kept.append(array)
        while sum(map(len, kept)) >= size:
            rows = np.concatenate(kept)
            yield rows[:size]
            kept = [rows[size:]] if len(rows) > size else []
    if kept:
        yield np.concatenate(kept)
