"""Keras layers as torch modules, by class. Pictures are (B, C, H, W) inside; Keras has (B, H, W, C)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from thawline.backbones.providers.keras import modules
from thawline.backbones.providers.keras import weighted_layers as weighted
from thawline.backbones.providers.keras.making import (
    POINTWISE,
    Made,
    Maker,
    Settings,
    Shape,
    broadcast,
    drop_rate,
    is_whole,
    numbers,
    one,
    picture,
    same_pad,
    side_after,
)
from thawline.backbones.providers.keras.settings import SETTINGS
from thawline.errors import ModelError


def _pool(kind: type[nn.Module]) -> Maker:
    def make(settings: Settings, shapes: list[Shape]) -> Made:
        channels, *sides = picture(settings, shapes)
        size = settings.pair("pool_size")
        stride = size if settings.get("strides") is None else settings.pair("strides")
        same = settings.choice("padding", ("valid", "same")) == "same"
        given = [
            side_after(settings, side, n, step, 1, same) for side, n, step in zip(sides, size, stride, strict=True)
        ]
        if not same:
            return Made(kind(size, stride), (channels, *given))
        (top, bottom), (left, right) = (
            same_pad(side, n, step, 1) for side, n, step in zip(sides, size, stride, strict=True)
        )
        pads = (left, right, top, bottom)
        module = modules.PaddedMaxPool(size, stride, pads) if kind is nn.MaxPool2d else (
            modules.PaddedMeanPool(size, stride, pads, (sides[0], sides[1]))
        )  # fmt: skip
        return Made(module, (channels, *given))

    return make


def _global_pool(kind: type[nn.Module]) -> Maker:
    def make(settings: Settings, shapes: list[Shape]) -> Made:
        channels = picture(settings, shapes)[0]
        keep = settings.truth("keepdims")
        return Made(kind(keep), (channels, 1, 1) if keep else (channels,))

    return make


def _zero_padding(settings: Settings, shapes: list[Shape]) -> Made:
    channels, height, width = picture(settings, shapes)
    left, right, top, bottom = settings.sides("padding")
    return Made(nn.ZeroPad2d((left, right, top, bottom)), (channels, height + top + bottom, width + left + right))


def _cropping(settings: Settings, shapes: list[Shape]) -> Made:
    channels, height, width = picture(settings, shapes)
    left, right, top, bottom = settings.sides("cropping")
    given = (channels, height - top - bottom, width - left - right)
    if min(given) < 1:
        raise settings.refuse("cropping", f"less than the {height} x {width} px that are there")
    return Made(modules.Crop((left, right, top, bottom), (height, width)), given)


def _upsampling(settings: Settings, shapes: list[Shape]) -> Made:
    channels, height, width = picture(settings, shapes)
    rows, columns = settings.pair("size")
    mode = settings.choice("interpolation", ("nearest", "bilinear"))
    return Made(nn.Upsample(scale_factor=(rows, columns), mode=mode), (channels, height * rows, width * columns))


def _flatten(settings: Settings, shapes: list[Shape]) -> Made:
    shape = one(settings, shapes)
    return Made(modules.Flatten(), (math.prod(shape),))


def _reshape(settings: Settings, shapes: list[Shape]) -> Made:
    shape = one(settings, shapes)
    target = settings.get("target_shape")
    if (
        not isinstance(target, list | tuple)
        or not 1 <= len(target) <= 3
        or not all(is_whole(n, -1, 2**31) for n in target)
    ):
        raise settings.refuse("target_shape", "one to three whole numbers")
    known = math.prod(n for n in target if n != -1)
    sizes = [math.prod(shape) // max(known, 1) if n == -1 else n for n in target]
    if math.prod(sizes) != math.prod(shape):
        raise ModelError(
            f"Keras layer {settings.name!r} cannot reshape {math.prod(shape):,} numbers to {list(target)}: the model "
            "was made for another input. Leave --input-px out."
        )
    given = (sizes[2], sizes[0], sizes[1]) if len(sizes) == 3 else tuple(sizes)
    return Made(modules.Reshape(tuple(sizes)), given)


def _softmax(settings: Settings, shapes: list[Shape]) -> Made:
    shape = one(settings, shapes)
    settings.channel_axis(shape)
    return Made(nn.Softmax(dim=1 if len(shape) == 3 else -1), shape)


def _rescaling(settings: Settings, shapes: list[Shape]) -> Made:
    shape = one(settings, shapes)
    n = shape[0] if len(shape) == 3 else shape[-1]
    scale, offset = numbers(settings, "scale", n), numbers(settings, "offset", n)
    return Made(modules.Rescale(scale, offset, len(shape) == 3), shape)


def _dropout(settings: Settings, shapes: list[Shape]) -> Made:
    shape, noise = one(settings, shapes), settings.get("noise_shape")
    if noise is None:
        return Made(nn.Dropout(drop_rate(settings)), shape)
    if not isinstance(noise, list) or len(noise) != len(shape) + 1 or any(n != 1 for n in noise[1:]):
        raise settings.refuse("noise_shape", "(batch, 1, 1, 1)")
    return Made(modules.DropSamples(drop_rate(settings)), shape)


_MERGES = {
    "Add": "add", "Subtract": "sub", "Multiply": "mul", "Divide": "div", "Maximum": "maximum", "Minimum": "minimum",
    "Average": "average",
}  # fmt: skip


def _merge(kind: str) -> Maker:
    def make(settings: Settings, shapes: list[Shape]) -> Made:
        args = settings.get("args")
        if args is None or all(arg is None for arg in args):
            if len(shapes) < 2:
                raise ModelError(f"Keras layer {settings.name!r} must be given several tensors.")
            return Made(modules.Merge(_MERGES[kind]), broadcast(settings, shapes))
        shape = one(settings, shapes)
        if len(args) != 2 or args.count(None) != 1:
            raise settings.refuse("args", "a tensor and a constant")
        constant = Settings(settings.name, {"constant": next(arg for arg in args if arg is not None)}, {})
        n = shape[0] if len(shape) == 3 else shape[-1]
        constants = numbers(constant, "constant", n)
        return Made(modules.WithConstant(_MERGES[kind], constants, args[0] is not None, len(shape) == 3), shape)

    return make


def _concatenate(settings: Settings, shapes: list[Shape]) -> Made:
    first = shapes[0] if shapes else ()
    settings.channel_axis(first)
    at = 0 if len(first) == 3 else len(first) - 1
    if any(len(s) != len(first) or (*s[:at], *s[at + 1 :]) != (*first[:at], *first[at + 1 :]) for s in shapes):
        raise ModelError(f"Keras layer {settings.name!r} must be given tensors that fit; it is given {shapes}.")
    total = sum(shape[at] for shape in shapes)
    return Made(modules.Concatenate(at + 1), (*first[:at], total, *first[at + 1 :]))


def _custom_scale(settings: Settings, shapes: list[Shape]) -> Made:
    if len(shapes) != 2:
        raise ModelError(f"Keras layer {settings.name!r} must be given two tensors.")
    return Made(modules.AddScaled(settings.number("scale")), broadcast(settings, shapes))


def _get_item(settings: Settings, shapes: list[Shape]) -> Made:
    """One channel, or all in reverse, as in Keras's ``preprocess_input``."""
    shape = picture(settings, shapes)
    args = settings.get("args") or []
    item = next((arg for arg in args if arg is not None), None)
    last = item[-1] if isinstance(item, list) and item and item[0] in ("...", {"value": "..."}) else None
    if isinstance(last, int) and -shape[0] <= last < shape[0]:
        return Made(modules.Channel(last), shape[1:])
    if isinstance(last, dict) and last.get("step") == -1 and last.get("start") is None and last.get("stop") is None:
        return Made(modules.ReverseChannels(), shape)
    raise settings.refuse("args", "one channel, or all in reverse")


