"""What the makers of layers share: settings, each checked where it is used, and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from thawline.backbones.providers.keras import modules
from thawline.backbones.providers.keras.settings import SETTINGS
from thawline.errors import ModelError

Shape = tuple[int, ...]
MOST = 2**20
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
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST:
            raise self.refuse(setting, f"a whole number from {least} to {MOST:,}")
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
        if not isinstance(value, list | tuple) or len(value) != 2 or not all(is_whole(n, 1, 4096) for n in value):
            raise self.refuse(setting, "two whole numbers from 1 to 4096")
        return value[0], value[1]

    def sides(self, setting: str) -> tuple[int, int, int, int]:
        """(left, right, top, bottom), as torch orders them; Keras has ((top, bottom), (left, right))."""
        value = self.get(setting)
        if isinstance(value, int):
            value = [value, value]
        pairs = [[n, n] if isinstance(n, int) else n for n in value] if isinstance(value, list | tuple) else []
        flat = [n for pair in pairs if isinstance(pair, list | tuple) for n in pair]
        if len(pairs) != 2 or len(flat) != 4 or not all(is_whole(n, 0, 4096) for n in flat):
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
            kind, inner = value
            if kind in POINTWISE:
                return POINTWISE[kind](Settings(self.name, inner, SETTINGS[kind]))
        if value in modules.ACTIVATIONS:
            return modules.ACTIVATIONS[value]()
        raise self.refuse(setting, f"one of {', '.join(modules.ACTIVATIONS)}")


Maker = Callable[[Settings, list[Shape]], Made]


def is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def picture(settings: Settings, shapes: list[Shape]) -> Shape:
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise ModelError(f"Keras layer {settings.name!r} must be given one picture (H, W, C); it is given {shapes}.")
    return shapes[0]


def one(settings: Settings, shapes: list[Shape]) -> Shape:
    if len(shapes) != 1:
        raise ModelError(f"Keras layer {settings.name!r} must be given one tensor; it is given {len(shapes)}.")
    return shapes[0]


def side_after(settings: Settings, side: int, kernel: int, stride: int, dilation: int, same: bool) -> int:
    n = -(-side // stride) if same else (side - dilation * (kernel - 1) - 1) // stride + 1
    if n < 1:
        raise ModelError(
            f"input is too small for Keras layer {settings.name!r}, which needs {dilation * (kernel - 1) + 1} px "
            f"of what is {side} px there. Give a larger --input-px."
        )
    return n


def same_pad(side: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after): TensorFlow puts the odd one after."""
    total = max((-(-side // stride) - 1) * stride + dilation * (kernel - 1) + 1 - side, 0)
    return total // 2, total - total // 2


def numbers(settings: Settings, setting: str, n: int) -> list[float]:
    """Return one number for each of ``n`` channels."""
    value = settings.get(setting)
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    flat = value if isinstance(value, list) else [value] * n
    flat = flat * n if len(flat) == 1 else flat
    if len(flat) != n or not all(isinstance(v, int | float) and math.isfinite(v) for v in flat):
        raise settings.refuse(setting, f"one number, or {n}")
    return [float(v) for v in flat]


def broadcast(settings: Settings, shapes: list[Shape]) -> Shape:
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


def drop_rate(settings: Settings, setting: str = "rate") -> float:
    rate = settings.number(setting)
    if not 0 <= rate <= 1:
        raise settings.refuse(setting, "in [0, 1]")
    return rate


def _relu(settings: Settings) -> nn.Module:
    most, slope, threshold = settings.get("max_value"), settings.number("negative_slope"), settings.number("threshold")
    if (slope, threshold) == (0, 0) and most in (None, 6):
        return nn.ReLU() if most is None else nn.ReLU6()
    if most is None and threshold == 0:
        return nn.LeakyReLU(slope)
    if slope == 0 and threshold == 0:
        return nn.Hardtanh(0.0, settings.number("max_value"))
    raise settings.refuse("threshold", "0")


POINTWISE: dict[str, Callable[[Settings], nn.Module]] = {
    "Activation": Settings.activation,
    "ELU": lambda settings: nn.ELU(settings.number("alpha")),
    "Identity": lambda settings: nn.Identity(),
    "ActivityRegularization": lambda settings: nn.Identity(),
    "LeakyReLU": lambda settings: nn.LeakyReLU(settings.number("negative_slope")),
    "ReLU": _relu,
}
"""Layers that treat each number by itself."""
