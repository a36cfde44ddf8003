"""Names that stand for something in every backbone."""

from __future__ import annotations

INPUT = "input"
"""The rung at the start of the backbone: the samples themselves; nothing is frozen."""
POOLED = "pooled"
"""The rung at the end of the backbone: its own pooled output, what a classifier would see."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Endings of the buffers that normalisation layers keep beside their parameters."""

COUNTED = "parameters"
"""The argument of a model that says how many parameters it has, where its tensors do not."""

DEFAULT_MODEL = "embedded/resnet18_half"
"""The model that opens if none is named. It ships inside and needs no network."""
DEFAULT_TEXT_MODEL = "embedded/words"
"""The same for texts."""


def default_model(kind: str) -> str:
    """Return the model that opens for a kind of input if none is named."""
    return DEFAULT_TEXT_MODEL if kind == "text" else DEFAULT_MODEL


def layers_in(setting: str) -> tuple[str, ...]:
    """Split a setting that may name several layers, with commas."""
    return tuple(name.strip() for name in setting.split(","))