def _stack(settings: Settings, shapes: list[Shape]) -> Made:
    if not shapes or len(set(shapes)) != 1 or len(shapes[0]) != 2 or settings.get("axis") not in (-1, 3):
        raise settings.refuse("axis", "that of the channels")
    return Made(modules.Stack(), (len(shapes), *shapes[0]))


def _pointwise(kind: str) -> Maker:
    return lambda settings, shapes: Made(POINTWISE[kind](settings), one(settings, shapes))


MAKERS: dict[str, Maker] = {
    "AlphaDropout": lambda s, shapes: Made(nn.AlphaDropout(drop_rate(s)), one(s, shapes)),
    "AveragePooling2D": _pool(nn.AvgPool2d),
    "BatchNormalization": weighted.batch_norm,
    "Concatenate": _concatenate,
    "Conv2D": weighted.conv,
    "Cropping2D": _cropping,
    "CustomScaleLayer": _custom_scale,
    "Dense": weighted.dense,
    "DepthwiseConv2D": weighted.depthwise,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "GetItem": _get_item,
    "GlobalAveragePooling2D": _global_pool(modules.MeanOverPositions),
    "GlobalMaxPooling2D": _global_pool(modules.MaxOverPositions),
    "GroupNormalization": weighted.group_norm,
    "LayerNormalization": weighted.layer_norm,
    "LayerScale": weighted.layer_scale,
    "MaxPooling2D": _pool(nn.MaxPool2d),
    "Normalization": weighted.normalization,
    "PReLU": weighted.prelu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "ReverseChannels": lambda s, shapes: Made(modules.ReverseChannels(), picture(s, shapes)),
    "SeparableConv2D": weighted.separable,
    "Softmax": _softmax,
    "SpatialDropout2D": lambda s, shapes: Made(nn.Dropout2d(drop_rate(s)), picture(s, shapes)),
    "Stack": _stack,
    "StochasticDepth": lambda s, shapes: Made(modules.DropSamples(drop_rate(s, "drop_path_rate")), one(s, shapes)),
    "UpSampling2D": _upsampling,
    "ZeroPadding2D": _zero_padding,
    **{kind: _pointwise(kind) for kind in POINTWISE},
    **{kind: _merge(kind) for kind in _MERGES},
}
"""Class of a Keras layer -> what makes it."""


def make(kind: str, name: str, values: Mapping[str, Any], shapes: list[Shape]) -> Made:
    """Make one layer for inputs of these shapes.

    Raises:
        ModelError: A setting cannot be; says which.
    """
    if kind not in MAKERS:
        raise ModelError(f"layers of a Keras model must be of classes that Thawline knows; {name!r} is a {kind}.")
    return MAKERS[kind](Settings(name, values, SETTINGS[kind]), shapes)
