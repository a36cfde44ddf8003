"""Which samples a step sees and how fast it learns: functions of the step alone, so that a run can be resumed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from thawline.randomness import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.training.settings import TrainPlan


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Return the number of batches of nearly ``batch_size`` that ``n`` samples are divided into."""
    return max(1, round(n / batch_size))


def n_pairs(n: int) -> int:
    """Return the number of pairs among ``n`` samples, each counted once."""
    return n * (n - 1) // 2


def epochs_within(pairs: int, n: int, batch_size: int) -> int:
    """Return the epochs over ``n`` samples that compare about so many pairs; at least one."""
    return max(round(pairs / n_pairs(batch_size) / max(n // batch_size, 1)), 1)


class Order:
    """The batches of a stage; every epoch passes over all samples once, in an order of its own."""

    def __init__(
        self, rows: NDArray[np.int64], *, batch_size: int, epochs: int, seed: int, stage: str, views: int
    ) -> None:
        """Describe the order.

        Args:
            rows: (n,) samples to train on.
            batch_size: Samples in one step, about.
            epochs: Passes over all samples.
            seed: Of the plan.
            stage: Stages have orders of their own.
            views: Views of each sample that exist; epochs take them in turn. 0: every epoch has a new one.
        """
        self._rows, self._seed, self._stage, self._views = rows, seed, stage, views
        self.per_epoch = steps_per_epoch(len(rows), batch_size)
        self.n_steps = epochs * self.per_epoch
        self._last: tuple[int, list[NDArray[np.int64]]] = -1, []

    def batch(self, step: int) -> tuple[NDArray[np.int64], int]:
        """Return the rows (B,) of a step, and the number of the view that it sees of them."""
        epoch, part = divmod(step, self.per_epoch)
        return self._parts(epoch)[part], epoch % self._views if self._views else epoch

    def _parts(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the batches of an epoch; the last epoch is kept, as its next step asks for it again."""
        if self._last[0] != epoch:
            self._last = epoch, self._deal(epoch)
        return self._last[1]

    def _deal(self, epoch: int) -> list[NDArray[np.int64]]:
        shuffled = generator(self._seed, "order", self._stage, epoch).permutation(self._rows)
        return np.array_split(shuffled, self.per_epoch)

    def batches(self, start: int, stop: int) -> list[tuple[NDArray[np.int64], int]]:
        """Return the batches of steps ``start`` to ``stop - 1``."""
        return [self.batch(step) for step in range(start, stop)]


def rate(step: int, n_steps: int, settings: TrainPlan) -> float:
    """Return the share of the full learning rate at a step: a linear rise, then a half cosine to 0, or constant.

    Source:
        Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up as Goyal et al. 2017, arXiv:1706.02677.
    """
    warm = round(settings.warmup_frac * n_steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(n_steps - warm, 1)))


def evaluation_steps(n_steps: int, n_evaluations: int) -> frozenset[int]:
    """Return the steps after which a stage is judged: evenly spread, the last one at its end."""
    n = min(n_evaluations, n_steps)
    return frozenset(math.ceil(n_steps * (i + 1) / n) for i in range(n))
