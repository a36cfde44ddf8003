"""A finished run: what its folder says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.errors import RunError
from thawline.records import Score
from thawline.runs.folder import METRICS, PLAN, REPORT, SEEN, require_complete

if TYPE_CHECKING:
    from thawline.bundles import Bundle
    from thawline.planning import FitPlan

FORMAT = 1


@dataclass(frozen=True)
class RunReport:
    """The numbers of a run, as ``metrics.json`` holds them and ``fit --json`` prints them."""

    content: dict[str, Any]

    def score(self, name: str, part: str = "test") -> Score:
        """One metric with its interval, such as ``score("macro_f1")``."""
        metric = self.content[part][name]
        return Score(name, metric["value"], (metric["ci95"][0], metric["ci95"][1]), metric["n"])

    @property
    def accuracy(self) -> Score:
        """Share of test samples whose most probable class is the true one."""
        return self.score("accuracy")

    @property
    def balanced_accuracy(self) -> Score:
        """Mean recall over the classes."""
        return self.score("balanced_accuracy")

    @property
    def macro_f1(self) -> Score:
        """Mean F1 over the classes."""
        return self.score("macro_f1")

    @property
    def log_loss(self) -> Score:
        """Mean negative log probability of the true class, in nats."""
        return self.score("log_loss")

    @property
    def verdict(self) -> str:
        """One sentence: what was reached, and whether the pre-trained model was worth it."""
        return str(self.content["verdict"])


@dataclass(frozen=True)
class Run:
    """A run folder, opened."""

    folder: Path
    report: RunReport

    @cached_property
    def bundle(self) -> Bundle:
        """The model that ships, loaded from the folder."""
        from thawline.bundles import load_bundle

        return load_bundle(self.folder)

    @cached_property
    def plan(self) -> FitPlan:
        """What was decided before the run."""
        from thawline.planning import read_plan

        return read_plan(self.folder / PLAN)

    @cached_property
    def seen(self) -> frozenset[str]:
        """SHA-256 of every sample that the model or its settings learned from."""
        return frozenset((self.folder / SEEN).read_text(encoding="utf-8").split())

    @property
    def report_path(self) -> Path:
        """The report for people."""
        return self.folder / REPORT

    def to_json(self) -> dict[str, Any]:
        """The object that ``thawline fit --json`` prints."""
        return {"run": str(self.folder)} | {k: v for k, v in self.report.content.items() if k not in _DETAILS}


_DETAILS = ("format", "thawline", "per_class", "confusion")
"""Kept in ``metrics.json``, left out of ``--json``."""


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunError: Incomplete, unreadable, or from a newer version.
    """
    folder = Path(folder)
    require_complete(folder)
    try:
        content = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        written = content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / METRICS} must be readable JSON with a format; copy the run folder again.") from error
    if written != FORMAT:
        raise RunError(
            f"{folder / METRICS} must have format {FORMAT}, which this version of Thawline reads; got {written!r}. "
            "It was written by another version: upgrade with `pip install -U thawline`."
        )
    return Run(folder, RunReport(content))
