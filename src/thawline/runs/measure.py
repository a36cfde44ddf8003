"""Do what a plan says, from data to scores: split, frozen features, training, evaluation. Writes no run folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from thawline.backbones import Backbone, LoadReceipt, Receipt
from thawline.bundles import Bundle, make_bundle
from thawline.bundles.answers import ClassPredictions, predictions_of
from thawline.data import subset
from thawline.errors import DataError
from thawline.evaluation import MeasuredBaseline, Rows, evaluator_for
from thawline.evaluation.verdict import FROM_SCRATCH, PRETRAINED
from thawline.features import extract_features
from thawline.features.simple import simple_features
from thawline.features.truncation import truncation_of
from thawline.features.width import check_room
from thawline.inputs import kind_of
from thawline.inputs.text.truncation import Truncation
from thawline.listening import Listener
from thawline.planning import FitPlan, Planned
from thawline.planning.asking import ask_for
from thawline.records import Baseline, Dataset, Features, Scores, Split
from thawline.runs.guides import guide_baselines
from thawline.runs.held_out import held_out_answers
from thawline.runs.listener import EventLog
from thawline.runs.run import PROBE
from thawline.runs.static import static_baselines
from thawline.training import Fitted, fit_probe

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


NO_BETTER = (
    "Training with thaw {thaw}{time} did not beat the best head on the frozen model on the validation set; "
    "that head ships."
)
ENOUGH_TO_TELL = 100
"""Samples of a validation set from which on training must beat the head that the plan names as the alternative. With
fewer, only a training that was cut short must."""
FOR_GUIDES = 0.25
"""Share of a budget's time for training that goes to the networks of the guides, if they are asked for."""
SLOWER = 3
"""How many times longer a sample takes in a backbone that was just trained than in one that was converted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Everything that a run measured, before any of it is written."""

    plan: FitPlan
    data: Dataset
    backbone: Backbone
    split: Split
    features: Features | None
    """Features of all samples, from the pre-trained backbone; None from scratch."""
    fitted: Fitted
    bundle: Bundle
    receipts: tuple[Mapping[str, Any], ...]
    """One per stage, as ``receipt.json`` holds them."""
    loaded: LoadReceipt
    """Of the backbone as it was opened, before anything learned."""
    test: Scores
    val: Scores | None
    baselines: tuple[Baseline, ...]
    verdict: str
    predictions: ClassPredictions
    """Predictions for the test set."""
    seconds: dict[str, float]
    truncation: Truncation | None = None
    """What of the texts the backbone does not see; None of pictures."""

    @property
    def status(self) -> str:
        """The verdict of all receipts; a run with another one has ended before this."""
        return "clean"


@dataclass(slots=True)
class Clock:
    """Counts the seconds of each phase."""

    log: EventLog
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block, and write its seconds to the log."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.log.write("phase", name=name, took=round(self.seconds[name], 4))

    def finish(self, data_seconds: float, planned: Planned) -> dict[str, float]:
        """Return the seconds of all phases and their total, opening the data and planning included."""
        total = time.perf_counter() - self.started + data_seconds + planned.features_s + planned.seconds
        self.seconds["features"] += planned.features_s
        own = {"total": total, "data": data_seconds + self.seconds.pop("split"), "planning": planned.seconds}
        return own | self.seconds


