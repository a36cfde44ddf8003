"""Stages of training, one after the other: choose on the validation part, roll back what did not help, then refit.

Between two stages everything that was decided lies in ``stages.safetensors``, within one in ``step.safetensors``: a run
that was killed goes on from there and ends with the bits of one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from thawline.records import InputsReport, StageReport, TrainingReport, ValidationReport
from thawline.training.checkpoint import read_checkpoint, write_checkpoint
from thawline.training.judging import LEAST_GAIN, PATIENCE, Judgement, highest_gain, judge
from thawline.training.lesson import Activations, Lesson, Outcome, Task
from thawline.training.loop import Stage
from thawline.training.lora import low_rank
from thawline.training.net import BACKBONE, Above, Net

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from thawline.backbones.cut import Cut
    from thawline.backbones.receipt import Receipt
    from thawline.backbones.signature import Signature
    from thawline.backbones.thaw import Thaw

STAGES_FILE, STEP_FILE, START_FILE = "stages.safetensors", "step.safetensors", "start.safetensors"
LEAST_REFIT = 0.5
"""Share of the time that choosing took which must be left, in a budget, to train once more on all samples."""
_LOGITS = "judged.logits"
_CHOOSE, _REFIT = "choose", "refit"


class Inputs(Protocol):
    """Gives what crosses a line, from a cache or fresh."""

    def __call__(
        self, model: nn.Module, cut: Cut, views: int, train: NDArray[np.int64], judged: NDArray[np.int64]
    ) -> tuple[Activations, InputsReport]:
        """Return activations for the samples to train on and to be judged by, and where they came from."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One stage as planned."""

    name: str
    thaw: Thaw
    epochs: int
    views: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """All stages, and what they work on."""

    steps: Sequence[Step]
    progressive: bool
    """Each stage must earn its place on the validation part."""
    must_improve: bool = False
    """So it must where they are not progressive; else only one that was cut short must."""
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    """May be empty; progressive courses need it."""
    start: Callable[[NDArray[np.int64]], Net]
    """Makes the net that the first stage starts from: its head was solved on these rows."""
    start_logits: NDArray[np.float64] | None
    """(n_val, C) of what a stage must improve on, where it must: the net that starts, on the training part, or anything
    better; None where its head knows nothing yet."""
    signature: Signature
    moving_statistics: bool
    inputs: Inputs
    state: Path
    """Folder of the checkpoints."""
    ends_at: float | None = None
    """When all of it must be over, as ``time.monotonic`` tells."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What a course came to."""

    net: Net
    temperature: float
    """Divisor of the logits, fitted on the validation part."""
    val_logits: NDArray[np.float64] | None
    """(n_val, C) of the chosen net, which saw the training part only; before the temperature."""
    stages: tuple[StageReport, ...]
    receipts: tuple[Mapping[str, Any], ...]
    kept: str
    """Thaw setting of the last stage that was kept; ``none`` where all were rolled back."""
    kept_any: bool


@dataclass(slots=True, eq=False)
class _Position:
    """Where a course stands between two stages."""

    part: str = _CHOOSE
    stage: int = 0
    records: list[StageReport] = field(default_factory=list)
    receipts: list[Mapping[str, Any]] = field(default_factory=list)
    kept: list[tuple[int, float]] = field(default_factory=list)
    """Stages that were kept, and the share of their steps after which they were best."""
    unpromising: int = 0
    judged: Judgement | None = None

    def replayed(self, course: Course, task: Task) -> list[tuple[int, float]]:
        """The stages that lead to the net that was chosen."""
        if not _starts_again(course, task):
            return self.kept
        return [entry for entry in self.kept[:-1] if not course.steps[entry[0]].thaw.thawed] + self.kept[-1:]


