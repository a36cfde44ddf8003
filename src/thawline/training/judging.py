"""Judge a stage on the validation set: its loss after a temperature, sample by sample, and paired gains.

The temperature takes the effects of label smoothing and over-confidence out of the loss, which then tells how well the
classes are told apart. The temperature ships with the head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from thawline.heads.tasks import task_of
from thawline.proportions import wilson
from thawline.randomness import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_TO_CALIBRATE = 20
"""With fewer samples, a temperature would be fitted to chance; it stays at 1."""
LEAST_TO_GO_BACK = 50
"""With fewer samples, an earlier evaluation that looked better was luck: trusting eight of them cost a fine-tuning on
50 pictures 3 to 6 points of accuracy. As the learning rate falls to 0, the end is the best guess."""
_BOOTSTRAPS = 1000
LEAST_GAIN = 0.01
"""A stage that may lower the log loss by less than this share promises too little."""
PATIENCE = 2
"""After so many stages in a row that promise too little, progressive unfreezing stops."""


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What a model says about the validation set, and how right it is."""

    logits: NDArray[np.float64]
    """(n, C) before the temperature."""
    losses: NDArray[np.float64]
    """(n,) log loss of each sample after the temperature."""
    temperature: float
    accuracy: float
    """Of labels the share of samples with all labels right; of numbers R2."""
    interval: tuple[float, float] | None = None
    """Of the accuracy, where Wilson's does not hold."""

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    @property
    def loss_ci95(self) -> tuple[float, float]:
        """Normal interval of the mean loss."""
        n = len(self.losses)
        half = 1.96 * float(self.losses.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
        return self.loss - half, self.loss + half

    @property
    def accuracy_ci95(self) -> tuple[float, float]:
        """Wilson interval, of numbers a normal one."""
        if self.interval is not None:
            return self.interval
        n = len(self.losses)
        return wilson(round(self.accuracy * n), n)


def judge(logits: NDArray[np.float64], truth: NDArray[Any]) -> Judgement:
    """Judge logits (n, C) by classes (n,), or by labels or numbers (n, C)."""
    task = task_of(truth)
    temperature = task.net_temperature(logits, truth) if len(truth) >= LEAST_TO_CALIBRATE else 1.0
    right = task.right(logits, truth)
    if task.target == "class":  # SciPy's bits, on which checkpoints and plans of earlier releases rest
        losses = -log_softmax(logits / temperature, axis=1)[np.arange(len(truth)), truth]
    else:
        losses = task.row_losses(logits / temperature, truth)
    interval = task.interval(right, len(truth)) if task.target == "number" else None
    return Judgement(logits, losses, temperature, float(right.mean()), interval)


def clearly_better(than: NDArray[np.float64], losses: NDArray[np.float64]) -> bool:
    """Say whether ``losses`` (n,) are below ``than`` (n,) by more than one standard error of the paired difference."""
    gain = than - losses
    return bool(gain.mean() > gain.std(ddof=1) / math.sqrt(len(gain))) if len(gain) > 1 else bool(gain.mean() > 0)


def highest_gain(than: NDArray[np.float64], losses: NDArray[np.float64], seed: int) -> float:
    """Return the upper end of a 90 % interval of the mean paired gain, as a share of the mean of ``than``.

    The interval is a bootstrap over samples. Below `LEAST_GAIN`, even a lucky validation set promises too little.
    """
    gain = than - losses
    drawn = generator(seed, "futility").integers(0, len(gain), (_BOOTSTRAPS, len(gain)))
    return float(np.quantile(gain[drawn].mean(axis=1), 0.95) / max(float(than.mean()), 1e-12))
