"""Batches of texts above the thaw line: in order of length, divided where that saves work, cut to their longest text.

A batch is filled up to its longest text. Most texts are much shorter: run as a whole, two thirds of the tokens of a
batch may be padding. A loss is a sum over samples, so a batch in parts has the same gradient but for rounding.
"""

from __future__ import annotations

import numpy as np
import torch

PART_TOKENS = 256
"""Tokens that one more part of a batch must save on a processor: calling the layers, and adding the gradients of all
weights once more, takes about as long."""


def lengths_in(crossing: tuple[torch.Tensor, ...], pad: int | None) -> torch.Tensor | None:
    """Count the tokens of each sample of a batch, (B,); None if what crosses the line has no positions.

    Args:
        crossing: Ids (B, L), or hidden (B, L, W) with exact zeros where there is no token.
        pad: Id that fills up; None for samples of one size.
    """
    x = crossing[0]
    if pad is None or (x.is_floating_point() and x.ndim < 3):
        return None
    there = (x != 0).any(-1) if x.is_floating_point() else x != pad  # (B, L)
    return (there * torch.arange(1, x.shape[1] + 1, device=x.device)).amax(1)


def in_order(crossing: tuple[torch.Tensor, ...], pad: int | None) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """Return a batch with its shortest texts first, and the place (B,) that each had; samples of one size stay."""
    lengths = lengths_in(crossing, pad)
    if lengths is None:
        return crossing, torch.arange(len(crossing[0]), device=crossing[0].device)
    order = torch.argsort(lengths, stable=True)
    return tuple(tensor[order] for tensor in crossing), order


def parts_of(crossing: tuple[torch.Tensor, ...], pad: int | None) -> list[slice]:
    """Divide a batch in order of length into parts that take least work; one part, if division would not save any.

    Only a processor gains from parts: other devices run a whole batch at once.
    """
    n, lengths = len(crossing[0]), lengths_in(crossing, pad)
    if lengths is None or lengths.device.type != "cpu":
        return [slice(0, n)]
    ordered = np.maximum.accumulate(lengths.numpy())
    ends = [*(np.flatnonzero(np.diff(ordered)) + 1).tolist(), n]
    best: dict[int, tuple[int, int]] = {0: (0, 0)}
    """How many of the first samples -> (least cost of running them in parts, where the last part begins)."""
    for end in ends:
        best[end] = min((cost + (end - at) * int(ordered[end - 1]) + PART_TOKENS, at) for at, (cost, _) in best.items())
    parts: list[slice] = []
    while n:
        start = best[n][1]
        parts.insert(0, slice(start, n))
        n = start
    return parts


def cut_to_longest(crossing: tuple[torch.Tensor, ...], pad: int | None) -> tuple[torch.Tensor, ...]:
    """Take off the tokens that no sample of a batch has; samples of one size stay as they are."""
    lengths = lengths_in(crossing, pad)
    if lengths is None:
        return crossing
    longest = max(int(lengths.max()), 1)
    return tuple(tensor[:, :longest] for tensor in crossing)
