"""Do what a plan says, from data to scores: split, frozen features, training, evaluation. Writes no run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from thawline.backbones import Backbone, Receipt
from thawline.bundles import Bundle, Predictions
from thawline.data import split_data
from thawline.errors import DataError
from thawline.evaluation import baselines, score, verdict
from thawline.features import extract_features
from thawline.planning import FitPlan
from thawline.records import Baseline, Dataset, Features, Scores, Split
from thawline.runs.listener import EventLog, Listener
from thawline.training import Fitted, fit_probe


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


def measure(data: Dataset, plan: FitPlan, backbone: Backbone, clock: Clock, listener: Listener) -> Measured:
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
