"""A finished run, read from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.errors import RunError
from thawline.records import Score
from thawline.runs.folder import LOAD_RECEIPT, METRICS, PLAN, REPORT, SEEN, require_complete

if TYPE_CHECKING:
    from thawline.backbones import LoadReceipt
    from thawline.bundles import Bundle
    from thawline.planning import FitPlan

FORMAT = 1
PROBE = "a new linear head on the frozen model"
"""What the baseline ``probe`` is, which stands beside the others when something was thawed."""


@dataclass(frozen=True)
class RunReport:
    """The numbers of a run, as ``metrics.json`` holds them and ``fit --json`` prints them."""

    content: dict[str, Any]

    def __repr__(self) -> str:
        return f"RunReport(accuracy {self.accuracy})"

    def score(self, name: str, part: str = "test") -> Score:
        """Return one metric with its interval, such as ``score("macro_f1")``."""
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

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: thaw {self.report.content['thaw']}, accuracy {self.report.accuracy})"

    def _repr_html_(self) -> str:
        """Show the verdict and the accuracy beside the simpler methods, for notebooks."""
        from thawline.evaluation.baselines import GUIDES, METHODS
        from thawline.showing import card, counted, few, table_html

        content, accuracy = self.report.content, self.report.accuracy
        n, classes = content["n"], content["classes"]
        titles = METHODS | GUIDES | {"probe": PROBE}
        rows = [method_row("this model", content["test"])]
        rows += [method_row(titles.get(name, name), metrics) for name, metrics in content["baselines"].items()]
        return card(
            f"Run {self.folder}",
            (
                self.report.verdict,
                f"Accuracy {100 * accuracy.value:.1f} % on the test set (95 % interval {_percents(accuracy.ci95)}).",
                f"{counted(len(classes), 'class', 'classes')} ({few(classes)}): {n['train']:,} training, "
                f"{n['val']:,} validation, {n['test']:,} test samples.",
                f"Report: {self.report_path}",
            ),
            table_html(METHOD_COLUMNS, rows),
        )

    @cached_property
    def bundle(self) -> Bundle:
        """The model that ships, loaded from the run folder."""
        from thawline.bundles import load_bundle

        return load_bundle(self.folder)

    @cached_property
    def plan(self) -> FitPlan:
        """The plan that the run carried out."""
        from thawline.planning import read_plan

        return read_plan(self.folder / PLAN)

    @cached_property
    def load_receipt(self) -> LoadReceipt | None:
        """What became of each tensor of the weights that the run began with; None if an earlier release wrote it."""
        from thawline.backbones.load_receipt import receipt_from_json

        path = self.folder / LOAD_RECEIPT
        return receipt_from_json(json.loads(path.read_bytes())) if path.is_file() else None

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


METHOD_COLUMNS = ("on the test set", "accuracy", "95 % interval", "macro F1", "log loss")


def method_row(title: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one method as a row below ``METHOD_COLUMNS``."""
    accuracy, f1, loss = (metrics[name] for name in ("accuracy", "macro_f1", "log_loss"))
    values = f"{100 * accuracy['value']:.1f} %", _percents(accuracy["ci95"]), f"{100 * f1['value']:.1f} %"
    return (title, *values, f"{loss['value']:.3f}")


def _percents(ci95: Sequence[float]) -> str:
    return f"{100 * ci95[0]:.1f} to {100 * ci95[1]:.1f} %"


_DETAILS = ("format", "thawline", "per_class", "confusion")
"""Keys that ``metrics.json`` holds and ``--json`` leaves out."""


def open_run(folder: str | Path) -> Run:
    """Open a finished run folder.

    Raises:
        RunError: Incomplete, unreadable, or from a newer version.
    """
    folder = Path(folder)
    require_complete(folder)
    try:
        content = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        written = content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / METRICS} is damaged. Copy the run folder again.") from error
    if written != FORMAT:
        raise RunError(
            f"{folder / METRICS} must have format {FORMAT}, which this version reads; got {written!r}. "
            "A newer version of Thawline wrote it: upgrade with `pip install -U thawline`."
        )
    return Run(folder, RunReport(content))
