"""The command line, run inside the test's own process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import thawline as tl
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


@pytest.fixture(scope="session")
def _finished_run(tmp_path_factory: pytest.TempPathFactory, _tiny_photos: Path) -> Path:
    return tl.fit(_tiny_photos, run=tmp_path_factory.mktemp("cli") / "run").folder


@pytest.fixture
def run_folder(_finished_run: Path, tmp_path: Path) -> Path:
    """A finished run on the tiny photos; yours to break."""
    return Path(shutil.copytree(_finished_run, tmp_path / "finished"))
