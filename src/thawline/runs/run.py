"""A finished run, read from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.errors import RunError
from thawline.evaluation.metric_words import SHOWN, interval, words_of, written
from thawline.records import OUTPUTS, Score, Target
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
        return f"RunReport({self.headline} {self.main})"

    def score(self, name: str, part: str = "test") -> Score:
        """Return one metric with its interval, such as ``score("macro_f1")``."""
        metric = self.content[part][name]
        return Score(name, metric["value"], (metric["ci95"][0], metric["ci95"][1]), metric["n"])

    @property
    def target(self) -> Target:
        """What was learned of each sample."""
        target: Target = self.content.get("target", "class")
        return target

    @property
    def headline(self) -> str:
        """Name of the metric that stands for all: accuracy, of labels ``micro_f1``, of numbers ``r2``."""
        return str(self.content.get("headline", "accuracy"))

    @property
    def main(self) -> Score:
        """The metric that stands for all."""
        return self.score(self.headline)

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
        return (
            f"Run({str(self.folder)!r}: thaw {self.report.content['thaw']}, {self.report.headline} {self.report.main})"
        )

    def _repr_html_(self) -> str:
        """Show the verdict and the accuracy beside the simpler methods, for notebooks."""
        from thawline.evaluation.baselines import GUIDES, METHODS, OF_TARGETS
        from thawline.showing import card, counted, few, table_html

        content, headline = self.report.content, self.report.headline
        n, classes = content["n"], content["classes"]
        titles = METHODS | GUIDES | {"probe": PROBE} | dict(OF_TARGETS[self.report.target])
        shown = SHOWN[self.report.target]
        rows = [method_row("this model", content["test"], shown)]
        rows += [method_row(titles.get(name, name), metrics, shown) for name, metrics in content["baselines"].items()]
        one, many = OUTPUTS[self.report.target]
        title = words_of(headline).title
        return card(
            f"Run {self.folder}",
            (
                self.report.verdict,
                f"{title[:1].upper()}{title[1:]} {written(headline, self.report.main.value)} on the test set "
                f"(95 % interval {interval(headline, self.report.main)}).",
                f"{counted(len(classes), one, many)} ({few(classes)}): {n['train']:,} training, "
                f"{n['val']:,} validation, {n['test']:,} test samples.",
                f"Report: {self.report_path}",
            ),
            table_html(method_columns(shown), rows),
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


def method_columns(shown: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns of ``method_row``."""
    headline, *others = (words_of(name).title for name in shown)
    return ("on the test set", headline, "95 % interval", *others)


def method_row(title: str, metrics: Mapping[str, Any], shown: Sequence[str]) -> tuple[str, ...]:
    """Return one method as a row below ``method_columns``."""
    headline, *others = shown
    first = written(headline, metrics[headline]["value"]), interval(headline, metrics[headline])
    return (title, *first, *(written(name, metrics[name]["value"]) for name in others))


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
