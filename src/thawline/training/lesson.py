"""What a stage of training is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from numpy.typing import NDArray

    from thawline.backbones.receipt import Receipt
    from thawline.listening import Listener
    from thawline.records import Point
    from thawline.training.judging import Judgement
    from thawline.training.settings import TrainPlan

Batches = Sequence[tuple["NDArray[np.int64]", int | None]]


class Activations(Protocol):
    """What crosses the thaw line, for any sample and view."""

    def stream(self, batches: Batches) -> Generator[tuple[torch.Tensor, ...]]:
        """Yield, for each (rows, view), the tensors (B, ...) that cross the line."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """What stays the same from stage to stage."""

    labels: NDArray[np.int64]
    """(N,) of all samples."""
    n_classes: int
    settings: TrainPlan
    seed: int
    device: str
    precision: str
    """f32 or bf16."""
    listener: Listener
    """Hears of every step and every evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """One stage to be run."""

    name: str
    number: int
    of: int
    rows: NDArray[np.int64]
    """(n,) samples to train on."""
    judged: NDArray[np.int64]
    """Samples to be judged by; may be empty."""
    epochs: int
    views: int
    """0: fresh ones each epoch."""
    until: float = 1.0
    """Share of the steps after which to stop; the schedule is that of the whole."""
    ends_at: float | None = None
    """When it must be over, as ``time.monotonic`` tells; steps that do not fit in are left out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What a stage came to; the net holds the weights of its best evaluation."""

    judgement: Judgement | None
    n_trainable: int
    """Size of what learned, the head included."""
    receipt: Receipt
    history: tuple[Point, ...]
    best_step: int
    n_steps: int
    seconds: float
