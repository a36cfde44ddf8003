"""A run that is stopped: how it hears SIGTERM, and how the error says to resume it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thawline.naming import shell_word
from thawline.scale.signals import interrupt_when_heard

_KEPT = "The run was kept; resume it with: thawline fit --resume "


class Terminated(KeyboardInterrupt):
    """SIGTERM: a scheduler, or a machine that shuts down, asks the process to end."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise Terminated on SIGTERM while the block runs: the run then ends as tidily as after Ctrl-C.

    Does nothing outside of the main thread, which alone receives signals, or if the program has its own handler.
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


def note_how_to_resume(error: BaseException, run: Path) -> None:
    """Add to the error, and so to its traceback, the command that resumes the run."""
    error.add_note(_KEPT + shell_word(run))


def how_to_resume(error: BaseException) -> str | None:
    """Return the sentence that ``note_how_to_resume`` added; None if there is none."""
    return next((note for note in getattr(error, "__notes__", ()) if note.startswith(_KEPT)), None)
