"""timm's MobileNetV2 weights in Keras's MobileNetV2: the same network, layer by layer, under other names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

BLOCKS_PER_STAGE = (1, 2, 3, 4, 3, 3, 1)
TIMM_EPSILON = 1e-5
"""Of batch normalisation; Keras builds this network with 1e-3."""


def pairs() -> Iterator[tuple[str, str, str, str]]:
    """Every convolution with its normalisation: both names in Keras, then both in timm."""
    yield "Conv1", "bn_Conv1", "conv_stem", "bn1"
    block = 0
    for stage, n_blocks in enumerate(BLOCKS_PER_STAGE):
        for i in range(n_blocks):
            keras, timm = f"block_{block}" if block else "expanded_conv", f"blocks.{stage}.{i}"
            depthwise, project = f"{keras}_depthwise", f"{keras}_project"
            if block == 0:  # the only block that does not expand
                yield depthwise, f"{depthwise}_BN", f"{timm}.conv_dw", f"{timm}.bn1"
                yield project, f"{project}_BN", f"{timm}.conv_pw", f"{timm}.bn2"
            else:
                yield f"{keras}_expand", f"{keras}_expand_BN", f"{timm}.conv_pw", f"{timm}.bn1"
                yield depthwise, f"{depthwise}_BN", f"{timm}.conv_dw", f"{timm}.bn2"
                yield project, f"{project}_BN", f"{timm}.conv_pwl", f"{timm}.bn3"
            block += 1
    yield "Conv_1", "Conv_1_bn", "conv_head", "bn2"


def load(base: Any, weights: Path) -> None:
    """Fill ``keras.applications.MobileNetV2(include_top=False, alpha=1.0)`` with a state dict of mobilenetv2_100.

    Raises:
        ValueError: A shape does not fit, or a tensor of the file has no place in the network.
        KeyError: The file lacks a tensor.
    """
    state = load_file(weights)
    for convolution, normalisation, timm_convolution, timm_normalisation in pairs():
        kernel = state.pop(f"{timm_convolution}.weight")  # (out, in, h, w); depthwise: (channels, 1, h, w)
        order = (2, 3, 0, 1) if timm_convolution.endswith("conv_dw") else (2, 3, 1, 0)
        base.get_layer(convolution).set_weights([np.transpose(kernel, order)])
        layer = base.get_layer(normalisation)
        parts = ("weight", "bias", "running_mean", "running_var")
        layer.set_weights([state.pop(f"{timm_normalisation}.{part}") for part in parts])
        layer.epsilon = TIMM_EPSILON
    rest = [name for name in state if not name.startswith("classifier.") and "num_batches_tracked" not in name]
    if rest:
        raise ValueError(f"{weights} must be a mobilenetv2_100; it also holds {', '.join(rest)}.")
