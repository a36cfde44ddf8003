"""A run that is stopped: how a request to end is heard, and what the user is told then."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thawline.signals import interrupt_when_heard

_GO_ON = "The run is kept as far as it came; go on with: thawline fit --resume "


class Terminated(KeyboardInterrupt):
    """SIGTERM came: a scheduler, or the machine going down, asks the process to end."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM raise Terminated while the block runs, so that it ends a run as tidily as Ctrl-C does.

    Signals belong to the main thread; a program with a handler of its own keeps it.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt_when_heard(Terminated))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def note_how_to_go_on(error: BaseException, run: Path) -> None:
    """Leave with the error, where tracebacks show it too, the command that goes on with the run."""
    error.add_note(_GO_ON + shlex.quote(str(run)))


def how_to_go_on(error: BaseException) -> str | None:
    """The sentence that ``note_how_to_go_on`` left."""
    return next((note for note in getattr(error, "__notes__", ()) if note.startswith(_GO_ON)), None)
