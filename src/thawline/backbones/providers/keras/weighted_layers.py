"""Make the layers of Keras that have weights."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from thawline.backbones.providers.keras import modules
from thawline.backbones.providers.keras.making import (
    MOST,
    Made,
    Settings,
    Shape,
    Tensor,
    numbers,
    one,
    picture,
    same_pad,
    side_after,
)
from thawline.backbones.providers.timm_import import import_timm
from thawline.errors import ModelError

import_timm()
from timm.layers import Conv2dSame  # noqa: E402


def _convolve(settings: Settings, shape: Shape, out: int, groups: int, *, bias: bool) -> tuple[nn.Conv2d, Shape]:
    """Make a convolution (C, H, W) -> (out, H', W') as the settings have it."""
    channels, height, width = shape
    kernel, stride, dilation = settings.pair("kernel_size"), settings.pair("strides"), settings.pair("dilation_rate")
    same = settings.choice("padding", ("valid", "same")) == "same"
    if out > MOST or channels % groups or out % groups:
        raise ModelError(f"Keras layer {settings.name!r} cannot have {groups} groups of {channels} channels to {out}.")
    sizes = tuple(
        side_after(settings, side, n, step, apart, same)
        for side, n, step, apart in zip((height, width), kernel, stride, dilation, strict=True)
    )
    kind: type[nn.Conv2d] = nn.Conv2d
    padding = (0, 0)
    if same:
        pads = [
            same_pad(side, n, step, apart)
            for side, n, step, apart in zip((height, width), kernel, stride, dilation, strict=True)
        ]
        if all(before == after for before, after in pads):
            padding = (pads[0][0], pads[1][0])
        else:
            kind = Conv2dSame
    conv = kind(channels, out, kernel, stride, padding, dilation, groups, bias)
    return conv, (out, *sizes)


def _with_activation(settings: Settings, parts: dict[str, nn.Module]) -> tuple[nn.Module, str]:
    """(the layer, what stands before the names of its last part's tensors)"""
    activation = settings.activation()
    if not isinstance(activation, nn.Identity):
        parts = {**parts, "activation": activation}
    elif len(parts) == 1:
        return next(iter(parts.values())), ""
    return nn.Sequential(OrderedDict(parts)), f"{[part for part in parts if part != 'activation'][-1]}."


def _bias(settings: Settings, before: str) -> tuple[Tensor, ...]:
    return (Tensor(f"{before}bias", "bias"),) if settings.truth("use_bias") else ()


def conv(settings: Settings, shapes: list[Shape]) -> Made:
    shape = picture(settings, shapes)
    filters, groups = settings.whole("filters"), settings.whole("groups")
    conv, given = _convolve(settings, shape, filters, groups, bias=settings.truth("use_bias"))
    layer, before = _with_activation(settings, {"conv": conv})
    return Made(layer, given, (Tensor(f"{before}weight", "kernel", "conv"), *_bias(settings, before)))


def depthwise(settings: Settings, shapes: list[Shape]) -> Made:
    shape = picture(settings, shapes)
    out = shape[0] * settings.whole("depth_multiplier")
    conv, given = _convolve(settings, shape, out, shape[0], bias=settings.truth("use_bias"))
    layer, before = _with_activation(settings, {"conv": conv})
    return Made(layer, given, (Tensor(f"{before}weight", "depthwise_kernel", "depthwise"), *_bias(settings, before)))


def separable(settings: Settings, shapes: list[Shape]) -> Made:
    shape = picture(settings, shapes)
    between = shape[0] * settings.whole("depth_multiplier")
    depthwise, given = _convolve(settings, shape, between, shape[0], bias=False)
    filters = settings.whole("filters")
    pointwise = nn.Conv2d(between, filters, 1, bias=settings.truth("use_bias"))
    layer, before = _with_activation(settings, {"depthwise": depthwise, "pointwise": pointwise})
    tensors = (
        Tensor("depthwise.weight", "depthwise_kernel", "depthwise"),
        Tensor(f"{before}weight", "pointwise_kernel", "conv"),
        *_bias(settings, before),
    )
    return Made(layer, (filters, *given[1:]), tensors)


def dense(settings: Settings, shapes: list[Shape]) -> Made:
    shape = one(settings, shapes)
    units, bias = settings.whole("units"), settings.truth("use_bias")
    channels = shape[0] if len(shape) == 3 else shape[-1]
    kind = modules.PixelLinear if len(shape) == 3 else nn.Linear
    layer, before = _with_activation(settings, {"dense": kind(channels, units, bias)})
    given = (units, *shape[1:]) if len(shape) == 3 else (*shape[:-1], units)
    return Made(layer, given, (Tensor(f"{before}weight", "kernel", "dense"), *_bias(settings, before)))


def _affine(settings: Settings, module: nn.Module) -> tuple[Tensor, ...]:
    """Leave out of a normalisation the scale or the shift that Keras's has not."""
    tensors = []
    for setting, name, variable in (("scale", "weight", "gamma"), ("center", "bias", "beta")):
        if settings.truth(setting):
            tensors.append(Tensor(name, variable))
        else:
            module.register_parameter(name, None)
    return tuple(tensors)


def batch_norm(settings: Settings, shapes: list[Shape]) -> Made:
    shape = one(settings, shapes)
    settings.channel_axis(shape)
    if settings.get("renorm") or len(shape) == 2:
        raise ModelError(f"Keras layer {settings.name!r} must be a usual batch norm of pictures or vectors.")
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    norm = kind(shape[0], eps=settings.number("epsilon"), momentum=1 - settings.number("momentum"))
    statistics = (Tensor("running_mean", "moving_mean"), Tensor("running_var", "moving_variance"))
    return Made(norm, shape, (*_affine(settings, norm), *statistics))


def layer_norm(settings: Settings, shapes: list[Shape]) -> Made:
    shape = one(settings, shapes)
    settings.channel_axis(shape)
    if settings.get("rms_scaling"):
        raise settings.refuse("rms_scaling", "false")
    kind = modules.ChannelNorm if len(shape) == 3 else nn.LayerNorm
    norm = kind(shape[0] if len(shape) == 3 else shape[-1], eps=settings.number("epsilon"))
    return Made(norm, shape, _affine(settings, norm))


def group_norm(settings: Settings, shapes: list[Shape]) -> Made:
    shape = picture(settings, shapes)
    settings.channel_axis(shape)
    groups = shape[0] if settings.get("groups") == -1 else settings.whole("groups")
    if shape[0] % groups:
        raise settings.refuse("groups", f"a divisor of {shape[0]}")
    norm = nn.GroupNorm(groups, shape[0], eps=settings.number("epsilon"))
    return Made(norm, shape, _affine(settings, norm))


def prelu(settings: Settings, shapes: list[Shape]) -> Made:
    shape = one(settings, shapes)
    if (settings.get("shared_axes") or []) != list(range(1, len(shape))):
        raise settings.refuse("shared_axes", "all positions")
    return Made(nn.PReLU(shape[0] if len(shape) == 3 else shape[-1]), shape, (Tensor("weight", "alpha", "flat"),))


def layer_scale(settings: Settings, shapes: list[Shape]) -> Made:
    shape = one(settings, shapes)
    scale = modules.LayerScale(settings.whole("projection_dim"), settings.number("init_values"), len(shape) == 3)
    return Made(scale, shape, (Tensor("weight", "gamma"),))


def normalization(settings: Settings, shapes: list[Shape]) -> Made:
    shape = picture(settings, shapes)
    settings.channel_axis(shape)
    if settings.get("invert"):
        raise settings.refuse("invert", "false")
    if settings.get("mean") is None:
        tensors = (Tensor("running_mean", "mean"), Tensor("running_var", "variance"),
                   Tensor("num_batches_tracked", "count", "counter"))  # fmt: skip
        return Made(modules.Standardize(shape[0]), shape, tensors)
    mean, variance = numbers(settings, "mean", shape[0]), numbers(settings, "variance", shape[0])
    if min(variance) < 0:
        raise settings.refuse("variance", "at least 0")
    scale = [1 / max(math.sqrt(v), 1e-7) for v in variance]  # as Keras does
    return Made(modules.Rescale(scale, [-m * s for m, s in zip(mean, scale, strict=True)], True), shape)
