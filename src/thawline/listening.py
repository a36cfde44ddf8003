"""Who hears of progress. Importing this module loads nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from thawline.records import Dataset
    from thawline.training_records import Evaluated

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


class Listener(Watcher, Protocol):
    """Hears of the data and of training, too; the command line draws bars from it."""

    def found(self, data: Dataset) -> None:
        """The data are open: a wrong reading of them can be seen before the work begins."""
        ...

    def evaluated(self, row: Evaluated) -> None:
        """One evaluation while a stage trains."""
        ...


class Silent:
    """Hears everything, a training's evaluations too, and says nothing."""

    def found(self, data: Dataset) -> None:
        """Ignore it."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def evaluated(self, row: Evaluated) -> None:
        """Ignore it."""


class ProgressOnly(Silent):
    """Tells a function of progress, and of nothing else."""

    def __init__(self, told: Callable[[str, int, int], None]) -> None:
        self._told = told

    def progress(self, phase: str, done: int, total: int) -> None:
        """Call the function."""
        self._told(phase, done, total)
