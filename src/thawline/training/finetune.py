"""Fine-tune from a solved head (LP-FT), train an MLP head, or train everything from random weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from thawline.backbones.thaw import resolve_thaw
from thawline.heads import LinearHead, Task, task_of
from thawline.heads.modules import from_module, new_mlp, to_module
from thawline.inputs.image.views import Augmentation, Views
from thawline.randomness import derived_seed
from thawline.scale.allocator import keep_freed_memory
from thawline.training.first_step import safe_share
from thawline.training.inputs import FrozenBelow
from thawline.training.net import Above, Net
from thawline.training.probe import Fitted
from thawline.training.stage import TrainingSetup
from thawline.training.stages import Stage, StageSequence, TrainingResult, train
from thawline.training.units import Units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from thawline.backbones import Backbone
    from thawline.backbones.ladder import Ladder
    from thawline.backbones.thaw import Thaw
    from thawline.heads import Head
    from thawline.listening import Listener
    from thawline.records import Dataset, Precision, Split
    from thawline.training.settings import StagePlan, TrainPlan

TUNED_FILE = "tuned.safetensors"
MOST_NAMED = 6
"""Most layers that are named one by one when a stage is announced."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ask:
    """What to train, as the plan says."""

    stages: Sequence[StagePlan]
    settings: TrainPlan
    progressive: bool
    from_scratch: bool
    head: Literal["linear", "mlp"]
    hidden: tuple[int, ...]
    dropout: float
    seed: int
    device: str
    """As torch names it; not ``auto``."""
    precision: Precision
    ends_at: float | None = None
    """When training must be over, on the clock of ``time.monotonic``; None without a limit."""
    must_improve: bool = False
    """Keep a stage only if it improves on the validation set, whether it was cut short or not."""
    choose_only: bool = False
    """Stop when all is chosen; a later call with the same state goes on with all samples."""
    give_up: Callable[[NDArray[np.float64], NDArray[np.float64]], bool] | None = None
    """Asked at each evaluation with the losses (n_val,) of the start and those of now: whether to stop there."""


def fine_tune(
    ask: Ask,
    data: Dataset,
    split: Split,
    backbone: Backbone,
    features: NDArray[np.float32] | None,
    probe: Fitted | None,
    state: Path,
    listener: Listener,
    *,
    to_beat: NDArray[np.float64] | None = None,
) -> Fitted:
    """Train what is above the thaw line, stage by stage, from wherever the run was stopped.

    Args:
        ask: What to train.
        backbone: Pre-trained; with ``from_scratch`` only its architecture is used. It is not changed.
        features: (N, D) of the frozen backbone; None from scratch.
        probe: The head solved on them, from which training starts; None to start from a random head.
        state: Folder of the checkpoints.
        listener: Hears of progress.
        to_beat: (n_val, C) probabilities, or numbers, that a stage must improve on; by default those of the head that
            training starts from.
    Raises:
        ReceiptError: Something frozen moved, or something thawed did not learn.
    """
    if torch.device(ask.device).type == "cpu":
        keep_freed_memory()
    task, units = task_of(data.truth), Units.of(data.truth[split.train])
    truth, n_outputs = units.scaled(data.truth), len(data.outputs)
    width = None if features is None else features.shape[1]
    starts = _Starts(ask, backbone, n_outputs, split, probe, width, units)
    known = starts.logits(features) if to_beat is None else task.logits(units.scaled(to_beat))
    sequence = _sequence(ask, data, split, backbone, features, starts, known, state, listener)
    share = _backbone_share(ask, sequence, starts, data, truth, backbone, listener)
    setup = TrainingSetup(
        labels=truth,
        n_classes=n_outputs,
        settings=ask.settings,
        seed=ask.seed,
        device=ask.device,
        precision=ask.precision,
        groups=data.groups,
        probe=probe.probe if probe else None,
        listener=listener,
        backbone_share=share,
        pad=backbone.preparation.spec.pad,
    )
    return _fitted(train(sequence, setup), ask, backbone, probe, state, task, units)


def _sequence(
    ask: Ask,
    data: Dataset,
    split: Split,
    backbone: Backbone,
    features: NDArray[np.float32] | None,
    starts: _Starts,
    known: NDArray[np.float64] | None,
    state: Path,
    listener: Listener,
) -> StageSequence:
    ladder, module = backbone.ladder, backbone.blueprint()
    for stage in ask.stages:
        goes_on = ask.settings.refit and stage.joint_epochs > 0
        for setting in dict.fromkeys((stage.thaw, stage.goal if goes_on else stage.thaw)):
            listener.note(_in_words(resolve_thaw(ladder, setting, module), ladder))
    augmentation = Augmentation(crop_scale=ask.settings.crop_scale, flip=ask.settings.flip, colour=ask.settings.colour)
    stages = [
        Stage(
            stage.thaw,
            resolve_thaw(ladder, stage.thaw, module),
            stage.epochs,
            stage.joint_epochs,
            stage.views,
            resolve_thaw(ladder, stage.joint_thaw, module) if stage.joint_thaw else None,
        )
        for stage in ask.stages
    ]
    return StageSequence(
        stages=[replace(stage, name="mlp head") if stage.thaw.setting == "none" else stage for stage in stages],
        progressive=ask.progressive,
        must_improve=ask.must_improve,
        train=split.train,
        val=split.val,
        start=starts,
        start_logits=known,
        signature=backbone.signature,
        moving_statistics=ask.settings.statistics == "moving",
        inputs=FrozenBelow(
            samples=data,
            backbone=backbone,
            views=Views(augmentation=augmentation, seed=ask.seed),
            features=features,
            device=ask.device,
            precision=ask.precision,
            listener=listener,
        ),
        state=state,
        ends_at=ask.ends_at,
        give_up=ask.give_up,
        choose_only=ask.choose_only,
    )


