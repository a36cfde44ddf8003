"""Run steps in this process: threads prepare, the calling thread runs."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from thawline.listening import Progress
from thawline.scale.executors import Executor, Item, Job, Opened, Prepared, Result
from thawline.scale.processors import usable_processors

_AHEAD = 2
"""Batches, or items for each worker, that may be prepared or in preparation beside the batch that runs."""


def executor() -> Executor:
    """Return what runs steps here; rooms ask this and never start threads or processes of their own."""
    return LocalExecutor()


class LocalExecutor:
    """Overlaps preparing (decoding, resizing) with running (the network) inside one process."""

    def run(self, job: Job[Opened], opened: Opened | None = None, *, progress: Progress | None = None) -> None:
        """See ``Executor.run``."""
        job.run(job.open() if opened is None else opened, progress)

    def pipelined(
        self,
        items: Sequence[Item],
        prepare: Callable[[Item], Prepared],
        run: Callable[[list[Prepared]], Result],
        *,
        batch_size: int,
        workers: int | None = None,
    ) -> Generator[tuple[Sequence[Item], Result]]:
        """See ``Executor.pipelined``."""
        workers = workers or max(2, min(8, usable_processors()))
        pool = ThreadPoolExecutor(workers, thread_name_prefix="thawline-prepare")
        upcoming = iter(items)
        pending: deque[Future[Prepared]] = deque()

        def look_ahead(n: int) -> None:
            pending.extend(pool.submit(prepare, item) for item in itertools.islice(upcoming, n))

        try:
            look_ahead(_AHEAD * max(batch_size, workers))
            for start in range(0, len(items), batch_size):
                batch = items[start : start + batch_size]
                prepared = [_result(pending.popleft(), start + i) for i in range(len(batch))]
                look_ahead(batch_size)
                yield batch, _run(run, prepared, start)
        finally:
            # Not waiting keeps Ctrl-C prompt: a step that has begun ends by itself, the others never start.
            pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[Prepared], position: int) -> Prepared:
    try:
        return future.result()
    except Exception as error:
        error.add_note(f"while preparing item {position}")
        raise


def _run(run: Callable[[list[Prepared]], Result], prepared: list[Prepared], start: int) -> Result:
    try:
        return run(prepared)
    except Exception as error:
        error.add_note(f"while running items {start} to {start + len(prepared) - 1}")
        raise
