"""A convolution, the batch norm with frozen statistics on it and an activation, run and differentiated as one.

Batch norm with frozen statistics is a line per channel. Each step folds it into weights and bias of the convolution,
and its own pass over the activations disappears; gradients of all parameters are the same. On processors, the
convolution computes the activation while it writes its output, and gradients of depthwise convolutions take detours
where oneDNN's own way is 4 to 100 times slower: see benchmarks/training_speed.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from thawline.engines.convolving import Activation, activated, padded

_ATEN = torch.ops.aten
_QUICK_TAPS = 3
"""Largest side of a depthwise kernel for which oneDNN computes the gradient of the weights quickly."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fixed:
    """What stays the same from step to step."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    activation: Activation
    mean: torch.Tensor | None
    """(C,) running mean of the batch norm; None without one."""
    inverse_std: torch.Tensor | None
    """(C,) 1 / sqrt(running variance + eps)"""


def fold(
    conv: nn.Conv2d, norm: nn.BatchNorm2d | None, fixed: Fixed, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Fold a batch norm into the convolution before it.

    Args:
        norm: With running statistics, which are those in ``fixed``.
        dtype: Of the weights that come out; the bias keeps the precision of the parameters.
    Returns:
        Weights (C, C' / groups, K, L) and bias (C,): W' = W s and b' = b s + shift - mean s, where s = scale / std.
    """
    if norm is None:
        return conv.weight.to(dtype), conv.bias
    folded: tuple[torch.Tensor, torch.Tensor | None] = _Fold.apply(  # type: ignore[no-untyped-call]
        conv.weight, conv.bias, norm.weight, norm.bias, fixed, dtype
    )
    return folded


def convolve(
    x: torch.Tensor,
    w: torch.Tensor,
    b: torch.Tensor | None,
    fixed: Fixed,
    pads: tuple[int, int, int, int],
) -> torch.Tensor:
    """Run convolution and activation on (B, C, H, W) of the precision of the weights.

    Args:
        w: (C, C' / groups, K, L) of a convolution that pads with zeros.
        b: (C,)
        pads: Zeros to the left, to the right, above and below.
    """
    y: torch.Tensor = _Convolve.apply(x, w, b, fixed, pads)  # type: ignore[no-untyped-call]
    return y