def _backbone_share(
    ask: Ask,
    sequence: StageSequence,
    starts: _Starts,
    data: Dataset,
    truth: NDArray[Any],
    backbone: Backbone,
    listener: Listener,
) -> float:
    """Try the first step from a solved head, and say so if the backbone must learn more slowly than the head.

    It follows from the start alone: a training that is resumed, or whose first part was a trial, finds the same.
    """
    if starts.probe is None or ask.settings.first_step == "full" or ask.settings.lora_rank or ask.from_scratch:
        return 1.0
    thaw = max((stage.thaw for stage in sequence.stages), key=lambda thaw: thaw.n_trainable)
    if not thaw.n_trainable:
        return 1.0
    above = Above(starts(), thaw, backbone.signature, moving_statistics=False)
    share = safe_share(above, data, sequence.train, backbone, starts.n_classes, ask.settings, truth=truth)
    if share < 1:
        lr = ask.settings.lr
        listener.note(
            f"The backbone learns at {lr * share:g} instead of {lr:g}: a step of that size would raise the loss of the "
            "solved head. --set first_step=full takes the full rate."
        )
    return share


def _in_words(thaw: Thaw, ladder: Ladder) -> str:
    """Say what learns in a stage; plan.toml has every name."""
    layers = [rung.name for rung, n in zip(ladder.rungs, thaw.trainable_at, strict=True) if n]
    named = ", ".join(layers if len(layers) <= MOST_NAMED else [*layers[:2], "...", layers[-1]])
    if not layers:
        return "Thaw none: the head learns, on features of the frozen model."
    return (
        f"Thaw {thaw.setting}: {named} learn beside the head, {thaw.n_trainable:,} of {ladder.parameters:,} parameters "
        f"in {len(layers)} of {ladder.layers} layers.{thaw.said and ' ' + thaw.said}"
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Starts:
    """Makes the net that training starts from."""

    ask: Ask
    backbone: Backbone
    n_classes: int
    split: Split
    probe: Fitted | None
    width: int | None
    """Of the features; None without features, when the ladder tells."""
    units: Units

    def __call__(self) -> Net:
        backbone = self._random() if self.ask.from_scratch else copy.deepcopy(self.backbone.module())
        net = Net(backbone.train(False), self._head())
        net.to(device=self.ask.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net

    def logits(self, features: NDArray[np.float32] | None) -> NDArray[np.float64] | None:
        """Return (n_val, C) of the solved head that saw the training set only; None if there is none."""
        if self.probe is None or features is None or not len(self.split.val):
            return None
        return self._solved().decision(features[self.split.val])

    def _random(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.ask.seed, "backbone"))
            return self.backbone.build()

    def _head(self) -> nn.Module:
        if self.probe is not None:
            return to_module(self._solved())
        (width,) = self.backbone.ladder.rungs[-1].shape if self.width is None else (self.width,)
        layers = new_mlp(width, self.ask.hidden, self.n_classes, self.ask.dropout, self.ask.seed)
        return layers if self.ask.head == "mlp" else layers.get_submodule("0")

    def _solved(self) -> LinearHead:
        """Return the head that was solved on the training set, with its weights divided by its temperature."""
        assert self.probe is not None and self.probe.probe is not None
        solved = cast(LinearHead, self.probe.probe.head)
        at_one = LinearHead(solved.kind, solved.weight / solved.temperature, solved.bias / solved.temperature)
        return self.units.scaled_head(at_one)


def _fitted(
    trained: TrainingResult,
    ask: Ask,
    backbone: Backbone,
    probe: Fitted | None,
    state: Path,
    task: Task,
    units: Units,
) -> Fitted:
    """Gather what ships: if every stage was rolled back, the solved head on the backbone as it came."""
    stages = (*(probe.stages if probe else ()), *trained.stages)
    if probe is not None and not trained.kept_any:
        return replace(probe, stages=stages, receipts=trained.receipts)
    learned = from_module(trained.net.head.cpu(), kind=ask.head, temperature=trained.temperature, target=task.target)
    head: Head = units.restored_head(learned)
    tuned = backbone.tuned(trained.net.backbone.cpu(), state / TUNED_FILE) if trained.kept != "none" else None
    logits = trained.val_logits
    return Fitted(
        head=head,
        probe=probe.probe if probe else None,
        validation_probabilities=None if logits is None else units.restored(task.outputs(logits / trained.temperature)),
        stages=stages,
        backbone=tuned,
        receipts=trained.receipts,
        kept=trained.kept,
        solved=probe.head if probe else None,
    )
