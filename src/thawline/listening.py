"""Who hears of progress. Importing this module loads nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


class Watcher(Protocol):
    """Hears of progress and of remarks."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """``done`` of ``total`` in a phase: reading, features, measuring heads, or the name of a stage that trains."""
        ...

    def note(self, text: str) -> None:
        """One sentence that the user should see."""
        ...


class Silent:
    """Hears everything, a training's evaluations too, and says nothing."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def evaluated(self, row: object) -> None:
        """Ignore it."""
