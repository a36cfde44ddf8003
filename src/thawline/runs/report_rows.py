"""Rows of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Strength:
    """One value of C or lambda that was tried."""

    value: float
    log_loss: float
    standard_error: float | None
    kept: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """How the loss of one stage went."""

    stage: str
    start: float
    """Epochs of the stages before it."""
    points: tuple[tuple[float, float, float | None], ...]
    """(epochs so far, loss in training, loss on the validation part)"""
    kept: bool
