"""Run samples of various lengths: those of one rounded length together, each as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.inputs.lengths import by_length

TOKENS_AT_ONCE = 512
"""Tokens in one run of a network on a processor: what a block computes of them stays in its caches. Twice as many, or
half, are as fast within the noise (benchmarks/text_encoding.md)."""
TOGETHER = 128
"""Samples that should come at once, so that those of one length are several."""


def run_by_length(
    samples: NDArray[Any], pad: int, most: int, run: Callable[[NDArray[Any]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Run samples (B, L), filled up with ``pad``, in parts of one length: features (B, D) in their order.

    Args:
        most: Numbers in one part, at most.
        run: Takes (n, length).
    """
    rows: NDArray[np.float32] | None = None
    for places, part in by_length(samples, pad, most):
        found = run(part)
        if rows is None:
            rows = np.empty((len(samples), found.shape[1]), np.float32)
        rows[places] = found
    assert rows is not None, "a batch has samples"
    return rows