def train(course: Course, task: Task) -> Trained:
    """Walk a course to its end, from wherever an earlier walk was stopped.

    Raises:
        ReceiptError: A stage moved what was frozen, or did not move what was thawed.
    """
    position, net = _resumed(course, task)
    while position.part == _CHOOSE and not _is_done(position, course):
        _choose(position, net, course, task)
        _save(position, net, course)
    refits = task.settings.refit and len(course.val) > 0
    if position.part == _CHOOSE and refits and _leaves_time(course, position):
        position.part, position.stage = _REFIT, 0
        net = course.start(np.sort(np.concatenate([course.train, course.val])))
        _save(position, net, course)
    while position.part == _REFIT and position.stage < len(position.replayed(course, task)):
        _refit(position, net, course, task)
        _save(position, net, course)
    judged = position.judged
    return Trained(
        net=net,
        temperature=1.0 if judged is None else judged.temperature,
        val_logits=None if judged is None else judged.logits,
        stages=tuple(position.records),
        receipts=tuple(position.receipts),
        kept=course.steps[position.kept[-1][0]].thaw.setting if position.kept else "none",
        kept_any=bool(position.kept),
    )


def _starts_again(course: Course, task: Task) -> bool:
    """Whether each stage starts where training began, rather than where the best one ended.

    Going on from the best is how gradual unfreezing is taught; on small data it carries along what earlier stages have
    over-fitted: see benchmarks/thaw_lines.md.
    """
    return course.progressive and task.settings.stages_from == "probe"


def _leaves_time(course: Course, position: _Position) -> bool:
    """Whether a second training, on all samples, can come as far as the first one did, or nearly."""
    taken = sum(record.seconds for record in position.records)
    return course.ends_at is None or course.ends_at - time.monotonic() > LEAST_REFIT * taken


def _is_done(position: _Position, course: Course) -> bool:
    if course.ends_at is not None and time.monotonic() >= course.ends_at:
        return True
    return position.stage == len(course.steps) or position.unpromising >= PATIENCE


def _choose(position: _Position, net: Net, course: Course, task: Task) -> None:
    """Run the next stage on the training part, and keep it or roll it back."""
    step = course.steps[position.stage]
    lesson = Lesson(
        name=step.name,
        number=position.stage + 1,
        of=len(course.steps),
        rows=course.train,
        judged=course.val,
        epochs=step.epochs,
        views=step.views,
    )
    left = len(course.steps) - position.stage
    refits = task.settings.refit and len(course.val) > 0
    above = Above(net, step.thaw, course.signature, moving_statistics=course.moving_statistics)
    before = above.snapshot()
    if step.thaw.thawed and _starts_again(course, task):
        _start_again(above, course)
    outcome, receipts, took = _run(lesson, above, course, task, lessons_left=left + refits)
    keep = True
    cut_short = bool(outcome.history) and outcome.history[-1].step < outcome.n_steps  # by a budget
    if (
        (course.progressive or course.must_improve or cut_short)
        and position.judged is not None
        and outcome.judgement is not None
    ):
        was, now = position.judged.losses, outcome.judgement.losses
        keep = bool((was - now).mean() > 0)
        promising = highest_gain(was, now, task.seed) >= LEAST_GAIN
        position.unpromising = 0 if promising else position.unpromising + 1
    if keep:
        position.judged = outcome.judgement
        position.kept.append((position.stage, outcome.best_step / outcome.n_steps))
    else:
        above.restore(before)
    if not step.thaw.thawed:
        _save_start(net, course)  # an MLP head is where the stages after it start
    position.records.append(_record(lesson, step.thaw, above, outcome, took, kept=keep))
    position.receipts.extend(receipts)
    position.stage += 1


def _refit(position: _Position, net: Net, course: Course, task: Task) -> None:
    """Run a stage that was kept once more, on training and validation parts together."""
    replayed = position.replayed(course, task)
    number, until = replayed[position.stage]
    step = course.steps[number]
    rows = np.sort(np.concatenate([course.train, course.val]))
    lesson = Lesson(
        name=f"refit {step.name}",
        number=position.stage + 1,
        of=len(replayed),
        rows=rows,
        judged=rows[:0],
        epochs=step.epochs,
        views=step.views,
        until=until,
    )
    above = Above(net, step.thaw, course.signature, moving_statistics=course.moving_statistics)
    left = len(replayed) - position.stage
    outcome, receipts, took = _run(lesson, above, course, task, lessons_left=left)
    position.records.append(_record(lesson, step.thaw, above, outcome, took, kept=True))
    position.receipts.extend(receipts)
    position.stage += 1


