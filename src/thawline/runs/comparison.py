"""Compare every strategy of the guides on one split: each is a whole run, and one table holds them side by side."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.errors import RunError
from thawline.evaluation.baselines import GUIDES, GUIDES_OF, METHODS
from thawline.listening import Listener, Silent
from thawline.notebook import default_listener
from thawline.planning import Asked, FitPlan, Ground
from thawline.planning.targets import require_classes
from thawline.records import Dataset
from thawline.runs import folder as run_folder
from thawline.runs.compared import Comparison, Strategy, page_of, words_of
from thawline.runs.request import DataMark
from thawline.runs.run import Run, open_run
from thawline.runs.strategies import PIXELS, PLAN, STRATEGIES, chosen, settings_of
from thawline.runs.walk import fit, resume
from thawline.scale.disk import written_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.backbones import Backbone

COMPARISON = "comparison.json"


def compare(
    data: Dataset,
    backbone: Backbone,
    *,
    folder: str | Path | None = None,
    only: Sequence[str] = (),
    baselines: Sequence[str] = (),
    force: bool = False,
    listener: Listener | None = None,
    **asked: Any,
) -> Comparison:
    """Train every strategy on the same training set, and test each on the same test set.

    Strategies that are finished in the folder are not run again, and one that was stopped is resumed: the same call
    continues a comparison that was killed.

    Args:
        folder: Folder of the runs, one folder for each; by default the first free ``runs/NAME-compared-1``, ...
        only: Names of ``STRATEGIES`` and ``PIXELS``; by default all.
        baselines: ``guides`` also trains the networks that guides begin with.
        force: Replace the comparison that stands there, also one of other data.
        listener: Hears of progress; by default bars in a notebook, and nobody in a script.
        asked: Settings of every plan: ``seed``, ``fractions``, ``engine``, ``precision``, ``device``.
    Raises:
        UsageError: An unknown strategy, or none that uses the model.
        RunError: The folder holds something else, or a comparison of other data, weights or settings.
    """
    require_classes(data, "compare")
    listener = listener or default_listener()
    Asked.of(baselines=tuple(baselines), **asked)  # refuses what cannot be before anything is trained
    names, pixels = chosen(only, data.kind)
    place = run_folder.first_free(Path("runs"), f"{data.name}-compared") if folder is None else Path(folder)
    known = _claim(place, data, backbone, asked, force=force)
    found = []
    for number, name in enumerate(names, 1):
        listener.note(f"{number} of {len(names) + len(pixels)}: {STRATEGIES[name]}.")
        told = _Named(listener, name)
        run = _finished(place / name) or _stopped(place / name, data, told)
        if run is None:
            wanted = Asked.of(**{**settings_of(name, backbone), **asked})
            run = fit(data, wanted, backbone=backbone, run=place / name, force=force, listener=told)
        found.append(Strategy(name, STRATEGIES[name], run.plan, run, _probabilities(run)))
    # leaves out the probe that training started from: here it is a strategy of its own, last-layer
    measured = found[0].run.report.content["baselines"]
    simpler = {name: metrics for name, metrics in measured.items() if name in METHODS}
    for number, name in enumerate(pixels, len(names) + 1):
        if name not in known:
            listener.note(f"{number} of {len(names) + len(pixels)}: {PIXELS[name]}.")
            known[name] = _from_pixels(name, data, found[0].plan, _Named(listener, name))
        simpler[name] = known[name]
    if baselines:
        simpler |= _of_guides(place, data, found[0].plan.changed(baselines=tuple(baselines)), known, listener)
    verdict = _verdict(found, _truth(found[0].run))
    comparison = Comparison(place, tuple(found), simpler, verdict, data.name)
    _write(comparison)
    return comparison


def _from_pixels(name: str, data: Dataset, plan: FitPlan, listener: _Named) -> Mapping[str, Any]:
    """Train a small network on pixels, on training and validation set together; return its metrics."""
    import numpy as np

    from thawline.evaluation import score, to_json
    from thawline.training.pixel_nets import fit_pixels, read_pixels

    ground = Ground.of(data, plan)
    data, split = ground.data, ground.split
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


def _of_guides(
    place: Path, data: Dataset, plan: FitPlan, known: Mapping[str, Any], listener: Listener
) -> dict[str, Mapping[str, Any]]:
    """Train the networks of the guides, unless their metrics are known; what is finished survives a stop."""
    from thawline.evaluation import to_json
    from thawline.runs.guides import guide_baselines

    guides = GUIDES_OF[data.kind]
    if known.keys() >= set(guides):
        return {name: known[name] for name in guides}
    ground, state = Ground.of(data, plan), place / ".guides"
    state.mkdir(exist_ok=True)
    measured, _ = guide_baselines(ground.data, ground.split, plan, state, listener)
    shutil.rmtree(state, ignore_errors=True)
    return {one.name: to_json(one.scores) for one in measured}


def _claim(place: Path, data: Dataset, backbone: Backbone, asked: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
    """Take the folder, or find the same comparison in it; return the metrics of networks on pixels that it holds."""
    mark = {
        "data": DataMark.of(data).model_dump(mode="json"),
        "weights_sha256": backbone.weights_sha256,
        "asked": json.loads(json.dumps({name: str(value) for name, value in asked.items()})),
    }
    file = place / COMPARISON
    if place.exists() and not place.is_dir():
        raise RunError(f"--out must be a folder; {place} is a file. Choose another name.")
    if place.is_dir() and any(place.iterdir()) and not file.is_file():
        raise RunError(f"--out must be a new folder or the folder of a comparison; {place} holds other files.")
    if file.is_file() and not force:
        try:
            written = json.loads(file.read_text(encoding="utf-8"))
            known, baselines = written["of"], dict(written.get("baselines", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} is damaged. Choose another folder for the comparison.") from error
        if known != mark:
            raise RunError(
                f"Cannot resume the comparison in {place}: it is of other data, weights or settings. "
                "Choose another folder, or replace it with --force."
            )
        return {name: metrics for name, metrics in baselines.items() if name in PIXELS or name in GUIDES}
    place.mkdir(parents=True, exist_ok=True)
    with written_whole(file) as opened:
        json.dump({"of": mark}, opened, indent=2)
    return {}


def _finished(folder: Path) -> Run | None:
    return open_run(folder) if run_folder.is_run_folder(folder) else None


def _stopped(folder: Path, data: Dataset, listener: Listener) -> Run | None:
    """Resume a run that was stopped after its work had begun; None if there is none."""
    draft = run_folder.draft_of(folder)
    return resume(folder, data=data, listener=listener) if draft.can_resume else None


class _Named(Silent):
    """Passes progress on under the name of the strategy, and no remarks: a comparison makes one for each strategy."""

    def __init__(self, listener: Listener, name: str) -> None:
        self._listener, self._name = listener, name

    def progress(self, phase: str, done: int, total: int) -> None:
        """Pass it on."""
        self._listener.progress(f"{self._name}: {phase}", done, total)


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
    """Compare the plan's choice with the strategy that happens to be highest on the test set."""
    from thawline.evaluation.difference import paired_difference

    top = max(found, key=lambda one: one.accuracy.value)  # of equals the first, which is the simplest
    planned = next((one for one in found if one.name == PLAN), None)
    if planned is None:
        highest = f"Highest on the test set: {top.title}, accuracy {top.accuracy}."
        return f"{highest} It was picked on the test set, which flatters it."
    what = f"The plan chose {words_of(planned.plan)}: accuracy {planned.accuracy}."
    if planned.accuracy.value >= top.accuracy.value:
        return f"{what} No strategy is higher on the test set."
    gap = paired_difference(truth, top.probabilities, planned.probabilities)
    low, high = gap.ci95
    word = "clearly higher" if low > 0 else "not distinguishable from it"
    return (
        f"{what} Highest on the test set: {top.title}, {100 * gap.value:+.1f} points "
        f"(95 % {100 * low:+.1f} to {100 * high:+.1f}), {word}."
    )


def _write(comparison: Comparison) -> None:
    """Write the page, then the numbers beside the mark that names their data, weights and settings."""
    file = comparison.folder / COMPARISON
    known = json.loads(file.read_text(encoding="utf-8"))
    with written_whole(comparison.page) as page:
        page.write(page_of(comparison))
    with written_whole(file) as opened:
        json.dump({"of": known["of"], **comparison.to_json()}, opened, indent=2)
