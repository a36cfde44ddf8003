"""The layout of activations in one row of the store, and the way back to tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from thawline.errors import ModelError
from thawline.inputs import kind_of
from thawline.records import ArraySpec, Precision, Preparation
from thawline.store.keys import Stored

_FORMATS: dict[Stored, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "uint8": torch.uint8,
    "int32": torch.int32,
}
_FORMAT_OF: dict[Precision, Stored] = {"f32": "float32", "bf16": "bfloat16"}


class Layout(Protocol):
    """Between rows (B, n) in a stored number format and the tensors that cross a line, each (B, ...)."""

    @property
    def stored(self) -> Stored: ...

    @property
    def numbers(self) -> int:
        """In one row."""
        ...

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        ...

    @property
    def is_lossless(self) -> bool:
        """Whether the tensors come back from a row bit for bit as they were computed."""
        ...

    def tensors(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Rows (B, n), where the tensors are wanted -> the tensors, over the same memory where possible."""
        ...

    def examples(self, n: int) -> tuple[torch.Tensor, ...]:
        """Return tensors of ``n`` made-up rows, float32 and on a processor; always the same."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class InputLayout:
    """At the rung ``input``: a row is the prepared sample; of a picture that takes a quarter of the normalised one."""

    preparation: Preparation
    to_tensors: Callable[[torch.Tensor], torch.Tensor]

    @classmethod
    def of(cls, preparation: Preparation, device: torch.device) -> InputLayout:
        """Make the layout of one backbone's samples."""
        return cls(preparation, kind_of(preparation.kind).to_tensors(preparation, device))

    @property
    def spec(self) -> ArraySpec:
        """The prepared sample."""
        return self.preparation.spec

    @property
    def stored(self) -> Stored:
        return self.spec.dtype

    @property
    def numbers(self) -> int:
        return math.prod(self.spec.shape)

    @property
    def row_bytes(self) -> int:
        return self.spec.bytes

    @property
    def is_lossless(self) -> bool:
        return True

    def tensors(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Rows (B, numbers) -> what the first layer takes, (B, *tensor_shape)."""
        return (self.to_tensors(rows.view(-1, *self.spec.shape)),)

    def examples(self, n: int) -> tuple[torch.Tensor, ...]:
        """See ``Layout.examples``."""
        kind, cpu = kind_of(self.preparation.kind), torch.device("cpu")
        return (kind.to_tensors(self.preparation, cpu)(torch.from_numpy(kind.stand_ins(n, self.preparation))),)


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """At any other rung: a row is all numbers of all tensors, one tensor after the other, as they lie in memory."""

    shapes: tuple[tuple[int, ...], ...]
    """Of each tensor, without the batch."""
    channels_last: tuple[bool, ...]
    """Of each tensor: whether it is (C, H, W) and lies in memory as (H, W, C)."""
    stored: Stored
    is_lossless: bool

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor], precision: Precision, rung: str) -> TensorLayout:
        """Make the layout of tensors like these, which may be fake: only shapes, strides and types count.

        Raises:
            ModelError: One of them does not hold floating-point numbers.
        """
        stored = _FORMAT_OF[precision]
        for tensor in tensors:
            if not tensor.is_floating_point():
                raise ModelError(
                    f"what crosses the line at {rung!r} must be floating-point numbers to be kept; "
                    f"got {str(tensor.dtype).removeprefix('torch.')}. Choose another rung."
                )
        return cls(
            shapes=tuple(tuple(tensor.shape[1:]) for tensor in tensors),
            channels_last=tuple(_is_channels_last(tensor) for tensor in tensors),
            stored=stored,
            is_lossless=all(tensor.dtype == _FORMATS[stored] for tensor in tensors),
        )

    @property
    def numbers(self) -> int:
        return sum(map(math.prod, self.shapes))

    @property
    def row_bytes(self) -> int:
        return self.numbers * _FORMATS[self.stored].itemsize

    def pack(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Tensors, each (B, ...) -> rows (B, n), rounded to the stored format."""
        parts = []
        for tensor, last in zip(tensors, self.channels_last, strict=True):
            part = tensor.permute(0, 2, 3, 1) if last else tensor  # (B, C, H, W) -> (B, H, W, C)
            parts.append(part.to(_FORMATS[self.stored]).flatten(1))  # (B, ...) -> (B, n_part)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def tensors(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Rows (B, n) -> tensors, each (B, ...), in the memory layout in which they were computed."""
        parts = torch.split(rows, [math.prod(shape) for shape in self.shapes], dim=1)
        # A part of a longer row is copied: kernels add up in another order where samples do not lie next to each other.
        return tuple(
            _shaped(part.contiguous(), shape, last)
            for part, shape, last in zip(parts, self.shapes, self.channels_last, strict=True)
        )

    def examples(self, n: int) -> tuple[torch.Tensor, ...]:
        """See ``Layout.examples``."""
        return self.tensors(torch.randn(n, self.numbers, generator=torch.Generator().manual_seed(0)))


def stored_format(precision: Precision) -> Stored:
    """Number format of the rows at every rung but ``input``."""
    return _FORMAT_OF[precision]


def empty_rows(n: int, layout: Layout, device: torch.device | None = None) -> torch.Tensor:
    """Memory for rows (n, numbers), aligned as torch aligns it: kernels may look at that, too."""
    return torch.empty(n, layout.numbers, dtype=_FORMATS[layout.stored], device=device)


def to_store(rows: torch.Tensor) -> NDArray[Any]:
    """Rows (B, n) on any device -> what the store takes: bfloat16 as its bits."""
    rows = rows.cpu()
    values: NDArray[Any] = (rows.view(torch.uint16) if rows.dtype == torch.bfloat16 else rows).numpy()
    return values


def from_store(values: NDArray[Any]) -> torch.Tensor:
    """What the store gives -> rows (B, n), over the same memory."""
    rows = torch.from_numpy(values)
    return rows.view(torch.bfloat16) if values.dtype == np.uint16 else rows


def _is_channels_last(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _shaped(part: torch.Tensor, shape: tuple[int, ...], channels_last: bool) -> torch.Tensor:
    """(B, n) -> (B, *shape)"""
    if not channels_last:
        return part.view(-1, *shape)
    channels, height, width = shape
    return part.view(-1, height, width, channels).permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
