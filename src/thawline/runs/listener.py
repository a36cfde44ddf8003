"""Listeners of a run: its log ``events.jsonl``, curves for TensorBoard, and two listeners as one."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.errors import UsageError
from thawline.naming import as_json
from thawline.scale.disk import utf8_path

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from thawline.listening import Listener
    from thawline.records import Dataset
    from thawline.training_records import Evaluated

_PROGRESS_S = 10.0
"""Seconds between lines of progress: a run that is killed loses at most so many from its count of seconds."""


class Both:
    """Tells two listeners, the first one first."""

    def __init__(self, first: Listener, second: Listener) -> None:
        self._listeners = first, second

    def found(self, data: Dataset) -> None:
        for listener in self._listeners:
            listener.found(data)

    def progress(self, phase: str, done: int, total: int) -> None:
        for listener in self._listeners:
            listener.progress(phase, done, total)

    def note(self, text: str) -> None:
        for listener in self._listeners:
            listener.note(text)

    def evaluated(self, row: Evaluated) -> None:
        for listener in self._listeners:
            listener.evaluated(row)


class EventLog:
    """A listener that writes JSON lines, each flushed at once: a crash loses none.

    On the log of a run that was stopped, it appends; ``seconds`` counts the work of all sessions.
    """

    def __init__(self, path: Path, *, spent_s: float = 0.0, tensorboard: Path | None = None) -> None:
        """Open a log.

        Args:
            path: The file, new or of the same run.
            spent_s: Seconds of this session before the log could be opened.
            tensorboard: Folder for TensorBoard's curves; None writes none.
        """
        self._curves = None if tensorboard is None else Curves(tensorboard)
        self.earlier_s = _mend(path)
        """Seconds of the sessions before this one."""
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._start = self._last_progress = time.monotonic()
        self._offset = self.earlier_s + spent_s

    def write(self, event: str, **fields: Any) -> None:
        """Write one line."""
        line = {"seconds": round(self._offset + time.monotonic() - self._start, 3), "event": event, **fields}
        self._file.write(as_json(line) + "\n")

    def found(self, data: Dataset) -> None:
        """Write nothing: the event that begins the work says what it needs."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """Write a line, at most one every ten seconds."""
        if time.monotonic() - self._last_progress > _PROGRESS_S:
            self._last_progress = time.monotonic()
            self.write("progress", phase=phase, done=done, total=total)

    def note(self, text: str) -> None:
        self.write("note", text=text)

    def evaluated(self, row: Evaluated) -> None:
        self.write("evaluation", **asdict(row))
        if self._curves is not None:
            self._curves.evaluated(row)

    def close(self) -> None:
        self._file.close()
        if self._curves is not None:
            self._curves.close()


class Curves:
    """Mirrors evaluations to TensorBoard: losses, accuracy, learning rate and speed of each stage."""

    def __init__(self, folder: Path) -> None:
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(exist_ok=True)
        self._open = ExitStack()
        self._writer: SummaryWriter = SummaryWriter(str(self._open.enter_context(utf8_path(folder))))

    def evaluated(self, row: Evaluated) -> None:
        values = {
            "train_loss": row.train_loss,
            "val_loss": row.val_loss,
            "val_accuracy": row.val_accuracy,
            "lr": row.lr,
            "samples_per_s": row.samples_per_s,
        }
        for name, value in values.items():
            if value is not None:
                tag = f"{row.stage_number:02d}_{row.stage}/{name}"
                self._writer.add_scalar(tag, value, row.step)

    def close(self) -> None:
        self._writer.close()
        self._open.close()


def check_tensorboard() -> None:
    """Refuse to write curves without the package for it, before any work is done.

    Raises:
        UsageError: The package is missing.
    """
    if find_spec("tensorboard") is None:
        raise UsageError(
            "--tensorboard needs the package tensorboard, which is not installed. "
            "Install it with `pip install 'thawline[tensorboard]'`, or leave --tensorboard out."
        )


def _mend(path: Path) -> float:
    """Cut off a half-written last line; return the seconds of the last whole line, 0 if there is none."""
    if not path.exists():
        return 0.0
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    try:
        return float(json.loads(whole.splitlines()[-1])["seconds"])
    except (IndexError, ValueError, KeyError, TypeError):
        return 0.0
