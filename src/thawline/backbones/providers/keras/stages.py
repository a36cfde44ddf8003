"""Stages of Keras models: their names have no dots, but most say the block."""

from __future__ import annotations

import re

_SAID = re.compile(r"(.*?stage_\d+|block_?\d+|conv\d+(?=_block)|expanded_conv(?:_\d+)?)(?=_|[a-z]|$)")
"""``block5_conv1``, ``conv4_block2_1_bn``, ``block_13_project``, ``convnext_tiny_stage_2_block_3_layernorm``."""
_SEPARABLE = re.compile(r"conv_[dp]w_(\d+)")
"""Depthwise and pointwise convolution of a MobileNet, which make one block."""
_CELL = re.compile(r"(?:normal|reduction|adjust|separable)_.*_(\d+)$")
"""A layer of a NASNet, with the number of its cell."""


def stage_of(layer: str) -> str | None:
    """Return the stage that a layer's name says; None if it says none."""
    if said := _SAID.match(layer):
        return said[1]
    if pair := _SEPARABLE.match(layer):
        return f"conv_{pair[1]}"
    cell = _CELL.match(layer)
    return f"cell_{cell[1]}" if cell and "_stem_" not in layer else None
