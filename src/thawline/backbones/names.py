"""Names that the rooms share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


INPUT = "input"
"""The rung at the start of the backbone: the images themselves, nothing frozen."""


POOLED = "pooled"
"""The rung at the end of the backbone: its own pooled output, what a classifier would see."""


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Endings of the buffers that normalisation layers keep beside their parameters."""
