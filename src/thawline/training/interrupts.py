"""Let Ctrl-C and SIGTERM act between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class HeldInterrupts:
    """Holds the first interrupt back while this context is open; the second one acts at once.

    Python can stop a program at any instruction, such as between the updates of two tensors. A checkpoint written then
    would hold a state that training never passes through.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Say whether the user asked to stop."""
        return self._number is not None

    def act(self) -> None:
        """Do what the held interrupt would have done; raises KeyboardInterrupt for Ctrl-C. Without one, do nothing."""
        number = self._number
        if number is None:
            return
        handler: Callable[[int, FrameType | None], Any] | int | None = self._before.get(number)
        self._restore()
        if callable(handler):
            handler(number, None)
        raise KeyboardInterrupt  # the handler returned, or was none of Python's own: stop nevertheless

    def __enter__(self) -> HeldInterrupts:
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            # A signal that is ignored (nohup) stays ignored. A handler that was not set from Python cannot be put back.
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