def _run(
    lesson: Lesson, above: Above, course: Course, task: Task, *, lessons_left: int
) -> tuple[Outcome, list[Mapping[str, Any]], InputsReport]:
    """Run a stage; returns what it came to, its receipts, and what its inputs took.

    Args:
        lessons_left: This one and those that must follow: they share the time that is left.
    """
    ends_at = course.ends_at
    if ends_at is not None and lessons_left > 1:
        now = time.monotonic()
        ends_at = now + max(ends_at - now, 0.0) / lessons_left
    lesson = replace(lesson, ends_at=ends_at)
    inputs, took = course.inputs(above.net.backbone, above.cut, lesson.views, lesson.rows, lesson.judged)
    checkpoint, rank = course.state / STEP_FILE, task.settings.lora_rank
    if rank and any(name.startswith(BACKBONE) for name in above.learning):
        with low_rank(above, rank, lesson.name, task.seed) as merged:
            outcome = Stage(lesson, above, inputs, task, checkpoint).run()
        receipts = [outcome.receipt, *merged]
    else:
        outcome = Stage(lesson, above, inputs, task, checkpoint).run()
        receipts = [outcome.receipt]
    return outcome, [_plain(receipt) for receipt in receipts], took


def _plain(receipt: Receipt) -> Mapping[str, Any]:
    """A receipt as JSON has it, so that it is the same when it went through a checkpoint."""
    plain: dict[str, Any] = json.loads(json.dumps({"status": receipt.status, **asdict(receipt)}))
    return plain


def _record(
    lesson: Lesson, thaw: Thaw, above: Above, outcome: Outcome, took: InputsReport, *, kept: bool
) -> StageReport:
    total = sum(parameter.numel() for parameter in above.net.parameters())
    judgement, last = outcome.judgement, outcome.history[-1] if outcome.history else None
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
        best_step=outcome.best_step,
        kept=kept,
        views=lesson.views,
        cache=took,
        history=outcome.history,
        validation=validation,
    )
    return StageReport(
        name=lesson.name,
        trainable=outcome.n_trainable,
        frozen=total - outcome.n_trainable,
        score=None if judgement is None else judgement.loss,
        score_name="log loss on the validation part, after a temperature",
        seconds=outcome.seconds,
        details=training,
    )


def _save_start(net: Net, course: Course) -> None:
    write_checkpoint(course.state / START_FILE, net.state_dict(), {})


def _start_again(above: Above, course: Course) -> None:
    """Put everything that the stage may change back to where training began."""
    found = read_checkpoint(course.state / START_FILE)
    assert found is not None, "written before the first stage"
    above.restore(found[0])


def _save(position: _Position, net: Net, course: Course) -> None:
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
    }
    write_checkpoint(course.state / STAGES_FILE, tensors, state)


def _resumed(course: Course, task: Task) -> tuple[_Position, Net]:
    """Where an earlier walk was stopped, or the start."""
    found = read_checkpoint(course.state / STAGES_FILE)
    if found is None:
        logits = course.start_logits
        judged = None if logits is None else judge(logits, task.labels[course.val])
        position, net = _Position(judged=judged), course.start(course.train)
        _save_start(net, course)
        _save(position, net, course)  # the head that was solved may have other last bits when it is solved again
        return position, net
    tensors, state = found
    known = tensors.pop(_LOGITS, None)
    judged = None if known is None else judge(known.numpy(), task.labels[course.val])
    rows = course.train if state["part"] == _CHOOSE else np.sort(np.concatenate([course.train, course.val]))
    net = course.start(rows)
    net.load_state_dict(tensors)
    records = [StageReport.from_json(record) for record in state.pop("records")]
    kept = [(int(stage), float(share)) for stage, share in state.pop("kept")]
    return _Position(records=records, kept=kept, judged=judged, **state), net