class _Fold(torch.autograd.Function):
    """See ``fold``."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: torch.Tensor | None,
        shift: torch.Tensor | None,
        fixed: Fixed,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert fixed.inverse_std is not None
        assert fixed.mean is not None
        slope = fixed.inverse_std if scale is None else fixed.inverse_std * scale
        b = fixed.mean.neg() if bias is None else bias - fixed.mean
        ctx.fixed = fixed
        ctx.save_for_backward(weight, bias, slope)
        ctx.set_materialize_grads(False)  # one of the two may get no gradient: None, not zeros
        w = (weight * slope.view(-1, 1, 1, 1)).to(dtype)
        return w, b * slope if shift is None else torch.addcmul(shift, b, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dw: torch.Tensor | None, db: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        weight, bias, slope = ctx.saved_tensors
        for_weight, for_bias, for_scale, for_shift, *_ = ctx.needs_input_grad
        fixed: Fixed = ctx.fixed
        # W' = W s and b' = (bias - mean) s + shift with s = scale / std, so that
        # dW = dW' s, dbias = db' s, dshift = db', dscale = (sum of dW' W over all but C + db' (bias - mean)) / std.
        dw = None if dw is None else dw.to(weight.dtype)
        dscale = None
        if for_scale and dw is not None and db is not None:
            assert fixed.mean is not None
            assert fixed.inverse_std is not None
            offset = fixed.mean.neg() if bias is None else bias - fixed.mean
            dscale = torch.addcmul((dw * weight).sum((1, 2, 3)), db, offset) * fixed.inverse_std  # (C,)
        dweight = dw * slope.view(-1, 1, 1, 1) if for_weight and dw is not None else None
        dbias = db * slope if for_bias and db is not None else None
        return dweight, dbias, dscale, db if for_shift else None, None, None


class _Convolve(torch.autograd.Function):
    """See ``convolve``."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        w: torch.Tensor,
        b: torch.Tensor | None,
        fixed: Fixed,
        pads: tuple[int, int, int, int],
    ) -> torch.Tensor:
        ctx.size, ctx.fixed, ctx.pads = x.shape[2:], fixed, pads
        left, right, top, bottom = pads
        ctx.native = (top, left)
        # torch pads alike on both sides; TensorFlow's SAME wants one zero more right and below at stride 2.
        if (left, top) != (right, bottom):
            x, ctx.native = padded(x, pads), (0, 0)
        y = activated(
            x, w, None if b is None else b.to(x.dtype), fixed.activation, fixed.stride, ctx.native, fixed.dilation,
            fixed.groups,
        )  # fmt: skip
        # Both activations tell from what they gave where they were on; what they were given was never written.
        ctx.save_for_backward(x, w, b, None if fixed.activation == "none" else y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, w, b, y = ctx.saved_tensors
        fixed: Fixed = ctx.fixed
        if fixed.activation == "relu":
            g = _ATEN.threshold_backward(g, y, 0)
        elif fixed.activation == "relu6":
            g = _ATEN.hardtanh_backward(g, y, 0, 6)
        dx, dw, db = _gradients(g, x, w, ctx, ctx.needs_input_grad[:3])
        return dx, dw, None if db is None else db.to(b.dtype), None, None


def _gradients(
    g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, ctx: Any, wanted: tuple[bool, bool, bool]
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Return the gradients of input, weights and bias that are wanted, by the quickest way that is known.

    Args:
        g: (B, C, H', W') gradient of the output of the convolution.
        x: (B, C', H, W) its input, padded if padding is not the same on all sides.
        w: (C, C' / groups, K, L)
        ctx: Holds ``fixed``, ``pads``, ``size`` (H and W without padding) and ``native`` (padding that is left).
    """
    fixed: Fixed = ctx.fixed
    for_x, for_w, for_b = wanted
    own_x, own_w = _detours(w, fixed, ctx.pads)
    dx = dw = db = None
    if for_x and own_x:
        dx = _depthwise_input_gradient(g, w, fixed.stride, ctx.pads, ctx.size)
    if for_w and own_w:
        dw = _depthwise_weight_gradient(g, x, w, fixed.stride, ctx.native)
    # In float32: a bf16 sum of equal terms stands still at 256 of them.
    if for_b and (own_w or not for_w):  # with the bias, torch would compute the gradient of the weights all the same
        db = g.sum((0, 2, 3), dtype=torch.float32)
    left = (for_x and dx is None, for_w and dw is None, for_b and db is None)
    if any(left):
        sizes = [len(w)] if left[2] else None
        found = _ATEN.convolution_backward(
            g, x, w, sizes, fixed.stride, ctx.native, fixed.dilation, False, (0, 0), fixed.groups, left
        )
        dx, dw, db = (mine if other is None else other for mine, other in zip((dx, dw, db), found, strict=True))
    # x was padded by hand: the gradient of the zeros is cut off again.
    if dx is not None and dx.shape[2:] != ctx.size:
        from_left, _, from_top, _ = ctx.pads
        dx = dx[:, :, from_top : from_top + ctx.size[0], from_left : from_left + ctx.size[1]]
    return dx, dw, db


def takes_detours(conv: nn.Conv2d) -> bool:
    """Say whether gradients of a convolution may take a detour around oneDNN, whatever follows it."""
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    return depthwise and conv.dilation == (1, 1) and (max(conv.stride) > 1 or max(conv.kernel_size) > _QUICK_TAPS)


def _detours(w: torch.Tensor, fixed: Fixed, pads: tuple[int, int, int, int]) -> tuple[bool, bool]:
    """Say whether to take a detour around oneDNN for the gradients of the input, and for those of the weights."""
    depthwise = w.shape[1] == 1 and fixed.groups == len(w) > 1 and fixed.dilation == (1, 1)
    if not depthwise or w.device.type != "cpu" or w.dtype != torch.bfloat16:
        return False, False
    height, width = w.shape[2:]
    # With more padding than that, the spread gradient would begin before its first row or column.
    narrow = max(pads[:2]) < width and max(pads[2:]) < height
    return narrow and max(fixed.stride) > 1, max(height, width) > _QUICK_TAPS


def _depthwise_input_gradient(
    g: torch.Tensor,
    w: torch.Tensor,
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    size: tuple[int, int],
) -> torch.Tensor:
    """Return the gradient (B, C, H, W) of the input: ``g`` spread out by zeros, convolved with the turned kernel."""
    (height, width), (n, channels) = w.shape[2:], g.shape[:2]
    # The transpose of a convolution with stride: zeros between the rows and columns of g, then the kernel turned round
    # (Dumoulin and Visin 2016, arXiv:1603.07285, section 4). oneDNN's own is 4 times slower and more in bf16.
    spread_size = (n, channels, size[0] + height - 1, size[1] + width - 1)
    spread = torch.empty(spread_size, dtype=g.dtype, memory_format=torch.channels_last).zero_()
    rows, columns = (
        slice(first, first + step * (count - 1) + 1, step)
        for first, step, count in zip((height - 1 - pads[2], width - 1 - pads[0]), stride, g.shape[2:], strict=True)
    )
    spread[:, :, rows, columns] = g
    return torch.conv2d(spread, w.flip(2, 3), groups=channels)


def _depthwise_weight_gradient(
    g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """Return the gradient of a large kernel (C, 1, K, L), put together from kernels of 3 x 3, which are quick."""
    if any(padding):
        x = padded(x, (padding[1], padding[1], padding[0], padding[0]))
    # The gradient of a tap sees x shifted by that tap only, so any window of taps is a convolution of its own. Windows
    # that overlap write the same numbers twice.
    dw, channels = torch.empty_like(w), len(w)
    for rows in _pieces(w.shape[2]):
        for columns in _pieces(w.shape[3]):
            piece = w[:, :, rows, columns]
            seen_h, seen_w = (
                slice(taps.start, taps.stop + step * (count - 1))
                for taps, step, count in zip((rows, columns), stride, g.shape[2:], strict=True)
            )
            seen = x[:, :, seen_h, seen_w].contiguous(memory_format=torch.channels_last)
            found = _ATEN.convolution_backward(
                g, seen, piece, None, stride, (0, 0), (1, 1), False, (0, 0), channels, (False, True, False)
            )
            dw[:, :, rows, columns] = found[1]
    return dw


def _pieces(taps: int) -> list[slice]:
    """Return stretches of three taps that cover all of them; one stretch if there are fewer."""
    length = min(taps, _QUICK_TAPS)
    starts = sorted({min(start, taps - length) for start in range(0, taps, length)})
    return [slice(start, start + length) for start in starts]
