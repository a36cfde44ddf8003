"""What every executor promises."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs steps over items; the caller does not know where."""

    def pipelined(
        self,
        items: Sequence[Item],
        prepare: Callable[[Item], Prepared],
        run: Callable[[list[Prepared]], Result],
        *,
        batch_size: int,
        workers: int | None = None,
    ) -> Generator[tuple[Sequence[Item], Result]]:
        """Prepare items side by side while batches of them run, in order.

        Args:
            items: What to work on.
            prepare: Called once for each item, from several threads; should release the interpreter lock.
            run: Called with up to ``batch_size`` prepared items, one call at a time, in the thread that iterates.
            workers: Threads that prepare; by default one for each usable processor, from 2 to 8.
        Returns:
            A generator of (the items of a batch, what ``run`` gave for them). Memory does not grow with the number of
            items. Closing the generator stops the work: wrap it in ``contextlib.closing``.
        Raises:
            Whatever a step raises, with a note that names the position of the item or batch.
        """
        ...
