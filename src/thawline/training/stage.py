"""What one stage of training is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from numpy.typing import NDArray

    from thawline.backbones.receipt import Receipt
    from thawline.heads import FittedHead
    from thawline.listening import Listener
    from thawline.training.judging import Judgement
    from thawline.training.settings import TrainPlan
    from thawline.training_records import Point

Batches = Sequence[tuple["NDArray[np.int64]", int | None]]
"""For each batch the rows (B,) of its samples, and the view of them; None for the samples as they are."""


class Activations(Protocol):
    """What crosses the thaw line, for any sample and view."""

    def stream(self, batches: Batches) -> Generator[tuple[torch.Tensor, ...]]:
        """Yield, for each (rows, view), the tensors (B, ...) that cross the line."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSetup:
    """What all stages of a training share."""

    labels: NDArray[Any]
    """(N,) classes of all samples; or (N, C) labels, or numbers whose training set has mean 0 and variance 1."""
    n_classes: int
    settings: TrainPlan
    seed: int
    device: str
    precision: str
    """f32 or bf16."""
    groups: NDArray[np.int64] | None = None
    """(N,) samples with equal numbers share a fold where a head is solved; None: each is alone."""
    probe: FittedHead | None = None
    """The head that was solved on features of the frozen backbone; None if there is none."""
    listener: Listener
    """Hears of every step and every evaluation."""
    pad: int | None = None
    """Id of the token that fills texts up; None for samples of one size."""
    backbone_share: float = 1.0
    """Share of the learning rate at which the backbone learns; the head learns at all of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageSpec:
    """One stage to train: on which samples, for how long."""

    name: str
    number: int
    """From 1."""
    of: int
    """How many stages there are."""
    rows: NDArray[np.int64]
    """(n,) samples to train on."""
    judged: NDArray[np.int64]
    """(m,) samples to judge by; may be empty."""
    epochs: int
    views: int
    """Augmented views of each sample that epochs take in turn; 0: a new one in each epoch."""
    give_up: Callable[[NDArray[np.float64]], bool] | None = None
    """Asked at each evaluation with the losses (m,) of the samples to judge by: whether to stop there."""
    share: float = 1.0
    """Of the pairs that training may compare, those of this stage."""
    ends_at: float | None = None
    """When the stage must be over, on the clock of ``time.monotonic``; it makes no step after that."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageResult:
    """What a stage reached; the net holds the weights that it ended with."""

    judgement: Judgement | None
    n_trainable: int
    """Parameters that learned, the head included."""
    receipt: Receipt
    history: tuple[Point, ...]
    best_step: int
    """The weights are those after this step."""
    n_steps: int
    """Of the schedule; the stage may have stopped before."""
    seconds: float
