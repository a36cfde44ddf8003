"""What the verbs print: results on standard output, progress and remarks on standard error."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

import typer
from rich.console import Console
from rich.text import Text

from thawline.errors import ThawlineError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

P = ParamSpec("P")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def guarded(verb: Callable[P, None]) -> Callable[P, None]:
    """Wrap a verb so that errors become one sentence and the right exit code."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            verb(*args, **kwargs)
        except ThawlineError as error:
            _fail(error, as_json=bool(kwargs.get("json_")))
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            err.print("\nStopped. Nothing half-written was left; features computed so far stay in the cache.")
            raise typer.Exit(130) from error
        except BrokenPipeError as error:  # the reader of our output went away, as `head` does
            sys.stderr.close()
            raise typer.Exit(1) from error
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            traceback.print_exc()
            err.print(
                "\nThis is a defect in Thawline. Please report it with the lines above and the command you typed."
            )
            raise typer.Exit(1) from error

    return run


def _fail(error: ThawlineError, *, as_json: bool) -> None:
    err.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
    if as_json:
        print_json({"error": {"kind": type(error).__name__, "message": str(error)}})


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object, as the last and only thing on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


class BarListener:
    """Draws a progress bar per phase, with rate and time left, and prints remarks above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def progress(self, phase: str, done: int, total: int) -> None:
        """Move a phase's bar; the bar appears with the first call."""
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total, rate="")
        task = self._tasks[phase]
        if done == 0:
            self._progress.reset(task, total=total)
        speed = self._progress.tasks[task].speed
        self._progress.update(task, completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

    def note(self, text: str) -> None:
        """Print one sentence."""
        self._progress.console.print(Text.assemble(("note: ", "yellow"), text), soft_wrap=True)


class NoteListener:
    """Prints remarks only: for ``--quiet`` and ``--json``."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """Draw nothing."""

    def note(self, text: str) -> None:
        """Print one sentence."""
        err.print(Text.assemble(("note: ", "yellow"), text), soft_wrap=True)


@contextmanager
def listening(*, quiet: bool) -> Iterator[BarListener | NoteListener]:
    """Yield a listener that draws on standard error while the block runs."""
    if quiet:
        yield NoteListener()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=err) as progress:
        yield BarListener(progress)
