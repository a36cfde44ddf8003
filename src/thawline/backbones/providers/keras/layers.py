"""Keras layers as torch modules, by class. Pictures are (B, C, H, W) inside; Keras has (B, H, W, C)."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from thawline.backbones.providers.keras import modules
from thawline.backbones.providers.timm_import import import_timm
from thawline.errors import ModelError

import_timm()
from timm.layers import Conv2dSame  # noqa: E402

Shape = tuple[int, ...]
_MOST = 2**20
"""Largest number of channels, of a kernel's side, or of units."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a layer, and the variable of Keras that holds the same numbers."""

    name: str
    """In the layer's module."""
    variable: str
    """In Keras: ``kernel``, ``moving_mean``."""
    layout: str = "same"
    """How the axes lie in Keras: ``conv`` (H, W, in, out), ``depthwise`` (H, W, in, multiplier), ``dense`` (in, out);
    ``flat``: with axes of length 1; ``counter``: a whole number."""


@dataclass(frozen=True, slots=True)
class Made:
    """A layer that was made for inputs of one shape."""

    module: nn.Module
    shape: Shape
    """Of what it gives, without the batch: (C, H, W), (T, D) or (D,)."""
    tensors: tuple[Tensor, ...] = ()
    """In the order of the layer's weights in Keras."""


class Settings:
    """Settings of one layer, each checked when it is used."""

    def __init__(self, name: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self.name = name
        self._values = {**defaults, **values}

    def refuse(self, setting: str, allowed: str) -> ModelError:
        value = self._values.get(setting)
        return ModelError(f"{setting} of Keras layer {self.name!r} must be {allowed}; got {str(value)[:80]!r}.")

    def get(self, setting: str) -> Any:
        return self._values.get(setting)

    def whole(self, setting: str, least: int = 1) -> int:
        value = self.get(setting)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
            raise self.refuse(setting, f"a whole number from {least} to {_MOST:,}")
        return value

    def number(self, setting: str) -> float:
        value = self.get(setting)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise self.refuse(setting, "a number")
        return float(value)

    def truth(self, setting: str) -> bool:
        value = self.get(setting)
        if not isinstance(value, bool | int):
            raise self.refuse(setting, "true or false")
        return bool(value)

    def pair(self, setting: str) -> tuple[int, int]:
        value = self.get(setting)
        value = [value, value] if isinstance(value, int) else value
        if not isinstance(value, list | tuple) or len(value) != 2 or not all(_is_whole(n, 1, 4096) for n in value):
            raise self.refuse(setting, "two whole numbers from 1 to 4096")
        return value[0], value[1]

    def sides(self, setting: str) -> tuple[int, int, int, int]:
        """(left, right, top, bottom), as torch orders them; Keras has ((top, bottom), (left, right))."""
        value = self.get(setting)
        if isinstance(value, int):
            value = [value, value]
        pairs = [[n, n] if isinstance(n, int) else n for n in value] if isinstance(value, list | tuple) else []
        flat = [n for pair in pairs if isinstance(pair, list | tuple) for n in pair]
        if len(pairs) != 2 or len(flat) != 4 or not all(_is_whole(n, 0, 4096) for n in flat):
            raise self.refuse(setting, "((top, bottom), (left, right))")
        top, bottom, left, right = flat
        return left, right, top, bottom

    def choice(self, setting: str, known: Sequence[Any]) -> Any:
        value = self.get(setting)
        if value not in known:
            raise self.refuse(setting, f"one of {', '.join(map(str, known))}")
        return value

    def channel_axis(self, shape: Shape, setting: str = "axis") -> None:
        """Refuse an axis that is not the last one of Keras, which holds the channels."""
        axis = self.get(setting)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in (-1, len(shape)):
            raise self.refuse(setting, "the last axis")

    def activation(self, setting: str = "activation") -> nn.Module:
        """Return the module of an activation; an identity for none."""
        value = self.get(setting)
        if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[1], dict):
            from thawline.backbones.providers.keras.settings import SETTINGS

            kind, inner = value
            if kind in _POINTWISE:
                return _POINTWISE[kind](Settings(self.name, inner, SETTINGS[kind]))
        if value in modules.ACTIVATIONS:
            return modules.ACTIVATIONS[value]()
        raise self.refuse(setting, f"one of {', '.join(modules.ACTIVATIONS)}")


Maker = Callable[[Settings, list[Shape]], Made]


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _picture(settings: Settings, shapes: list[Shape]) -> Shape:
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise ModelError(f"Keras layer {settings.name!r} must be given one picture (H, W, C); it is given {shapes}.")
    return shapes[0]


def _one(settings: Settings, shapes: list[Shape]) -> Shape:
    if len(shapes) != 1:
        raise ModelError(f"Keras layer {settings.name!r} must be given one tensor; it is given {len(shapes)}.")
    return shapes[0]


