"""Every strategy of the guides on one split: each is a whole run, and one table holds them side by side."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.errors import RunError, UsageError, nearest
from thawline.evaluation.baselines import METHODS
from thawline.listening import Silent
from thawline.planning import Asked, FitPlan
from thawline.records import Dataset, Score
from thawline.runs import folder as run_folder
from thawline.runs.listener import Evaluated, Listener
from thawline.runs.request import DataMark
from thawline.runs.run import Run, open_run
from thawline.runs.walk import fit, resume
from thawline.scale.disk import written_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.planning import Candidate

PLAN = "plan"
"""The strategy that measures first, and does what came out."""
COMPARISON, PAGE = "comparison.json", "comparison.html"

STRATEGIES: Mapping[str, str] = {
    PLAN: "what the plan chose",
    "last-layer": "new linear head on the frozen model",
    "svm": "linear SVM on the frozen model",
    "earlier-layer": "linear head on an earlier layer",
    "all-depths": "linear head on all depths together",
    "mlp-head": "MLP head on the frozen model",
    "last-block": "last blocks and head fine-tuned",
    "half": "upper half fine-tuned",
    "all": "everything fine-tuned",
    "progressive": "unfrozen from the end while it helps",
    "scratch": "same architecture from random weights",
}
"""Name -> what it is; in the order in which they are run."""


PIXELS: Mapping[str, str] = {
    "pixel-mlp": "MLP on 32 x 32 pixels",
    "pixel-cnn": "small CNN on 32 x 32 pixels",
}
"""What does without any pre-trained model, beside the baselines of every run."""


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
        """Of the whole run; what earlier strategies had left in the cache was not computed again."""
        return float(self.run.report.content["seconds"]["total"])

    @property
    def trainable(self) -> int:
        """Parameters that learned, in the largest stage that was kept."""
        stages = self.run.report.content["stages"]
        return max(int(stage["trainable"]) for stage in stages if stage["details"].get("kept", True))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All strategies that were asked for, on one split."""

    folder: Path
    strategies: tuple[Strategy, ...]
    """In the order of ``STRATEGIES``."""
    baselines: Mapping[str, Mapping[str, Any]]
    """Metrics of simpler methods, by name."""
    verdict: str
    data: str
    """Name of the data set."""

    @property
    def page(self) -> Path:
        """The table and a chart, for people."""
        return self.folder / PAGE

    @staticmethod
    def title_of(baseline: str) -> str:
        """What a baseline is."""
        return (METHODS | dict(PIXELS)).get(baseline, baseline)

    def to_json(self) -> dict[str, Any]:
        """The object that ``thawline compare --json`` prints."""
        chosen = next((one for one in self.strategies if one.name == PLAN), None)
        measured = {} if chosen is None else {_ways(one): one for one in chosen.plan.candidates}
        return {
            "folder": str(self.folder),
            "data": self.data,
            "verdict": self.verdict,
            "chosen": None if chosen is None else {**_described(chosen.plan), "verdict": chosen.plan.verdict},
            "candidates": [_candidate(one, measured.get(_ways(one.plan))) for one in self.strategies],
            "baselines": dict(self.baselines),
        }


def compare(
    data: Dataset,
    backbone: Backbone,
    *,
    folder: str | Path | None = None,
    only: Sequence[str] = (),
    force: bool = False,
    listener: Listener | None = None,
    **asked: Any,
) -> Comparison:
    """Train every strategy on the same training part, and test each on the same test part.

    Strategies that are finished in the folder are not run again, and one that was stopped goes on: the same call
    continues a comparison that was killed.

    Args:
        folder: Where the runs go, one folder for each; by default the first free ``runs/NAME-compared-1``, ...
        only: Names of ``STRATEGIES`` and ``PIXELS``; by default all.
        force: Replace a comparison of other data that stands there.
        listener: Hears of progress.
        asked: Settings of every plan: ``seed``, ``fractions``, ``engine``, ``precision``, ``device``.
    Raises:
        UsageError: A strategy that is none.
        RunError: The folder holds something else, or a comparison of other data or settings.
    """
    listener = listener or Silent()
    names = _checked(only)
    pixels = [name for name in PIXELS if not only or name in only]
    place = run_folder.first_free(Path("runs"), f"{data.name}-compared") if folder is None else Path(folder)
    known = _claim(place, data, backbone, asked, force=force)
    found = []
    for number, name in enumerate(names, 1):
        listener.note(f"{number} of {len(names) + len(pixels)}: {STRATEGIES[name]}.")
        told = _Named(listener, name)
        run = _finished(place / name) or _stopped(place / name, data, told)
        if run is None:
            wanted = Asked(settings={**_settings(name, backbone), **asked})
            run = fit(data, wanted, backbone=backbone, run=place / name, force=force, listener=told)
        found.append(Strategy(name, STRATEGIES[name], run.plan, run, _probabilities(run)))
    # a probe that training started from is no simpler method here, but the strategy of the last layer
    measured = found[0].run.report.content["baselines"]
    baselines = {name: metrics for name, metrics in measured.items() if name in METHODS}
    for number, name in enumerate(pixels, len(names) + 1):
        if name not in known:
            listener.note(f"{number} of {len(names) + len(pixels)}: {PIXELS[name]}.")
            known[name] = _from_pixels(name, data, found[0].plan, _Named(listener, name))
        baselines[name] = known[name]
    verdict = _verdict(found, _truth(found[0].run))
    comparison = Comparison(place, tuple(found), baselines, verdict, data.name)
    _write(comparison)
    return comparison


