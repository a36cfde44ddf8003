"""Turn Ctrl-C and a request to end into an exception, but not inside code that would lose it."""

from __future__ import annotations

import copyreg
import os
import threading
from collections.abc import Callable
from types import FrameType

_DEAF = ("<frozen importlib._bootstrap>", copyreg.__file__)
"""Files whose code does not pass an exception on as it came. Libraries call Python from C++ while they load, and either
swallow what is raised there or end the process at once (torch: "terminate called"). copyreg, which every deep copy
calls, catches everything."""

_AGAIN_S = 0.05


def interrupt_when_heard(interruption: type[KeyboardInterrupt]) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that raises the interruption, but not within an import or other deaf code.

    An exception raised there would be lost, and the command would continue or leave half of what it wrote. The handler
    sends the signal again every 0.05 s instead, until that code has ended.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename in _DEAF:
                again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
                again.daemon = True
                again.start()
                return
            frame = frame.f_back
        raise interruption

    return handle
