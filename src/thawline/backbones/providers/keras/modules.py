"""Modules for what Keras has and torch has not, or orders otherwise. Pictures are (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional


class HardSigmoid2(nn.Module):
    """Keras 2's ``hard_sigmoid``; that of Keras 3 is torch's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


class Exponential(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_sigmoid_2": HardSigmoid2,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "hard_silu": nn.Hardswish,
    "hard_swish": nn.Hardswish,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "mish": nn.Mish,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "exponential": Exponential,
    "softmax": lambda: nn.Softmax(dim=1),
}
"""Keras's name of an activation -> its module."""


class PixelLinear(nn.Module):
    """A dense layer on the channels of each position: (B, C, H, W) -> (B, units, H, W)."""

    def __init__(self, channels: int, units: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, channels))
        self.bias = nn.Parameter(torch.zeros(units)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.weight[:, :, None, None], self.bias)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each position."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """Scale each channel by a parameter."""

    def __init__(self, channels: int, initial: float, pictures: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), initial))
        self._shape = (-1, 1, 1) if pictures else (-1,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight.view(self._shape)


class Rescale(nn.Module):
    """Scale and shift each channel by constants."""

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, scale: Sequence[float], offset: Sequence[float], pictures: bool) -> None:
        super().__init__()
        shape = (-1, 1, 1) if pictures else (-1,)
        self.register_buffer("scale", torch.tensor(scale).view(shape), persistent=False)
        self.register_buffer("offset", torch.tensor(offset).view(shape), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.offset


class Standardize(nn.Module):
    """Standardise each channel of pictures by a mean and a variance that were measured before."""

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deviation = self.running_var.sqrt().clamp_min(1e-7)  # as Keras does
        return (x - self.running_mean.view(-1, 1, 1)) / deviation.view(-1, 1, 1)


class MeanOverPositions(nn.Module):
    """(B, C, H, W) -> (B, C), or (B, C, 1, 1)"""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self._keep = keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=self._keep)


class MaxOverPositions(nn.Module):
    """(B, C, H, W) -> (B, C), or (B, C, 1, 1)"""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self._keep = keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.amax((2, 3), keepdim=self._keep)


class PaddedMaxPool(nn.Module):
    """Maximum over windows that reach over the edge, unevenly."""

    def __init__(self, size: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
        super().__init__()
        self._pads = pads
        self._pool = nn.MaxPool2d(size, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self._pool(functional.pad(x, self._pads, value=float("-inf")))
        return pooled


class PaddedMeanPool(nn.Module):
    """Mean over windows that reach over the edge, unevenly; what is outside does not count, as in Keras."""

    shares: torch.Tensor

    def __init__(
        self, size: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int], sides: tuple[int, int]
    ) -> None:
        super().__init__()
        self._pads = pads
        self._pool = nn.AvgPool2d(size, stride)
        left, right, top, bottom = pads
        counted = [
            _inside(side, before, after, n, step)
            for side, before, after, n, step in zip(sides, (top, left), (bottom, right), size, stride, strict=True)
        ]
        rows, columns = counted
        shares = [[size[0] * size[1] / (row * column) for column in columns] for row in rows]
        self.register_buffer("shares", torch.tensor(shares), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self._pool(functional.pad(x, self._pads))
        return pooled * self.shares


def _inside(side: int, before: int, after: int, size: int, stride: int) -> list[int]:
    """Count, for each window along one side, the positions that lie in the picture."""
    starts = range(-before, side + after - size + 1, stride)
    return [min(start + size, side) - max(start, 0) for start in starts]


class Crop(nn.Module):
    """Cut off borders (left, right, top, bottom) of pictures of a size."""

    def __init__(self, borders: tuple[int, int, int, int], sides: tuple[int, int]) -> None:
        super().__init__()
        left, right, top, bottom = borders
        self._rows, self._columns = slice(top, sides[0] - bottom), slice(left, sides[1] - right)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, self._rows, self._columns]


class Flatten(nn.Module):
    """Join all axes in Keras's order, in which channels run fastest: (B, C, H, W) -> (B, H x W x C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x.flatten(1)


class Reshape(nn.Module):
    """Reshape as Keras would, with channels last on both sides."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self._sizes = sizes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
        x = x.reshape(-1, *self._sizes)
        return x.permute(0, 3, 1, 2) if len(self._sizes) == 3 else x


class DropSamples(nn.Module):
    """Stochastic depth: in training, drop what a branch gives for some samples, and scale up the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.drop_prob = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        kept = x.new_empty((len(x), *[1] * (x.ndim - 1))).bernoulli_(1 - self.drop_prob)
        return x * kept / max(1 - self.drop_prob, 1e-7)


class Merge(nn.Module):
    """Join tensors, number by number."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self._operation = operation

    def forward(self, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        joined = first
        for other in others:
            joined = _JOINS[self._operation](joined, other)
        return joined / (1 + len(others)) if self._operation == "average" else joined


_JOINS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": torch.add,
    "average": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}


class WithConstant(nn.Module):
    """Join a tensor with one constant for each channel."""

    constant: torch.Tensor

    def __init__(self, operation: str, constant: Sequence[float], first: bool, pictures: bool) -> None:
        super().__init__()
        self._operation, self._first = operation, first
        shape = (-1, 1, 1) if pictures else (-1,)
        self.register_buffer("constant", torch.tensor(constant).view(shape), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        join = _JOINS[self._operation]
        return join(self.constant, x) if self._first else join(x, self.constant)


class AddScaled(nn.Module):
    """Add a branch, scaled."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self._scale = scale

    def forward(self, x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        return x + branch * self._scale


class Concatenate(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self._dim = dim

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts, self._dim)


class ReverseChannels(nn.Module):
    """From RGB to BGR."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1)


class Channel(nn.Module):
    """One channel of pictures: (B, C, H, W) -> (B, H, W)"""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self._index]


class Stack(nn.Module):
    """Channels to pictures: several (B, H, W) -> (B, C, H, W)"""

    def forward(self, *planes: torch.Tensor) -> torch.Tensor:
        return torch.stack(planes, 1)
