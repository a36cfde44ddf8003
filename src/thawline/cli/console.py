"""Print results on standard output, progress and remarks on standard error.

Rich is loaded when something is printed, not before: ``thawline --help`` must be quick.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID
    from rich.text import Text

    from thawline.records import Dataset
    from thawline.training_records import Evaluated


@functools.cache
def console(*, stderr: bool) -> Console:
    """Return the console of a stream, be it a terminal, a file or a pipe."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def say(what: RenderableType, *, soft_wrap: bool = False) -> None:
    """Print a result; text may carry rich's markup."""
    console(stderr=False).print(what, soft_wrap=soft_wrap)


def remark(kind: str, style: str, text: str) -> None:
    """Print one sentence on standard error; it carries no markup."""
    from rich.text import Text

    from thawline.showing import visible

    console(stderr=True).print(Text.assemble((f"{kind}: ", style), visible(text)), soft_wrap=True)


def plain(text: object) -> str:
    """Escape text from outside: brackets in it are no markup, control characters do not reach the terminal."""
    from rich.markup import escape

    from thawline.showing import visible

    return escape(visible(text))


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object, as the last and only thing on standard output."""
    from thawline.naming import as_json

    text = as_json(value, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal of ASCII or Latin-1; JSON has its own way to write what it cannot show
        text = json.dumps(json.loads(text))
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class BarListener:
    """Draws a progress bar for each phase, with rate and time left, below remarks and the table of training."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._stages: set[str] = set()

    def progress(self, phase: str, done: int, total: int) -> None:
        """Move a phase's bar; the bar appears with the first call."""
        if phase not in self._tasks:
            self._hide_finished_stages()
            self._tasks[phase] = self._progress.add_task(phase, total=total, rate="")
        task = self._tasks[phase]
        if done < self._progress.tasks[task].completed or done == 0:
            self._progress.reset(task, total=total)
        speed = self._progress.tasks[task].speed
        self._progress.update(task, completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

    def found(self, data: Dataset) -> None:
        """Print how many samples of which classes there are; their notes come with the results."""
        from rich.text import Text

        from thawline.cli.found import found_in

        self._print(Text(found_in(data)))

    def note(self, text: str) -> None:
        """Print one sentence."""
        remark("note", "yellow", text)  # the bars share this console, which prints it above them

    def evaluated(self, row: Evaluated) -> None:
        """Print a row of the table of training; the first row comes with a header."""
        from rich.text import Text

        if not self._stages:
            self._print(Text(training_header(), style="bold"))
        self._stages.add(row.stage)
        self._print(Text(training_row(row)))

    def _print(self, line: Text) -> None:
        self._progress.console.print(line, soft_wrap=True)

    def _hide_finished_stages(self) -> None:
        """Hide the bars of stages that are over: their rows stay, and many bars would push the table out of sight."""
        for phase, task in self._tasks.items():
            if phase in self._stages and self._progress.tasks[task].finished:
                self._progress.update(task, visible=False)


class NoteListener:
    """Prints remarks only: for ``--quiet`` and ``--json``."""

    def found(self, data: Dataset) -> None:
        """Print nothing."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """Draw nothing."""

    def note(self, text: str) -> None:
        """Print one sentence."""
        remark("note", "yellow", text)

    def evaluated(self, row: Evaluated) -> None:
        """Print nothing."""


_STAGE_WIDTH = 30
_COLUMNS = {"epoch": 8, "train loss": 12, "val loss": 10, "val accuracy": 14, "samples/s": 11, "left": 9}
"""Widths; with that of the stage they make 94 columns."""


def training_header() -> str:
    """Return the names of the columns of ``training_row``."""
    return "stage".ljust(_STAGE_WIDTH) + "".join(name.rjust(width) for name, width in _COLUMNS.items())


def training_row(row: Evaluated) -> str:
    """Return one evaluation as a line of the table."""
    stage = f"{row.stage_number}/{row.n_stages} {row.stage}"
    values = (
        f"{row.epoch:.1f}",
        f"{row.train_loss:.4f}",
        "-" if row.val_loss is None else f"{row.val_loss:.4f}",
        "-" if row.val_accuracy is None else f"{row.val_accuracy:.3f}",
        f"{row.samples_per_s:,.0f}",
        str(timedelta(seconds=round(row.seconds_left))),
    )
    if len(stage) > _STAGE_WIDTH:
        stage = stage[: _STAGE_WIDTH - 3] + "..."
    cells = (value.rjust(width) for value, width in zip(values, _COLUMNS.values(), strict=True))
    return stage.ljust(_STAGE_WIDTH) + "".join(cells)


@contextmanager
def listening(*, quiet: bool) -> Iterator[BarListener | NoteListener]:
    """Yield a listener that draws on standard error while the block runs."""
    if quiet:
        yield NoteListener()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<9}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=console(stderr=True)) as progress:
        yield BarListener(progress)
