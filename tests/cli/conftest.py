"""The command line, run inside the test's own process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from thawline.cli.app import app
from thawline.cli.console import console


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output is one JSON object and nothing else."""
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _a_terminal_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred columns; and no width that an earlier test has left in the console, which is kept for a process."""
    monkeypatch.setenv("COLUMNS", "100")
    console.cache_clear()


@pytest.fixture
def thawline() -> Callable[..., Answer]:
    def run(*arguments: object) -> Answer:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return Answer(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def run_folder(finished_run: Path) -> Path:
    return finished_run
