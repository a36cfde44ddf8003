"""How Ctrl-C and a request to end become an exception: where it is heard, never where it is lost."""

from __future__ import annotations

import copyreg
import os
import threading
from collections.abc import Callable
from types import FrameType

_DEAF = ("<frozen importlib._bootstrap>", copyreg.__file__)
"""Code that an exception does not leave as it came. Libraries that load call Python from C++, and what is raised there
they swallow, or it ends the process at once (torch: "terminate called"); copyreg, which every deep copy calls, has an
``except`` for all there is."""

_AGAIN_S = 0.05


def interrupt_when_heard(interruption: type[KeyboardInterrupt]) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that raises the interruption, but not within an import or another deaf piece of code.

    There the command would go on as if nobody had asked, or leave half of what it wrote; so the signal is sent again
    every 0.05 s until that code has ended.
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