def measure(
    data: Dataset,
    plan: FitPlan,
    backbone: Backbone,
    clock: Clock,
    listener: Listener,
    state: Path,
    *,
    planned: Planned,
) -> Measured:
    """Do what a plan says.

    Args:
        plan: Complete, as ``planning.settle`` leaves it.
        clock: Counts the seconds of each phase.
        state: Folder of checkpoints; training resumes from the ones that lie there.
        planned: What planning took; the run counts it as its own.
    """
    with clock.phase("split"):
        ground = planned.on(data)
    data, split = ground.data, ground.split
    _check_sets(data, split)
    features, receipt = None, None
    if not plan.from_scratch:
        check_room(backbone, plan.layer, len(data), fitting=True)
        with clock.phase("features"):
            features = _extract(data, backbone, plan, listener)
        computed = min(features.computed + planned.computed, len(data))
        features = replace(features, computed=computed, reused=len(data) - computed)
        clock.log.write("engine", name=features.engine, precision=features.precision, why=features.why)
        receipt = backbone.receipt("head", ran=features.computed > 0)
    with clock.phase("training"):
        ends_at = _ends_at(planned, data, split, leaving=FOR_GUIDES if plan.baselines else 0.0)
        frozen = None
        if plan.trains and plan.otherwise not in ("", plan.layer) and features is not None:
            frozen = _frozen(data, ground.held_out(plan), plan, backbone, listener)
        fitted = _train(data, ground.held_out(plan), plan, backbone, features, listener, state, ends_at, frozen)
        if plan.otherwise and plan.thaw != "none" and fitted.kept == "none":
            time = "" if ends_at is None else " in the time that the budget left"
            data = replace(data, warnings=(*data.warnings, NO_BETTER.format(thaw=plan.thaw, time=time)))
            if frozen is not None and features is not None:
                features = replace(frozen.features, computed=features.computed, reused=features.reused)
    shipped = fitted.backbone or backbone
    with clock.phase("evaluation"):
        if features is not None and fitted.backbone is None:
            judging, tested = features, features.values[split.test]
        else:
            judging = _extract(subset(data, split.test), shipped, plan, listener)
            tested = judging.values
        guides: tuple[MeasuredBaseline, ...] = ()
        if plan.baselines:
            guides, missing = guide_baselines(
                data, split, plan, state, listener, ends_at=_ends_at(planned, data, split)
            )
            data = replace(data, warnings=(*data.warnings, *missing))
        found = _evaluate(data, split, ground.held_out(plan), backbone, features, tested, fitted, plan, guides)
        if found.note:
            data = replace(data, warnings=(*data.warnings, found.note))
        bundle = make_bundle(
            shipped,
            fitted.head,
            data.outputs,
            layer=judging.rung,
            ran=judging.engine,
            precision=judging.precision,
            engine=plan.engine,
            device=plan.device,
            trained=plan.trains,
            answers=found.predictions.answers,
            seconds_left=float("inf") if planned.budget is None else planned.budget.left() - planned.budget.spare(),
        )
    clock.seconds.setdefault("features", 0.0)
    clock.seconds["head"] = fitted.stages[0].seconds if fitted.probe else 0.0
    return Measured(
        plan=plan,
        data=data,
        backbone=shipped,
        split=split,
        features=features,
        fitted=fitted,
        bundle=bundle,
        receipts=_receipts(receipt, fitted),
        loaded=backbone.load_receipt(),
        seconds=clock.finish(data.seconds, planned),
        test=found.test,
        val=found.val,
        baselines=found.baselines,
        verdict=found.verdict,
        predictions=found.predictions,
        truncation=truncation_of(data, shipped.preparation),
    )


