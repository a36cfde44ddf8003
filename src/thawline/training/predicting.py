"""Ask a net that is being trained about samples as they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from thawline.engines.arithmetic import arithmetic
from thawline.training.ragged import cut_to_longest, in_order, parts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.training.fused.steps import FastSteps
    from thawline.training.net import Above
    from thawline.training.stage import Activations, Batches, TrainingSetup

_ROWS = 64
"""Samples in one run of the net."""


def predict(
    above: Above, inputs: Activations, rows: NDArray[np.int64], setup: TrainingSetup, fast: FastSteps
) -> NDArray[np.float64]:
    """Return logits (n, C) of samples as they are, without augmentation."""
    return _run_over(above.logits, above, inputs, rows, setup, fast).astype(np.float64)


def features_of(
    above: Above, inputs: Activations, rows: NDArray[np.int64], setup: TrainingSetup, fast: FastSteps
) -> NDArray[np.float32]:
    """Return features (n, D) of samples as they are, as the head takes them."""
    return _run_over(above.features, above, inputs, rows, setup, fast)


def _run_over(
    run: Callable[[tuple[torch.Tensor, ...]], torch.Tensor],
    above: Above,
    inputs: Activations,
    rows: NDArray[np.int64],
    setup: TrainingSetup,
    fast: FastSteps,
) -> NDArray[np.float32]:
    """Return (n, K) of what ``run`` gives for samples as they are."""
    batches: Batches = [(rows[i : i + _ROWS], None) for i in range(0, len(rows), _ROWS)]

    def of_part(crossing: tuple[torch.Tensor, ...], start: int, part: slice) -> torch.Tensor:
        here = slice(start + part.start, start + part.stop)
        with torch.no_grad(), arithmetic_of(setup):
            return run(cut_to_longest(tuple(tensor[here] for tensor in crossing), setup.pad))

    def of_batch(crossing: tuple[torch.Tensor, ...]) -> torch.Tensor:
        crossing, order = in_order(crossing, setup.pad)
        parts = parts_of(crossing, setup.pad)
        found = [fast.each(partial(of_part, crossing, part.start), part.stop - part.start) for part in parts]
        return torch.cat([values for each in found for values in each])[torch.argsort(order)]

    above.eval()
    try:
        with closing(inputs.stream(batches)) as stream:
            found = [of_batch(crossing) for crossing in stream]
    finally:
        above.train()
    values: NDArray[np.float32] = torch.cat(found).cpu().numpy()
    return values


def arithmetic_of(setup: TrainingSetup) -> AbstractContextManager[None]:
    """Return the context in which layers compute as a training asks."""
    return arithmetic(torch.device(setup.device), setup.precision)
