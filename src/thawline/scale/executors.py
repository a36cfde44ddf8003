"""What every executor promises."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

from thawline.listening import Progress

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")
Opened = TypeVar("Opened")


class Job(Protocol[Opened]):
    """A piece of work as a record of plain values, which any process can open and run."""

    def open(self) -> Opened:
        """Open everything that the record names."""
        ...

    def run(self, opened: Opened, progress: Progress | None = None) -> None:
        """Do the work; its results go where the record says."""
        ...


class Executor(Protocol):
    """Runs jobs, and steps over items; the caller does not know where."""

    def run(self, job: Job[Opened], opened: Opened | None = None, *, progress: Progress | None = None) -> None:
        """Run a job and wait for its end.

        Args:
            opened: What ``job.open()`` would give, if this process has it open already.
            progress: Called with (done, total) as the job goes on.
        Raises:
            Whatever the job raises.
        """
        ...

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
