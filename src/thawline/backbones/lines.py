"""Choose the rungs of a ladder that are worth measuring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from thawline.backbones.ladder import Ladder

MOST_DEPTHS, MOST_COLUMNS = 9, 16_384
"""Most depths that are put side by side, and most columns of them together."""


def depth_rungs(ladder: Ladder) -> list[str]:
    """Return layers to put side by side: the last of each stage, a few of them if there are many, and ``pooled``."""
    ends: dict[str, tuple[str, int]] = {}
    for rung in ladder.rungs[:-1]:
        if rung.parameters and rung.read_at:
            ends[rung.stage] = (rung.read_at, ladder.width(rung))
    names = list(ends.values())
    last, pooled = ladder.rungs[-2], ladder.rungs[-1]
    if names and last.flops_below_frac == 1.0 and names[-1][1] == pooled.shape[-1]:
        names.pop()  # averaged over positions, it is ``pooled`` itself
    if len(names) > MOST_DEPTHS - 1:
        picked = np.unique(np.linspace(0, len(names) - 1, MOST_DEPTHS - 1).round().astype(int))
        names = [names[i] for i in picked]
    while len(names) > 1 and sum(width for _, width in names) > MOST_COLUMNS:
        names.pop(0)
    return [*(name for name, _ in names), "pooled"]


LINES = (0.75, 0.4)
"""Lines are tried at the layers with nearest to these shares of the backbone's FLOPs below them; and at all."""


def thaw_lines(ladder: Ladder) -> list[str]:
    """Return thaw settings worth trying, from the end of the backbone to its beginning; the last one is ``all``."""
    layers = [rung for rung in ladder.rungs if rung.parameters]
    below = [0.0, *(rung.flops_below_frac for rung in layers[:-1])]  # FLOPs below each layer
    settings = []
    for share in LINES:
        at = min(range(len(layers)), key=lambda i: (abs(below[i] - share), -i))
        if at > 0:
            settings.append(f"from:{layers[at].name}")
    return [*dict.fromkeys(settings), "all"]