def _extract(data: Dataset, backbone: Backbone, plan: FitPlan, listener: Listener) -> Features:
    return extract_features(
        data,
        backbone,
        rung=plan.layer,
        engine=plan.engine,
        precision=plan.precision,
        device=plan.device,
        progress=partial(listener.progress, "features"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Frozen:
    """The best head that was measured with nothing thawed: it ships unless training beats it."""

    features: Features
    probe: Fitted


def _frozen(data: Dataset, split: Split, plan: FitPlan, backbone: Backbone, listener: Listener) -> _Frozen:
    features = _extract(data, backbone, plan.changed(layer=plan.otherwise), listener)
    return _Frozen(features, _solve(data, split, plan, backbone, features))


def _solve(data: Dataset, split: Split, plan: FitPlan, backbone: Backbone, features: Features) -> Fitted:
    assert plan.head != "mlp"
    return fit_probe(
        plan.head,
        features.values,
        data.truth,
        split,
        len(data.outputs),
        groups=data.groups,
        widths=features.widths,
        seed=plan.seed,
        backbone_parameters=backbone.n_parameters(),
    )


def _train(
    data: Dataset,
    split: Split,
    plan: FitPlan,
    backbone: Backbone,
    features: Features | None,
    listener: Listener,
    state: Path,
    ends_at: float | None,
    frozen: _Frozen | None,
) -> Fitted:
    """Solve a head and, if the plan says so, train by gradient descent from there."""
    probe = None if plan.head == "mlp" or features is None else _solve(data, split, plan, backbone, features)
    if probe is not None and not plan.trains:
        return probe
    from thawline.training.finetune import fine_tune  # loads torch

    must_improve = bool(plan.otherwise) and len(split.val) >= ENOUGH_TO_TELL
    ask = ask_for(plan, ends_at=ends_at, must_improve=must_improve)
    values = None if features is None else features.values
    to_beat = None if frozen is None else frozen.probe.validation_probabilities
    shorter = backbone.up_to(plan.layer) if plan.thaw != "none" else backbone
    fitted = fine_tune(ask, data, split, shorter, values, probe, state, listener, to_beat=to_beat)
    if frozen is None or fitted.kept != "none":
        return fitted
    tried = fitted.stages[len(frozen.probe.stages) :]
    return replace(frozen.probe, stages=(*frozen.probe.stages, *tried), receipts=fitted.receipts)


def _ends_at(planned: Planned, data: Dataset, split: Split, *, leaving: float = 0.0) -> float | None:
    """Return when training must end for testing and writing to stay within the budget; None without a limit.

    Args:
        leaving: Share of the time until then that is for what follows.
    """
    budget = planned.budget
    if budget is None or budget.seconds is None:
        return None
    # a trained backbone reads the test set once more, on a slower engine than the frozen one
    reading_s = SLOWER * planned.features_s * len(split.test) / max(len(data), 1)
    ends_at = budget.started + budget.seconds - budget.spare() - reading_s
    return ends_at - leaving * max(ends_at - time.monotonic(), 0.0)


def _receipts(frozen: Receipt | None, fitted: Fitted) -> tuple[Mapping[str, Any], ...]:
    """Return the receipt of the frozen backbone and its solved head, then one for each stage of training."""
    if frozen is None or fitted.probe is None:
        return fitted.receipts
    solved = replace(frozen, thawed=tuple(f"head.{name}" for name in fitted.probe.head.tensors()))
    return ({"status": solved.status, **asdict(solved)}, *fitted.receipts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Evaluation:
    """What the test set and the validation set say of the model and of simpler methods."""

    test: Scores
    val: Scores | None
    baselines: tuple[Baseline, ...]
    verdict: str
    predictions: ClassPredictions
    note: str
    """What a user should know of the baselines; may be empty."""


def _check_sets(data: Dataset, split: Split) -> None:
    """Refuse a split without training samples or without test samples."""
    for name, rows in (("training", split.train), ("test", split.test)):
        if not len(rows):
            raise DataError(
                f"data must leave samples for the {name} set; {data.name} leaves none ({split.origin}). "
                "Give each set a share, such as --split 70/15/15, or bring more samples."
            )


def _evaluate(
    data: Dataset,
    split: Split,
    held_out: Split,
    backbone: Backbone,
    features: Features | None,
    tested: NDArray[np.float32],
    fitted: Fitted,
    plan: FitPlan,
    guides: tuple[MeasuredBaseline, ...],
) -> _Evaluation:
    """Score head and baselines on the test set, which nothing has looked at before.

    Args:
        held_out: What training was judged by, the validation set among it.
        backbone: As it was opened.
        features: Of all samples, from the pre-trained backbone; None from scratch.
        tested: (n_test, D) features of the test set from the backbone that ships.
        guides: Networks that guides begin with.
    """
    import numpy as np

    by, seed = evaluator_for(data.target), plan.seed
    subject = FROM_SCRATCH if plan.from_scratch else PRETRAINED
    seen = np.sort(np.concatenate([split.train, split.val]))
    probabilities = fitted.head.predict_proba(tested)
    truth = data.truth[split.test]
    answers = held_out_answers(data, held_out, fitted)
    thresholds = np.array(answers.thresholds) if answers.thresholds else None
    test = by.score(truth, probabilities, seed=seed, thresholds=thresholds)
    values = None if features is None else features.values
    kind = kind_of(data.kind)
    simple = simple_features(data, seen, split.test)
    train, asked = (
        Rows(None if values is None else values[rows], own, data.truth[rows])
        for rows, own in ((seen, simple.learned), (split.test, simple.asked))
    )
    static = () if values is None else static_baselines(data, seen, split.test, backbone, seed=seed)
    simpler = by.baselines(train, asked, len(data.outputs), simple=kind.SIMPLE, seed=seed, groups=data.groups[seen])
    simpler = (*simpler, *static, *guides)
    if fitted.solved is not None and values is not None:
        p = fitted.solved.predict_proba(values[split.test])
        scores = by.score(truth, p, seed=seed)
        seconds = fitted.stages[0].seconds
        simpler = (*simpler, MeasuredBaseline("probe", PROBE, scores, seconds, p, uses_backbone=True))
    val = None
    if fitted.validation_probabilities is not None and len(split.val):
        val = fitted.validation_probabilities[np.isin(held_out.val, split.val)]
    judged = by.verdict(test, simpler, truth, probabilities, data.outputs, subject=subject)
    return _Evaluation(
        test=test,
        val=None if val is None else by.score(data.truth[split.val], val, seed=seed),
        baselines=simpler,
        verdict=judged,
        predictions=predictions_of(
            answers, tuple(data.files[row] for row in split.test), data.outputs, probabilities, failed=()
        ),
        note=simple.note,
    )
