"""Walk a plan through the rooms: data, backbone, frozen features, head, evaluation, bundle, report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline import planning
from thawline.backbones import Backbone, Receipt, open_backbone
from thawline.bundles import Bundle, Predictions, save_bundle
from thawline.data import open_data, split_data
from thawline.errors import DataError, UsageError
from thawline.evaluation import baselines, score, to_json, verdict
from thawline.features import extract_features
from thawline.planning import FitPlan, write_plan
from thawline.records import PARTS, Baseline, Dataset, Features, Scores, Split
from thawline.runs import folder as run_folder
from thawline.runs.listener import EventLog, Listener, Silent
from thawline.runs.run import FORMAT, Run, open_run
from thawline.training import Fitted, fit_probe
from thawline.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Everything that a walk found out, before any of it is written."""

    plan: FitPlan
    data: Dataset
    backbone: Backbone
    split: Split
    features: Features
    fitted: Fitted
    bundle: Bundle
    receipt: Receipt
    test: Scores
    val: Scores | None
    baselines: tuple[Baseline, ...]
    verdict: str
    predictions: Predictions
    """Of the test part."""
    seconds: dict[str, float]


@dataclass(slots=True)
class Clock:
    """Seconds by phase."""

    log: EventLog
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block and write it to the log."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.log.write("phase", name=name, took=round(self.seconds[name], 4))

    def finish(self, data_seconds: float) -> dict[str, float]:
        """Return the seconds of all phases and their total, the opening of the data included."""
        total = time.perf_counter() - self.started + data_seconds
        return {"total": total, "data": data_seconds + self.seconds.pop("split"), **self.seconds}


