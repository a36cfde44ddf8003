"""Ctrl-C and a request to end arrive between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class HeldInterrupts:
    """While this context is open, the first interrupt only sets a flag; the second one acts at once.

    Python can stop a program at any instruction, such as between the update of two tensors: what would be saved then is
    no state that training ever passes through.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._number is not None

    def act(self) -> None:
        """Do now what the held interrupt would have done; raises KeyboardInterrupt for Ctrl-C."""
        number = self._number
        if number is None:
            return
        handler: Callable[[int, FrameType | None], Any] | int | None = self._before.get(number)
        self._restore()
        if callable(handler):
            handler(number, None)
        raise KeyboardInterrupt  # a handler that returned, or none of Python's own: stop all the same

    def __enter__(self) -> HeldInterrupts:
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            # a signal that is ignored (nohup) stays so; what another language has set cannot be put back
            handlers = {number: signal.getsignal(number) for number in _SIGNALS}
            self._before = {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._hold)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if error is None:
            self.act()

    def _hold(self, number: int, _frame: FrameType | None) -> None:
        self._number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
