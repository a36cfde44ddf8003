"""The loss that a net is trained by, for each target."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.nn import functional


def loss_of(
    logits: torch.Tensor,
    truth: torch.Tensor,
    *,
    weight: torch.Tensor | None = None,
    smoothing: float = 0.0,
    reduction: Literal["sum", "mean"] = "mean",
) -> torch.Tensor:
    """Return the loss of logits (B, C), the mean over the samples or their sum.

    Args:
        truth: Classes (B,) int64: cross-entropy. Labels (B, C) bool: binary cross-entropy, the mean over labels.
            Numbers (B, C) float32, of variance 1: squared error, the mean over numbers.
        weight: (C,) of the classes.
        smoothing: Share of the target that all classes divide equally; labels and numbers are not smoothed: most labels
            are rare, and a share of one half for each would drown them.
    """
    if truth.ndim == 1:
        return functional.cross_entropy(logits, truth, weight=weight, label_smoothing=smoothing, reduction=reduction)
    if truth.dtype == torch.bool:
        lost = functional.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none")
    else:
        lost = functional.mse_loss(logits, truth.to(logits.dtype), reduction="none")
    by_row = lost.mean(dim=1)  # (B, C) -> (B,)
    return by_row.sum() if reduction == "sum" else by_row.mean()


def guessing_loss(truth: torch.Tensor, n: int) -> float:
    """Return the mean loss of a guess that knows nothing: one of ``n`` classes, yes or no, or the mean of numbers."""
    if truth.ndim == 1:
        return math.log(n)
    return math.log(2) if truth.dtype == torch.bool else 1.0