def fit(
    data: Dataset | str | Path,
    plan: FitPlan | None = None,
    *,
    backbone: Backbone | None = None,
    run: str | Path | None = None,
    force: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Do what a plan says, and write a run folder: whole, or not at all.

    Args:
        data: A data set, or anything that ``open_data`` opens.
        plan: What was decided; by default what ``plan`` decides for the data and the backbone.
        backbone: Opened already; else the plan names it.
        run: Where the run folder should be; by default the first free ``runs/NAME-1``, ``-2``, ...
        force: Replace a run that stands there.
        listener: Hears of progress.
    Returns:
        The finished run.
    Raises:
        ThawlineError: Whatever a room refuses; nothing is left behind.
    """
    listener = listener or Silent()
    wanted = None if run is None else Path(run)
    if wanted is not None:
        run_folder.check_place(wanted, force=force)
    opened = data if isinstance(data, Dataset) else _open(data, listener)
    if backbone is None:
        backbone = open_backbone(plan.model, **plan.model_settings) if plan else open_backbone()
    plan = plan or planning.plan(opened, backbone)
    if plan.weights_sha256 not in ("", backbone.weights_sha256):
        raise UsageError(
            f"plan must be fitted with the weights it was made for, {plan.weights_sha256[:12]}; "
            f"got {backbone.weights_sha256[:12]} ({backbone.name}). Make a new plan, or empty weights_sha256 in it."
        )
    with run_folder.new_run_folder(wanted, opened.name, force=force) as (draft, target):
        log = EventLog(draft / run_folder.EVENTS)
        log.write("start", model=backbone.name, data=opened.name, n=len(opened), seed=plan.seed)
        try:
            measured = _measure(opened, plan, backbone, Clock(log), listener)
            _write(draft, measured, target)
            log.write("end", accuracy=measured.test["accuracy"].value)
        finally:
            log.close()
    return open_run(target)


def _open(data: str | Path, listener: Listener) -> Dataset:
    return open_data(data, progress=partial(listener.progress, "reading"))


def _measure(data: Dataset, plan: FitPlan, backbone: Backbone, clock: Clock, listener: Listener) -> Measured:
    with clock.phase("split"):
        split = split_data(data, fractions=plan.fractions, seed=plan.seed)
    _check_parts(data, split)
    with clock.phase("features"):
        features = extract_features(
            data,
            backbone,
            rung=plan.layer,
            engine=plan.engine,
            precision=plan.precision,
            device=plan.device,
            progress=partial(listener.progress, "features"),
        )
    receipt = backbone.receipt("head")
    with clock.phase("training"):
        fitted = fit_probe(
            plan.head,
            features.values,
            data.labels,
            split,
            len(data.classes),
            groups=data.groups,
            seed=plan.seed,
            backbone_parameters=backbone.n_parameters(),
        )
    with clock.phase("evaluation"):
        scored = _evaluate(data, split, features, fitted, plan.seed)
    clock.seconds["head"] = fitted.stages[0].seconds
    return Measured(
        plan=plan,
        data=data,
        backbone=backbone,
        split=split,
        features=features,
        fitted=fitted,
        bundle=Bundle(
            backbone=backbone,
            head=fitted.head,
            classes=data.classes,
            layer=plan.layer,
            precision=features.precision,
            device=plan.device,
        ),
        receipt=replace(receipt, thawed=tuple(f"head.{name}" for name in fitted.head.tensors())),
        seconds=clock.finish(data.seconds),
        **scored,
    )


def _check_parts(data: Dataset, split: Split) -> None:
    """Refuse a split that leaves nothing to train on or to be judged by."""
    for name, rows in (("train", split.train), ("test", split.test)):
        if not len(rows):
            raise DataError(
                f"data must leave samples for the {name} part; {data.name} leaves none ({split.origin}). "
                "Bring more samples, or change --split."
            )


def _evaluate(data: Dataset, split: Split, features: Features, fitted: Fitted, seed: int) -> dict[str, Any]:
    """Score head and baselines on the test part; nothing before this line has looked at it."""
    import numpy as np

    n_classes = len(data.classes)
    seen = np.sort(np.concatenate([split.train, split.val]))
    probabilities = fitted.head.predict_proba(features.values[split.test])
    truth = data.labels[split.test]
    test = score(truth, probabilities, n_classes, seed=seed)
    simpler = baselines(
        features.values[seen],
        data.thumbs[seen],
        data.labels[seen],
        features.values[split.test],
        data.thumbs[split.test],
        truth,
        n_classes,
        seed=seed,
        groups=data.groups[seen],
    )
    val = fitted.validation_probabilities
    return {
        "test": test,
        "val": None if val is None else score(data.labels[split.val], val, n_classes, seed=seed),
        "baselines": simpler,
        "verdict": verdict(test, simpler, truth, probabilities),
        "predictions": Predictions(
            files=tuple(data.files[row] for row in split.test),
            classes=data.classes,
            probabilities=probabilities,
            failed=(),
        ),
    }


def _write(draft: Path, measured: Measured, target: Path) -> None:
    """Fill the folder; ``target`` is where it will stand."""
    import numpy as np

    from thawline.runs.report import render_report
    from thawline.runs.reporting import report_data

    data, split = measured.data, measured.split
    save_bundle(measured.bundle, draft)
    write_plan(measured.plan, draft / run_folder.PLAN)
    _write_json(draft / run_folder.METRICS, metrics(measured))
    receipt = {"status": measured.receipt.status, "stages": [asdict(measured.receipt)]}
    _write_json(draft / run_folder.RECEIPT, receipt)
    with (draft / run_folder.PREDICTIONS).open("w", encoding="utf-8", newline="") as file:
        measured.predictions.write_csv(file, [data.classes[label] for label in data.labels[split.test]])
    learned = np.concatenate([split.train, split.val])
    seen = sorted({data.digests[row] for row in learned})  # so that a later evaluation can say what the model knew
    (draft / run_folder.SEEN).write_text("\n".join(seen) + "\n", encoding="utf-8")
    (draft / run_folder.REPORT).write_text(render_report(report_data(measured, target)), encoding="utf-8")


def metrics(measured: Measured) -> dict[str, Any]:
    """What ``metrics.json`` holds: the object of ``fit --json`` and, beside it, the tables."""
    split = measured.split
    counts = {part: len(rows) for part, rows in _parts(split)}
    return {
        "format": FORMAT,
        "thawline": __version__,
        "model": measured.backbone.name,
        "thaw": measured.plan.thaw,
        "classes": list(measured.data.classes),
        "n": counts,
        "split": split.origin,
        "skipped": [asdict(skipped) for skipped in measured.data.skipped],
        "warnings": list(measured.data.warnings),
        "features": {"computed": measured.features.computed, "reused": measured.features.reused},
        "baselines": {baseline.name: to_json(baseline.scores) for baseline in measured.baselines},
        "validation": None if measured.val is None else to_json(measured.val),
        "test": to_json(measured.test),
        "verdict": measured.verdict,
        "stages": [asdict(stage) for stage in measured.fitted.stages],
        "receipt": measured.receipt.status,
        "seconds": {name: round(seconds, 4) for name, seconds in measured.seconds.items()},
        "per_class": [
            {"class": name, **row} for name, row in zip(measured.data.classes, measured.test.per_class, strict=True)
        ],
        "confusion": measured.test.confusion.tolist(),
    }


def _parts(split: Split) -> Iterator[tuple[str, NDArray[np.int64]]]:
    return ((part, getattr(split, part)) for part in PARTS)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
