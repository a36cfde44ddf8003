"""What a comparison found: its strategies side by side, as an object and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.evaluation.baselines import GUIDES, METHODS
from thawline.evaluation.metric_words import SHOWN
from thawline.planning import FitPlan
from thawline.planning.ways import Way
from thawline.records import Score
from thawline.runs.run import Run, method_columns, method_row
from thawline.runs.strategies import PIXELS, PLAN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.planning import Candidate

PAGE = "comparison.html"


@dataclass(frozen=True, slots=True, eq=False)
class Strategy:
    """One strategy, trained and tested."""

    name: str
    title: str
    plan: FitPlan
    run: Run
    probabilities: NDArray[np.float64]
    """(n_test, C)"""

    @property
    def accuracy(self) -> Score:
        return self.run.report.accuracy

    @property
    def seconds(self) -> float:
        """Seconds of the whole run; it reuses what earlier strategies left in the cache."""
        return float(self.run.report.content["seconds"]["total"])

    @property
    def trainable(self) -> int:
        """Parameters that learned, in the largest stage that was kept."""
        stages = self.run.report.content["stages"]
        return max(int(stage["trainable"]) for stage in stages if stage["details"].get("kept", True))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The strategies that were asked for, on one split."""

    folder: Path
    strategies: tuple[Strategy, ...]
    """In the order of ``STRATEGIES``."""
    baselines: Mapping[str, Mapping[str, Any]]
    """Metrics of simpler methods, by name."""
    verdict: str
    data: str
    """Name of the data set."""

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.strategies)
        return f"Comparison({str(self.folder)!r}: {names}; {self.verdict})"

    def _repr_html_(self) -> str:
        """Show the verdict and each method's accuracy, for notebooks."""
        from thawline.showing import card, table_html

        measured = [(one.title, one.run.report.content["test"]) for one in self.strategies]
        measured += [(self.title_of(name), metrics) for name, metrics in self.baselines.items()]
        shown = SHOWN["class"]
        rows = [method_row(title, metrics, shown) for title, metrics in measured]
        return card(
            f"Comparison on {self.data}", (self.verdict, f"Page: {self.page}"), table_html(method_columns(shown), rows)
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Notes that stand in the report of every strategy."""
        first, *others = (one.run.report.content["warnings"] for one in self.strategies)
        return tuple(note for note in first if all(note in notes for notes in others))

    @property
    def page(self) -> Path:
        """The page for people: a table and a chart."""
        return self.folder / PAGE

    @staticmethod
    def title_of(baseline: str) -> str:
        """Say in words what a baseline is."""
        return (METHODS | GUIDES | dict(PIXELS)).get(baseline, baseline)

    def to_json(self) -> dict[str, Any]:
        """The object that ``thawline compare --json`` prints."""
        chosen = next((one for one in self.strategies if one.name == PLAN), None)
        measured = {} if chosen is None else {_ways(one): one for one in chosen.plan.candidates}
        return {
            "folder": str(self.folder),
            "data": self.data,
            "verdict": self.verdict,
            "warnings": list(self.warnings),
            "chosen": None if chosen is None else {**_described(chosen.plan), "verdict": chosen.plan.verdict},
            "candidates": [_candidate(one, measured.get(_ways(one.plan))) for one in self.strategies],
            "baselines": dict(self.baselines),
        }


_HEADS = {"logistic": "a logistic", "ridge": "a ridge", "svm": "an SVM", "mlp": "an MLP"}


def words_of(plan: FitPlan) -> str:
    if plan.thaw != "none":
        return f"thaw {plan.thaw}"
    where = "the last layer" if plan.layer == "pooled" else "all depths" if "," in plan.layer else plan.layer
    return f"{_HEADS.get(plan.head, plan.head)} head on {where}"


def _ways(plan: FitPlan | Candidate) -> tuple[str, str, str, bool]:
    by_pairs = Way.of(plan).by_pairs if isinstance(plan, FitPlan) else plan.objective == "contrastive"
    return plan.thaw, plan.layer, plan.head, by_pairs


def _described(plan: FitPlan) -> dict[str, Any]:
    return {"model": plan.model, "thaw": plan.thaw, "layer": plan.layer, "head": plan.head}


def _candidate(one: Strategy, measured: Candidate | None) -> dict[str, Any]:
    stages = one.run.report.content["stages"]
    return {
        "name": one.name,
        "title": one.title,
        "thaw": one.plan.thaw,
        "layer": one.plan.layer,
        "head": one.plan.head,
        "score": None if measured is None else measured.score,
        "ci95": None if measured is None else list(measured.ci95),
        "why": None if measured is None else measured.why,
        "trainable": one.trainable,
        "seconds": one.seconds,
        "bytes": sum(int(stage["details"].get("cache", {}).get("bytes", 0)) for stage in stages),
        "test": one.run.report.content["test"],
        "run": str(one.run.folder),
    }


def page_of(comparison: Comparison) -> str:
    from thawline.runs.charts import accuracy_chart
    from thawline.runs.pages import sentence_case, templates

    ordered = sorted(comparison.strategies, key=lambda one: -one.accuracy.value)
    ordered.sort(key=lambda one: one.name != PLAN)  # the first one is drawn in colour
    content = comparison.strategies[0].run.report.content
    return (
        templates()
        .get_template("comparison.html.j2")
        .render(
            data=comparison.data,
            verdict=comparison.verdict,
            warnings=comparison.warnings,
            content=content,
            chart=accuracy_chart([(sentence_case(one.title), one.accuracy) for one in ordered]),
            strategies=[
                {
                    "title": sentence_case(one.title),
                    "words": words_of(one.plan),
                    "test": one.run.report.content["test"],
                    "trainable": one.trainable,
                    "seconds": one.seconds,
                }
                for one in ordered
            ],
            baselines=[
                (sentence_case(comparison.title_of(name)), metrics) for name, metrics in comparison.baselines.items()
            ],
        )
    )