def _from_pixels(name: str, data: Dataset, plan: FitPlan, listener: _Named) -> Mapping[str, Any]:
    """Metrics of a small network trained on pixels: on training and validation part, as what ships is."""
    import numpy as np

    from thawline.data import split_data
    from thawline.evaluation import score, to_json
    from thawline.training.pixel_nets import fit_pixels, read_pixels

    split = split_data(data, fractions=plan.fractions, seed=plan.seed)
    learned = np.sort(np.concatenate([split.train, split.val]))
    pictures = read_pixels(data, partial(listener.progress, "reading"))
    net = fit_pixels(
        "cnn" if name == "pixel-cnn" else "mlp",
        pictures[learned],
        data.labels[learned],
        len(data.classes),
        seed=plan.seed,
        progress=partial(listener.progress, "training"),
    )
    probabilities = net.predict_proba(pictures[split.test])
    return to_json(score(data.labels[split.test], probabilities, len(data.classes), seed=plan.seed))


def _checked(only: Sequence[str]) -> list[str]:
    every = [*STRATEGIES, *PIXELS]
    for name in only:
        if name not in every:
            raise UsageError(f"strategies must be among {', '.join(every)}; got {name!r}.{nearest(name, every)}")
    names = [name for name in STRATEGIES if not only or name in only]
    if not names:
        raise UsageError(f"strategies must hold one that uses the model, such as last-layer; got {', '.join(only)}.")
    return names


