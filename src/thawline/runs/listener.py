"""How a run tells what it is doing: to a person while it runs, and to ``events.jsonl`` for good."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol


class Listener(Protocol):
    """Hears of progress and of remarks; the command line draws bars from it."""

    def progress(self, phase: str, done: int, total: int) -> None:
        """``done`` of ``total`` in a phase: reading, features."""
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


class EventLog:
    """JSON lines, each with the seconds since the log was opened, each flushed at once: a crash loses none."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._start = time.monotonic()

    def write(self, event: str, **fields: Any) -> None:
        line = {"seconds": round(time.monotonic() - self._start, 3), "event": event, **fields}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()
