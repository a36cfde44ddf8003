"""Who hears of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    pass


class Watcher(Protocol):
    """Hears what is being measured."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """``done`` of ``total`` in a phase."""
        ...

    def note(self, text: str) -> None:
        """One sentence that the user should see."""
        ...


class Silent:
    """Hears and says nothing."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""