def _out(settings: Settings, side: int, kernel: int, stride: int, dilation: int, same: bool) -> int:
    n = -(-side // stride) if same else (side - dilation * (kernel - 1) - 1) // stride + 1
    if n < 1:
        raise ModelError(
            f"input is too small for Keras layer {settings.name!r}, which needs {dilation * (kernel - 1) + 1} px "
            f"of what is {side} px there. Give a larger --input-px."
        )
    return n


def _same_pad(side: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after): TensorFlow puts the odd one after."""
    total = max((-(-side // stride) - 1) * stride + dilation * (kernel - 1) + 1 - side, 0)
    return total // 2, total - total // 2


def _convolve(settings: Settings, shape: Shape, out: int, groups: int, *, bias: bool) -> tuple[nn.Conv2d, Shape]:
    """Make a convolution (C, H, W) -> (out, H', W') as the settings have it."""
    channels, height, width = shape
    kernel, stride, dilation = settings.pair("kernel_size"), settings.pair("strides"), settings.pair("dilation_rate")
    same = settings.choice("padding", ("valid", "same")) == "same"
    if out > _MOST or channels % groups or out % groups:
        raise ModelError(f"Keras layer {settings.name!r} cannot have {groups} groups of {channels} channels to {out}.")
    sizes = tuple(
        _out(settings, side, n, step, apart, same)
        for side, n, step, apart in zip((height, width), kernel, stride, dilation, strict=True)
    )
    kind: type[nn.Conv2d] = nn.Conv2d
    padding = (0, 0)
    if same:
        pads = [
            _same_pad(side, n, step, apart)
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


def _conv(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _picture(settings, shapes)
    filters, groups = settings.whole("filters"), settings.whole("groups")
    conv, given = _convolve(settings, shape, filters, groups, bias=settings.truth("use_bias"))
    layer, before = _with_activation(settings, {"conv": conv})
    return Made(layer, given, (Tensor(f"{before}weight", "kernel", "conv"), *_bias(settings, before)))


def _depthwise(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _picture(settings, shapes)
    out = shape[0] * settings.whole("depth_multiplier")
    conv, given = _convolve(settings, shape, out, shape[0], bias=settings.truth("use_bias"))
    layer, before = _with_activation(settings, {"conv": conv})
    return Made(layer, given, (Tensor(f"{before}weight", "depthwise_kernel", "depthwise"), *_bias(settings, before)))


def _separable(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _picture(settings, shapes)
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


def _dense(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _one(settings, shapes)
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


def _batch_norm(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _one(settings, shapes)
    settings.channel_axis(shape)
    if settings.get("renorm") or len(shape) == 2:
        raise ModelError(f"Keras layer {settings.name!r} must be a usual batch norm of pictures or vectors.")
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    norm = kind(shape[0], eps=settings.number("epsilon"), momentum=1 - settings.number("momentum"))
    statistics = (Tensor("running_mean", "moving_mean"), Tensor("running_var", "moving_variance"))
    return Made(norm, shape, (*_affine(settings, norm), *statistics))


def _layer_norm(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _one(settings, shapes)
    settings.channel_axis(shape)
    if settings.get("rms_scaling"):
        raise settings.refuse("rms_scaling", "false")
    kind = modules.ChannelNorm if len(shape) == 3 else nn.LayerNorm
    norm = kind(shape[0] if len(shape) == 3 else shape[-1], eps=settings.number("epsilon"))
    return Made(norm, shape, _affine(settings, norm))


def _group_norm(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _picture(settings, shapes)
    settings.channel_axis(shape)
    groups = shape[0] if settings.get("groups") == -1 else settings.whole("groups")
    if shape[0] % groups:
        raise settings.refuse("groups", f"a divisor of {shape[0]}")
    norm = nn.GroupNorm(groups, shape[0], eps=settings.number("epsilon"))
    return Made(norm, shape, _affine(settings, norm))


def _pool(kind: type[nn.Module]) -> Maker:
    def make(settings: Settings, shapes: list[Shape]) -> Made:
        channels, *sides = _picture(settings, shapes)
        size = settings.pair("pool_size")
        stride = size if settings.get("strides") is None else settings.pair("strides")
        same = settings.choice("padding", ("valid", "same")) == "same"
        given = [_out(settings, side, n, step, 1, same) for side, n, step in zip(sides, size, stride, strict=True)]
        if not same:
            return Made(kind(size, stride), (channels, *given))
        (top, bottom), (left, right) = (
            _same_pad(side, n, step, 1) for side, n, step in zip(sides, size, stride, strict=True)
        )
        pads = (left, right, top, bottom)
        module = modules.PaddedMaxPool(size, stride, pads) if kind is nn.MaxPool2d else (
            modules.PaddedMeanPool(size, stride, pads, (sides[0], sides[1]))
        )  # fmt: skip
        return Made(module, (channels, *given))

    return make


def _global_pool(kind: type[nn.Module]) -> Maker:
    def make(settings: Settings, shapes: list[Shape]) -> Made:
        channels = _picture(settings, shapes)[0]
        keep = settings.truth("keepdims")
        return Made(kind(keep), (channels, 1, 1) if keep else (channels,))

    return make


def _zero_padding(settings: Settings, shapes: list[Shape]) -> Made:
    channels, height, width = _picture(settings, shapes)
    left, right, top, bottom = settings.sides("padding")
    return Made(nn.ZeroPad2d((left, right, top, bottom)), (channels, height + top + bottom, width + left + right))


def _cropping(settings: Settings, shapes: list[Shape]) -> Made:
    channels, height, width = _picture(settings, shapes)
    left, right, top, bottom = settings.sides("cropping")
    given = (channels, height - top - bottom, width - left - right)
    if min(given) < 1:
        raise settings.refuse("cropping", f"less than the {height} x {width} px that are there")
    return Made(modules.Crop((left, right, top, bottom), (height, width)), given)


def _upsampling(settings: Settings, shapes: list[Shape]) -> Made:
    channels, height, width = _picture(settings, shapes)
    rows, columns = settings.pair("size")
    mode = settings.choice("interpolation", ("nearest", "bilinear"))
    return Made(nn.Upsample(scale_factor=(rows, columns), mode=mode), (channels, height * rows, width * columns))


def _flatten(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _one(settings, shapes)
    return Made(modules.Flatten(), (math.prod(shape),))


def _reshape(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _one(settings, shapes)
    target = settings.get("target_shape")
    if (
        not isinstance(target, list | tuple)
        or not 1 <= len(target) <= 3
        or not all(_is_whole(n, -1, 2**31) for n in target)
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
    shape = _one(settings, shapes)
    settings.channel_axis(shape)
    return Made(nn.Softmax(dim=1 if len(shape) == 3 else -1), shape)


def _prelu(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _one(settings, shapes)
    if (settings.get("shared_axes") or []) != list(range(1, len(shape))):
        raise settings.refuse("shared_axes", "all positions")
    return Made(nn.PReLU(shape[0] if len(shape) == 3 else shape[-1]), shape, (Tensor("weight", "alpha", "flat"),))


def _layer_scale(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _one(settings, shapes)
    scale = modules.LayerScale(settings.whole("projection_dim"), settings.number("init_values"), len(shape) == 3)
    return Made(scale, shape, (Tensor("weight", "gamma"),))


def _numbers(settings: Settings, setting: str, n: int) -> list[float]:
    """Return one number for each of ``n`` channels."""
    value = settings.get(setting)
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    flat = value if isinstance(value, list) else [value] * n
    flat = flat * n if len(flat) == 1 else flat
    if len(flat) != n or not all(isinstance(v, int | float) and math.isfinite(v) for v in flat):
        raise settings.refuse(setting, f"one number, or {n}")
    return [float(v) for v in flat]


def _rescaling(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _one(settings, shapes)
    n = shape[0] if len(shape) == 3 else shape[-1]
    scale, offset = _numbers(settings, "scale", n), _numbers(settings, "offset", n)
    return Made(modules.Rescale(scale, offset, len(shape) == 3), shape)


def _normalization(settings: Settings, shapes: list[Shape]) -> Made:
    shape = _picture(settings, shapes)
    settings.channel_axis(shape)
    if settings.get("invert"):
        raise settings.refuse("invert", "false")
    if settings.get("mean") is None:
        tensors = (Tensor("running_mean", "mean"), Tensor("running_var", "variance"),
                   Tensor("num_batches_tracked", "count", "counter"))  # fmt: skip
        return Made(modules.Standardize(shape[0]), shape, tensors)
    mean, variance = _numbers(settings, "mean", shape[0]), _numbers(settings, "variance", shape[0])
    if min(variance) < 0:
        raise settings.refuse("variance", "at least 0")
    scale = [1 / max(math.sqrt(v), 1e-7) for v in variance]  # as Keras does
    return Made(modules.Rescale(scale, [-m * s for m, s in zip(mean, scale, strict=True)], True), shape)


def _relu(settings: Settings) -> nn.Module:
    most, slope, threshold = settings.get("max_value"), settings.number("negative_slope"), settings.number("threshold")
    if (slope, threshold) == (0, 0) and most in (None, 6):
        return nn.ReLU() if most is None else nn.ReLU6()
    if most is None and threshold == 0:
        return nn.LeakyReLU(slope)
    if slope == 0 and threshold == 0:
        return nn.Hardtanh(0.0, settings.number("max_value"))
    raise settings.refuse("threshold", "0")


_POINTWISE: dict[str, Callable[[Settings], nn.Module]] = {
    "Activation": Settings.activation,
    "ELU": lambda settings: nn.ELU(settings.number("alpha")),
    "Identity": lambda settings: nn.Identity(),
    "ActivityRegularization": lambda settings: nn.Identity(),
    "LeakyReLU": lambda settings: nn.LeakyReLU(settings.number("negative_slope")),
    "ReLU": _relu,
}
"""Layers that treat each number by itself."""


def _drop_rate(settings: Settings, setting: str = "rate") -> float:
    rate = settings.number(setting)
    if not 0 <= rate <= 1:
        raise settings.refuse(setting, "in [0, 1]")
    return rate


def _dropout(settings: Settings, shapes: list[Shape]) -> Made:
    shape, noise = _one(settings, shapes), settings.get("noise_shape")
    if noise is None:
        return Made(nn.Dropout(_drop_rate(settings)), shape)
    if not isinstance(noise, list) or len(noise) != len(shape) + 1 or any(n != 1 for n in noise[1:]):
        raise settings.refuse("noise_shape", "(batch, 1, 1, 1)")
    return Made(modules.DropSamples(_drop_rate(settings)), shape)


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
            return Made(modules.Merge(_MERGES[kind]), _broadcast(settings, shapes))
        shape = _one(settings, shapes)
        if len(args) != 2 or args.count(None) != 1:
            raise settings.refuse("args", "a tensor and a constant")
        constant = Settings(settings.name, {"constant": next(arg for arg in args if arg is not None)}, {})
        while isinstance(constant.get("constant"), list) and len(constant.get("constant")) == 1:
            constant = Settings(settings.name, {"constant": constant.get("constant")[0]}, {})
        n = shape[0] if len(shape) == 3 else shape[-1]
        numbers = _numbers(constant, "constant", n)
        return Made(modules.WithConstant(_MERGES[kind], numbers, args[0] is not None, len(shape) == 3), shape)

    return make


def _broadcast(settings: Settings, shapes: list[Shape]) -> Shape:
    try:
        if len({len(shape) for shape in shapes}) != 1:
            raise ValueError
        return tuple(
            max(sides) if set(sides) <= {1, max(sides)} else int("differ") for sides in zip(*shapes, strict=True)
        )
    except ValueError:
        raise ModelError(
            f"Keras layer {settings.name!r} must be given tensors that fit; it is given {shapes}."
        ) from None


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
    return Made(modules.AddScaled(settings.number("scale")), _broadcast(settings, shapes))


def _get_item(settings: Settings, shapes: list[Shape]) -> Made:
    """One channel, or all in reverse, as in Keras's ``preprocess_input``."""
    shape = _picture(settings, shapes)
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
    return lambda settings, shapes: Made(_POINTWISE[kind](settings), _one(settings, shapes))


MAKERS: dict[str, Maker] = {
    "AlphaDropout": lambda s, shapes: Made(nn.AlphaDropout(_drop_rate(s)), _one(s, shapes)),
    "AveragePooling2D": _pool(nn.AvgPool2d),
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Conv2D": _conv,
    "Cropping2D": _cropping,
    "CustomScaleLayer": _custom_scale,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "GetItem": _get_item,
    "GlobalAveragePooling2D": _global_pool(modules.MeanOverPositions),
    "GlobalMaxPooling2D": _global_pool(modules.MaxOverPositions),
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "LayerScale": _layer_scale,
    "MaxPooling2D": _pool(nn.MaxPool2d),
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "ReverseChannels": lambda s, shapes: Made(modules.ReverseChannels(), _picture(s, shapes)),
    "SeparableConv2D": _separable,
    "Softmax": _softmax,
    "SpatialDropout2D": lambda s, shapes: Made(nn.Dropout2d(_drop_rate(s)), _picture(s, shapes)),
    "Stack": _stack,
    "StochasticDepth": lambda s, shapes: Made(modules.DropSamples(_drop_rate(s, "drop_path_rate")), _one(s, shapes)),
    "UpSampling2D": _upsampling,
    "ZeroPadding2D": _zero_padding,
    **{kind: _pointwise(kind) for kind in _POINTWISE},
    **{kind: _merge(kind) for kind in _MERGES},
}
"""Class of a Keras layer -> what makes it."""


def make(kind: str, name: str, values: Mapping[str, Any], shapes: list[Shape]) -> Made:
    """Make one layer for inputs of these shapes.

    Raises:
        ModelError: A setting cannot be; says which.
    """
    from thawline.backbones.providers.keras.settings import SETTINGS

    if kind not in MAKERS:
        raise ModelError(f"layers of a Keras model must be of classes that Thawline knows; {name!r} is a {kind}.")
    return MAKERS[kind](Settings(name, values, SETTINGS[kind]), shapes)