def _settings(name: str, backbone: Backbone) -> dict[str, Any]:
    """What a strategy asks of the plan."""
    from thawline.backbones.lines import depth_rungs, thaw_lines

    simple: dict[str, dict[str, Any]] = {
        PLAN: {"thaw": "auto"},
        "last-layer": {"thaw": "none"},
        "svm": {"thaw": "none", "head": "svm"},
        "mlp-head": {"thaw": "none", "head": "mlp", "hidden": (256,), "dropout": 0.2},
        "all": {"thaw": "all"},
        "progressive": {"thaw": "progressive"},
        "scratch": {"from_scratch": True},
    }
    if name in simple:
        return simple[name]
    if name in ("earlier-layer", "all-depths"):
        depths = depth_rungs(backbone.ladder)
        return {"thaw": "none", "layer": ",".join(depths) if name == "all-depths" else depths[len(depths) // 2]}
    lines = thaw_lines(backbone.ladder)
    return {"thaw": lines[0] if name == "last-block" else lines[-2 if len(lines) > 1 else -1]}


def _claim(place: Path, data: Dataset, backbone: Backbone, asked: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
    """Take the folder, or find that it holds the same comparison; return metrics of baselines that are known."""
    mark = {
        "data": DataMark.of(data).model_dump(mode="json"),
        "weights_sha256": backbone.weights_sha256,
        "asked": json.loads(json.dumps({name: str(value) for name, value in asked.items()})),
    }
    file = place / COMPARISON
    if place.exists() and not place.is_dir():
        raise RunError(f"--out must be a folder; {place} is a file. Choose another name.")
    if place.is_dir() and any(place.iterdir()) and not file.is_file():
        raise RunError(f"--out must be a new folder, or one of a comparison; {place} holds something else.")
    if file.is_file() and not force:
        try:
            written = json.loads(file.read_text(encoding="utf-8"))
            known, baselines = written["of"], dict(written.get("baselines", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} must be what Thawline wrote; it cannot be read. Choose another folder.") from error
        if known != mark:
            raise RunError(
                f"{place} must hold a comparison of the same data, weights and settings to go on with; it is of "
                "others. Choose another folder, or replace it with --force."
            )
        return {name: metrics for name, metrics in baselines.items() if name in PIXELS}
    place.mkdir(parents=True, exist_ok=True)
    with written_whole(file) as opened:
        json.dump({"of": mark}, opened, indent=2)
    return {}


def _finished(folder: Path) -> Run | None:
    return open_run(folder) if run_folder.is_run_folder(folder) else None


def _stopped(folder: Path, data: Dataset, listener: Listener) -> Run | None:
    """Go on with a run that was stopped after its work had begun."""
    draft = run_folder.draft_of(folder)
    return resume(folder, data=data, listener=listener) if draft.can_resume else None


class _Named:
    """Puts the name of the strategy before what is told."""

    def __init__(self, listener: Listener, name: str) -> None:
        self._listener, self._name = listener, name

    def progress(self, phase: str, done: int, total: int) -> None:
        """Tell it."""
        self._listener.progress(f"{self._name}: {phase}", done, total)

    def note(self, text: str) -> None:
        """Tell nobody: a comparison has one line for each strategy."""

    def evaluated(self, row: Evaluated) -> None:
        """Tell nobody."""


def _rows(run: Run) -> list[dict[str, str]]:
    with (run.folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _probabilities(run: Run) -> NDArray[np.float64]:
    import numpy as np

    classes = run.report.content["classes"]
    return np.array([[float(row[f"p({name})"]) for name in classes] for row in _rows(run)])


def _truth(run: Run) -> NDArray[np.int64]:
    import numpy as np

    index = {name: number for number, name in enumerate(run.report.content["classes"])}
    return np.array([index[row["true"]] for row in _rows(run)], dtype=np.int64)


def _verdict(found: Sequence[Strategy], truth: NDArray[np.int64]) -> str:
    """The plan's choice against the one that happens to be highest on the test part."""
    from thawline.evaluation.difference import paired_difference

    top = max(found, key=lambda one: one.accuracy.value)  # of equals the first, which is the simplest
    chosen = next((one for one in found if one.name == PLAN), None)
    if chosen is None:
        return f"Highest on the test part: {top.title}, accuracy {top.accuracy}. Picked by looking, so it flatters."
    what = f"The plan chose {_words(chosen.plan)}: accuracy {chosen.accuracy}."
    if chosen.accuracy.value >= top.accuracy.value:
        return f"{what} No strategy is higher on the test part."
    gap = paired_difference(truth, top.probabilities, chosen.probabilities)
    low, high = gap.ci95
    word = "clearly higher" if low > 0 else "not distinguishable from it"
    return (
        f"{what} Highest on the test part: {top.title}, {100 * gap.value:+.1f} points "
        f"(95 % {100 * low:+.1f} to {100 * high:+.1f}), {word}."
    )


def _words(plan: FitPlan) -> str:
    if plan.thaw != "none":
        return f"thaw {plan.thaw}"
    where = "the last layer" if plan.layer == "pooled" else "all depths" if "," in plan.layer else plan.layer
    return f"a {plan.head} head on {where}"


def _ways(plan: FitPlan | Candidate) -> tuple[str, str, str]:
    return plan.thaw, plan.layer, plan.head


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


def _write(comparison: Comparison) -> None:
    """Write the page, then the numbers beside the mark that says what they are of."""
    file = comparison.folder / COMPARISON
    known = json.loads(file.read_text(encoding="utf-8"))
    with written_whole(comparison.page) as page:
        page.write(_page(comparison))
    with written_whole(file) as opened:
        json.dump({"of": known["of"], **comparison.to_json()}, opened, indent=2)


def _page(comparison: Comparison) -> str:
    from thawline.runs.charts import accuracy_chart
    from thawline.runs.pages import templates

    ordered = sorted(comparison.strategies, key=lambda one: -one.accuracy.value)
    ordered.sort(key=lambda one: one.name != PLAN)  # the first one is drawn in colour
    content = comparison.strategies[0].run.report.content
    return (
        templates()
        .get_template("comparison.html.j2")
        .render(
            data=comparison.data,
            verdict=comparison.verdict,
            content=content,
            chart=accuracy_chart([(one.title, one.accuracy) for one in ordered]),
            strategies=[
                {
                    "title": one.title,
                    "words": _words(one.plan),
                    "test": one.run.report.content["test"],
                    "trainable": one.trainable,
                    "seconds": one.seconds,
                }
                for one in ordered
            ],
            baselines=[(comparison.title_of(name), metrics) for name, metrics in comparison.baselines.items()],
        )
    )
