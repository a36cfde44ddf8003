"""Train one stage after the other: judge each on held-out samples, roll back what did not help, go on with all samples.

What was chosen goes on learning from where it stands, so that choosing costs no second training. Between two stages
``stages.safetensors`` holds everything that was decided; within a stage, ``step.safetensors`` does. A run that was
killed resumes from there, and ends with the bits of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from thawline.heads import task_of
from thawline.records import StageReport
from thawline.training.checkpoint import read_checkpoint, write_checkpoint
from thawline.training.judging import LEAST_GAIN, PATIENCE, Judgement, highest_gain, judge
from thawline.training.loop import StageTrainer
from thawline.training.lora import low_rank
from thawline.training.net import BACKBONE, Above, Net
from thawline.training.stage import Activations, StageResult, StageSpec, TrainingSetup
from thawline.training_records import InputsReport, TrainingReport, ValidationReport

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from thawline.backbones.cut import Cut
    from thawline.backbones.receipt import Receipt
    from thawline.backbones.signature import Signature
    from thawline.backbones.thaw import Thaw

STAGES_FILE, STEP_FILE, START_FILE = "stages.safetensors", "step.safetensors", "start.safetensors"
LEAST_JOINT = 0.25
"""A budget must leave this share of the time that choosing took, or training does not go on with all samples."""
JOINT_WARMUP = 0.1
"""Share of the steps on all samples in which the rate rises: the optimiser begins anew, the weights do not."""
JOINT_CLIP = 5
"""Gradients on all samples may be so many times as long before they are clipped: the steps that could tear features
apart are the first ones after the head was solved."""
_LOGITS = "judged.logits"
_CHOOSE, _JOINT, _DONE = "choose", "joint", "done"


class Inputs(Protocol):
    """Gives what crosses a line, from a cache or fresh."""

    def __call__(
        self, model: nn.Module, cut: Cut, views: int, train: NDArray[np.int64], judged: NDArray[np.int64]
    ) -> tuple[Activations, InputsReport]:
        """Return activations for the samples to train on and to be judged by, and where they came from."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage as planned, its thaw setting resolved in the model."""

    name: str
    thaw: Thaw
    epochs: int
    joint_epochs: int
    views: int
    joint_thaw: Thaw | None = None
    """What learns from all samples, every picture of them a fresh view; None: the same as before, on the same views."""

    @property
    def joint_share(self) -> float:
        """Share of its epochs that are on all samples."""
        return self.joint_epochs / (self.epochs + self.joint_epochs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageSequence:
    """All stages of a training, and what they work on."""

    stages: Sequence[Stage]
    progressive: bool
    """A stage is kept only if it improves on the validation set."""
    must_improve: bool = False
    """The same for stages that are not progressive. Without it, only a stage that was cut short must improve."""
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    """May be empty, but not if stages are progressive."""
    start: Callable[[], Net]
    """Makes the net that the first stage starts from, with a head that was solved on the rows to train on."""
    start_logits: NDArray[np.float64] | None
    """(n_val, C) of the model that a stage must improve on: the net that starts, fitted on the training set, or a
    better one. None if the head of that net knows nothing yet."""
    signature: Signature
    moving_statistics: bool
    inputs: Inputs
    state: Path
    """Folder of the checkpoints."""
    ends_at: float | None = None
    """When training must be over, on the clock of ``time.monotonic``."""
    give_up: Callable[[NDArray[np.float64], NDArray[np.float64]], bool] | None = None
    """Asked at each evaluation with the losses (n_val,) of ``start_logits`` and those of now: whether to stop there."""
    choose_only: bool = False
    """Stop when all is chosen. Another call, with the same state and without this, goes on from there."""

    @property
    def mark(self) -> str:
        """What must be the same for a checkpoint to be of this training."""
        stages = [(stage.name, stage.thaw.setting, stage.epochs, stage.views) for stage in self.stages]
        rows = hashlib.sha256(self.train.tobytes() + b"|" + self.val.tobytes()).hexdigest()
        return json.dumps([stages, rows, self.progressive])

    @property
    def both(self) -> NDArray[np.int64]:
        """Rows of all samples to learn from, ascending."""
        return np.sort(np.concatenate([self.train, self.val]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingResult:
    """What all stages together reached."""

    net: Net
    temperature: float
    """Divisor of the logits, fitted on the validation set."""
    val_logits: NDArray[np.float64] | None
    """(n_val, C) of the net that was chosen, which saw the training set only; before the temperature."""
    stages: tuple[StageReport, ...]
    receipts: tuple[Mapping[str, Any], ...]
    kept: str
    """Thaw setting of the last training that was kept; ``none`` if all were rolled back."""
    kept_any: bool


@dataclass(slots=True, eq=False)
class _Position:
    """Where a training stands between two stages."""

    part: str = _CHOOSE
    stage: int = 0
    records: list[StageReport] = field(default_factory=list)
    receipts: list[Mapping[str, Any]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    """Stages that were kept."""
    unpromising: int = 0
    judged: Judgement | None = None


def train(sequence: StageSequence, setup: TrainingSetup) -> TrainingResult:
    """Train all stages, from wherever an earlier call was stopped.

    Raises:
        ReceiptError: A stage moved what was frozen, or did not move what was thawed.
    """
    position, net = _resumed(sequence, setup)
    while position.part == _CHOOSE and not _is_done(position, sequence):
        _choose(position, net, sequence, setup)
        _save(position, net, sequence)
    if position.part == _CHOOSE and not sequence.choose_only:
        position.part = _JOINT if _goes_on(position, sequence, setup) else _DONE
        _save(position, net, sequence)
    if position.part == _JOINT:
        _go_on(position, net, sequence, setup)
        _save(position, net, sequence)
    judged = position.judged
    kept = [record.training for record in position.records if record.training and record.training.kept]
    return TrainingResult(
        net=net,
        temperature=1.0 if judged is None else judged.temperature,
        val_logits=None if judged is None else judged.logits,
        stages=tuple(position.records),
        receipts=tuple(position.receipts),
        kept=kept[-1].thaw if kept else "none",
        kept_any=bool(position.kept),
    )


def _starts_again(sequence: StageSequence, setup: TrainingSetup) -> bool:
    """Say whether each stage starts where training began, rather than where the best stage ended.

    Gradual unfreezing is usually taught the other way. On small data that keeps what earlier stages over-fitted: see
    benchmarks/thaw_lines.md.
    """
    return sequence.progressive and setup.settings.stages_from == "probe"


def _goes_on(position: _Position, sequence: StageSequence, setup: TrainingSetup) -> bool:
    """Say whether what was kept goes on learning, from all samples: as planned, and if the time left is worth it."""
    if not (setup.settings.refit and position.kept and sequence.stages[position.kept[-1]].joint_epochs):
        return False
    taken = sum(record.seconds for record in position.records)
    return sequence.ends_at is None or sequence.ends_at - time.monotonic() > LEAST_JOINT * taken


def _is_done(position: _Position, sequence: StageSequence) -> bool:
    if sequence.ends_at is not None and time.monotonic() >= sequence.ends_at:
        return True
    return position.stage == len(sequence.stages) or position.unpromising >= PATIENCE


def _choose(position: _Position, net: Net, sequence: StageSequence, setup: TrainingSetup) -> None:
    """Train the next stage on the training set, and keep it or roll it back."""
    stage = sequence.stages[position.stage]
    spec = StageSpec(
        name=stage.name,
        number=position.stage + 1,
        of=len(sequence.stages),
        rows=sequence.train,
        judged=sequence.val,
        epochs=stage.epochs,
        views=stage.views,
        share=1 - stage.joint_share,
        give_up=_give_up(position, sequence),
    )
    left = len(sequence.stages) - position.stage
    above = Above(net, stage.thaw, sequence.signature, moving_statistics=sequence.moving_statistics)
    before = above.snapshot()
    if stage.thaw.thawed and _starts_again(sequence, setup):
        _start_again(above, sequence)
    goes_on = setup.settings.refit and stage.joint_epochs > 0
    result, receipts, took = _run(spec, above, sequence, setup, stages_left=left + goes_on)
    keep = True
    # by a budget; a stage that was given up keeps what it lost, for the trial to tell
    cut_short = sequence.ends_at is not None and bool(result.history) and result.history[-1].step < result.n_steps
    if (
        (sequence.progressive or sequence.must_improve or cut_short)
        and position.judged is not None
        and result.judgement is not None
    ):
        was, now = position.judged.losses, result.judgement.losses
        keep = bool((was - now).mean() > 0)
        promising = highest_gain(was, now, setup.seed) >= LEAST_GAIN
        position.unpromising = 0 if promising else position.unpromising + 1
    if keep:
        position.judged = result.judgement
        position.kept.append(position.stage)
    else:
        above.restore(before)
    if not stage.thaw.thawed:
        _save_start(net, sequence)  # an MLP head is where the stages after it start
    position.records.append(_record(spec, stage.thaw, above, result, took, setup, kept=keep))
    position.receipts.extend(receipts)
    position.stage += 1


def _give_up(position: _Position, sequence: StageSequence) -> Callable[[NDArray[np.float64]], bool] | None:
    if sequence.give_up is None or position.judged is None:
        return None
    return partial(sequence.give_up, position.judged.losses)


def _go_on(position: _Position, net: Net, sequence: StageSequence, setup: TrainingSetup) -> None:
    """Train what was kept on, from where it stands, on all samples."""
    stage = sequence.stages[position.kept[-1]]
    thaw, rows = stage.joint_thaw or stage.thaw, sequence.both
    spec = StageSpec(
        name=f"{thaw.setting if stage.joint_thaw else stage.name}, all samples",
        number=len(sequence.stages) + 1,
        of=len(sequence.stages) + 1,
        rows=rows,
        judged=rows[:0],
        epochs=stage.joint_epochs,
        views=0 if stage.joint_thaw else stage.views,
        share=stage.joint_share,
    )
    settings = setup.settings
    settings = settings.changed(warmup_frac=JOINT_WARMUP, clip_norm=JOINT_CLIP * settings.clip_norm)
    setup = replace(setup, settings=settings)
    above = Above(net, thaw, sequence.signature, moving_statistics=sequence.moving_statistics)
    result, receipts, took = _run(spec, above, sequence, setup, stages_left=1)
    position.records.append(_record(spec, thaw, above, result, took, setup, kept=True))
    position.receipts.extend(receipts)
    position.part = _DONE


def _run(
    spec: StageSpec, above: Above, sequence: StageSequence, setup: TrainingSetup, *, stages_left: int
) -> tuple[StageResult, list[Mapping[str, Any]], InputsReport]:
    """Train a stage; return what it reached, its receipts, and where its inputs came from.

    Args:
        stages_left: This stage and those that must follow; they share the time that is left.
    """
    ends_at = sequence.ends_at
    if ends_at is not None and stages_left > 1:
        now = time.monotonic()
        ends_at = now + max(ends_at - now, 0.0) / stages_left
    spec = replace(spec, ends_at=ends_at)
    by_pairs = setup.settings.objective == "contrastive"
    as_they_are = np.union1d(spec.judged, spec.rows) if by_pairs else spec.judged  # a head is solved on those
    inputs, took = sequence.inputs(above.net.backbone, above.cut, spec.views, spec.rows, as_they_are)
    checkpoint, rank = sequence.state / STEP_FILE, setup.settings.lora_rank
    if rank and any(name.startswith(BACKBONE) for name in above.learning):
        with low_rank(above, rank, spec.name, setup.seed) as merged:
            result = StageTrainer(spec, above, inputs, setup, checkpoint).run()
        receipts = [result.receipt, *merged]
    else:
        result = StageTrainer(spec, above, inputs, setup, checkpoint).run()
        receipts = [result.receipt]
    return result, [_plain(receipt) for receipt in receipts], took


def _plain(receipt: Receipt) -> Mapping[str, Any]:
    """Return a receipt as JSON gives it back, so that it is the same with and without a checkpoint between."""
    plain: dict[str, Any] = json.loads(json.dumps({"status": receipt.status, **asdict(receipt)}))
    return plain


def _record(
    spec: StageSpec,
    thaw: Thaw,
    above: Above,
    result: StageResult,
    took: InputsReport,
    setup: TrainingSetup,
    *,
    kept: bool,
) -> StageReport:
    total = sum(parameter.numel() for parameter in above.net.parameters())
    judged_by = task_of(setup.labels)
    after = "" if judged_by.target == "number" else ", after a temperature"
    score_name = f"{judged_by.loss_name} on the validation set{after}"
    judgement, last = result.judgement, result.history[-1] if result.history else None
    validation = None
    if judgement is not None:
        validation = ValidationReport(
            loss_ci95=judgement.loss_ci95,
            accuracy=judgement.accuracy,
            accuracy_ci95=judgement.accuracy_ci95,
            n=len(judgement.losses),
            temperature=judgement.temperature,
        )
    training = TrainingReport(
        thaw=thaw.setting,
        rung=thaw.rung,
        epochs=0 if last is None else round(last.epoch, 2),
        steps=0 if last is None else last.step,
        best_step=result.best_step,
        kept=kept,
        views=spec.views,
        cache=took,
        history=result.history,
        validation=validation,
    )
    return StageReport(
        name=spec.name,
        trainable=result.n_trainable,
        frozen=total - result.n_trainable,
        score=None if judgement is None else judgement.loss,
        score_name=score_name,
        seconds=result.seconds,
        details=training,
    )


def _save_start(net: Net, sequence: StageSequence) -> None:
    write_checkpoint(sequence.state / START_FILE, net.state_dict(), {})


def _start_again(above: Above, sequence: StageSequence) -> None:
    """Put back everything that the stage may change, to where training began."""
    found = read_checkpoint(sequence.state / START_FILE)
    assert found is not None, "written before the first stage"
    above.restore(found[0])


def _save(position: _Position, net: Net, sequence: StageSequence) -> None:
    tensors = dict(net.state_dict())
    if position.judged is not None:
        tensors[_LOGITS] = torch.from_numpy(position.judged.logits)
    state = {
        "part": position.part,
        "stage": position.stage,
        "records": [record.to_json() for record in position.records],
        "receipts": position.receipts,
        "kept": position.kept,
        "unpromising": position.unpromising,
        "mark": sequence.mark,
    }
    write_checkpoint(sequence.state / STAGES_FILE, tensors, state)


def _resumed(sequence: StageSequence, setup: TrainingSetup) -> tuple[_Position, Net]:
    """Return where an earlier call was stopped, or the start."""
    found = read_checkpoint(sequence.state / STAGES_FILE)
    net = sequence.start()
    if found is None or found[1].pop("mark", "") != sequence.mark:
        (sequence.state / STEP_FILE).unlink(missing_ok=True)  # of another training, whose stage may have the same name
        logits = sequence.start_logits
        judged = None if logits is None else judge(logits, setup.labels[sequence.val])
        position = _Position(judged=judged)
        _save_start(net, sequence)
        _save(position, net, sequence)  # solved again, the head may have other last bits
        return position, net
    tensors, state = found
    known = tensors.pop(_LOGITS, None)
    judged = None if known is None else judge(known.numpy(), setup.labels[sequence.val])
    net.load_state_dict(tensors)
    records = [StageReport.from_json(record) for record in state.pop("records")]
    return _Position(records=records, judged=judged, **state), net
