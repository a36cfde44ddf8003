"""Progress in a notebook: bars that appear there without being asked for, and nowhere else."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from thawline.listening import Silent

if TYPE_CHECKING:
    from thawline.listening import Listener
    from thawline.records import Dataset
    from thawline.training_records import Evaluated


def in_notebook() -> bool:
    """Say whether a Jupyter kernel runs this program; IPython in a terminal has no kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def default_listener() -> Listener:
    """Return who hears of progress when nobody was named: bars in a notebook, nobody in a script."""
    return Bars() if in_notebook() else Silent()


class Bars:
    """Draws one bar per phase, and prints remarks: widgets where ipywidgets is installed, else text."""

    def __init__(self) -> None:
        self._tqdm: Any = _bar_class()
        self._bars: dict[str, Any] = {}

    def found(self, data: Dataset) -> None:
        """Print how many samples of which classes there are."""
        self._tqdm.write(repr(data), file=sys.stdout)

    def progress(self, phase: str, done: int, total: int) -> None:
        """Move the bar of a phase; it appears with the first call, and stays when it is full."""
        bar = self._bars.get(phase)
        if bar is None:
            self._close_full_bars()
            bar = self._bars[phase] = self._tqdm(desc=phase, total=total, file=sys.stdout)
        if done < bar.n:
            bar.reset(total)
        bar.update(done - bar.n)

    def note(self, text: str) -> None:
        """Print one sentence above the bars."""
        self._tqdm.write(f"note: {text}", file=sys.stdout)

    def evaluated(self, row: Evaluated) -> None:
        """Show the newest losses beside the bar of the stage."""
        if (bar := self._bars.get(row.stage)) is None:
            return
        shown = {"training loss": row.train_loss, "validation loss": row.val_loss, "accuracy": row.val_accuracy}
        bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items() if value is not None})

    def _close_full_bars(self) -> None:
        """Let the bars of finished phases stand as they are; their stage may report until the next phase begins."""
        for phase in [phase for phase, bar in self._bars.items() if bar.n >= bar.total]:
            self._bars.pop(phase).close()


def _bar_class() -> Any:
    """Choose the kind of bar; ``tqdm.auto`` would warn where ipywidgets is missing."""
    if find_spec("ipywidgets") is None:
        from tqdm import tqdm as kind
    else:
        from tqdm.notebook import tqdm as kind
    return kind
