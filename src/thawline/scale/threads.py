"""Threads of this process: the only place that starts any, beside the pool of ``LocalExecutor``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def begin(work: Callable[[], object], *, name: str) -> None:
    """Run ``work`` in a thread that nobody waits for, except the end of the process.

    The thread is no daemon: a process that ends while a library is being loaded may crash.
    """
    threading.Thread(target=work, name=name).start()


@contextmanager
def meanwhile(work: Callable[[Callable[[], bool]], None], *, name: str) -> Iterator[None]:
    """Run ``work`` in one other thread for as long as the block lasts.

    Args:
        work: Takes a function that says whether the block is over; it must ask often, and then return. It must not
            raise: nobody would hear.
    """
    over = threading.Event()
    # A daemon: the block joins it, and a step that hangs must not keep a process that was told to end.
    thread = threading.Thread(target=work, args=(over.is_set,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def unless_over(seconds: float, work: Callable[[], object]) -> Iterator[None]:
    """Run ``work`` in another thread if the block lasts longer than so many seconds."""
    timer = threading.Timer(seconds, work)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Crew:
    """A fixed number of threads that work side by side, many times over, until the crew is closed."""

    def __init__(self, n: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(n, thread_name_prefix=name)

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Call ``work`` for each item; returns what it gave, in order. The first error is raised."""
        return list(self._pool.map(work, items))

    def close(self) -> None:
        """Wait for the work that has begun, and end the threads."""
        self._pool.shutdown()
