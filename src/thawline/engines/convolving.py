"""Convolutions with an activation, as quickly as torch runs them: oneDNN computes it while it writes the output."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import nn

Activation = Literal["none", "relu", "relu6"]
_FUSED: dict[Activation, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
}
"""Activation -> its name in torch's oneDNN operator, and its arguments there."""


def activated(
    x: torch.Tensor,
    w: torch.Tensor,
    b: torch.Tensor | None,
    activation: Activation,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> torch.Tensor:
    """Convolve (B, C, H, W) with weights and bias of its precision, then apply the activation."""
    if activation != "none" and x.device.type == "cpu" and _activates_while_writing(x.dtype):
        name, arguments = _FUSED[activation]
        y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, w, b, padding, stride, dilation, groups, name, arguments, ""
        )
        return y
    y = torch.conv2d(x, w, b, stride, padding, dilation, groups)
    if activation == "none":
        return y
    return y.relu() if activation == "relu" else y.clamp(0, 6)  # in place takes three times as long in bf16


@cache
def _activates_while_writing(dtype: torch.dtype) -> bool:
    """Say whether this torch has oneDNN's convolution with an activation, and whether it is right."""
    x = torch.linspace(-9, 9, 32 * 9 * 2).view(2, 32, 3, 3).to(dtype)
    w = torch.linspace(-1, 1, 32 * 32).view(32, 32, 1, 1).to(dtype)
    expected = torch.conv2d(x, w)
    # A private operator, which inductor calls: it is asked before it is trusted, and other builds do without it.
    try:
        found = [
            torch.ops.mkldnn._convolution_pointwise(x, w, None, (0, 0), (1, 1), (1, 1), 1, *_FUSED[name], "")
            for name in ("relu", "relu6")
        ]
    except (AttributeError, RuntimeError):
        return False
    right = (expected.relu(), expected.clamp(0, 6))
    # bf16 has 8 bits: one rounding is up to 0.4 %, and the two ways round at different places.
    return all(torch.allclose(*pair, rtol=0.02, atol=0.1) for pair in zip(found, right, strict=True))


def padded(x: torch.Tensor, pads: tuple[int, int, int, int]) -> torch.Tensor:
    """Return (B, C, H, W) with zeros around it; ``functional.pad`` would write the middle twice."""
    left, right, top, bottom = pads
    n, channels, height, width = x.shape
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    size = (n, channels, top + height + bottom, left + width + right)
    padded = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
    for border in (padded[:, :, :top], padded[:, :, top + height :], padded[..., :left], padded[..., left + width :]):
        border.zero_()
    padded[:, :, top : top + height, left : left + width] = x
    return padded


def same_pads(conv: nn.Conv2d, size: torch.Size) -> tuple[int, int, int, int]:
    """Return the zeros left, right, above and below that TensorFlow's SAME padding takes for inputs of this size."""
    from timm.layers.padding import pad_same_arg

    left, right, top, bottom = pad_same_arg(list(size), list(conv.kernel_size), list(conv.stride), list(conv.dilation))
    return left, right, top, bottom


def own_pads(conv: nn.Conv2d, _size: torch.Size) -> tuple[int, int, int, int]:
    """Return the zeros left, right, above and below that a convolution of torch takes."""
    vertical, horizontal = (int(side) for side in conv.padding)
    return horizontal, horizontal, vertical, vertical
