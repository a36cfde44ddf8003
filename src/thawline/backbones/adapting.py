"""Change a tensor of a file so that it fits another input: other channels, another size of the picture."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]

POSITIONS = re.compile(r"(^|\.)(pos_embed\w*|pos_embedding|patch_pos|position_embeddings?(\.weight)?)$")
"""Names of tensors that hold one vector for each position."""
RELATIVE = re.compile(r"(^|\.)relative_position_bias_table$")
"""Names of tensors that hold one number for each distance between two positions."""
_MOST_PREFIX_TOKENS = 8


ResizeTable = Callable[["Tensor", int, Shape], "Tensor"]
"""Takes a table of relative positions, the side of the new window, and the new shape; returns the new table."""


class Grids(NamedTuple):
    """The positions of a tensor, as the file and as the model has them."""

    n_prefix: int
    """Class and register tokens before the positions, or rows behind the distances, which belong to none of them."""
    old: int
    """Side of the square grid in the file."""
    new: int


def first_layer(shapes: Mapping[str, Shape]) -> str | None:
    """Name the weights of the layer that takes the three channels of a picture; None if no convolution does.

    Args:
        shapes: Name -> shape, in the order of the layers.
    """
    return next((name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == 3), None)


def how(name: str, given: Shape, wanted: Shape, *, takes_picture: bool) -> str:
    """Say how a tensor of the file can be made to fit; an empty string if it cannot.

    Args:
        given: Its shape in the file.
        wanted: Its shape in the model.
        takes_picture: Whether it is the weight of the layer that takes the picture.
    """
    if takes_picture and len(given) == 4 and given[1] == 1 and wanted == (given[0], 3, *given[2:]):
        return "spread over channels 1 -> 3"
    if POSITIONS.search(name) and (grids := _grids(given, wanted)) is not None:
        return f"position embedding interpolated {grids.old}x{grids.old} -> {grids.new}x{grids.new}"
    if RELATIVE.search(name) and (grids := _distances(given, wanted)) is not None:
        return f"relative positions interpolated {grids.old}x{grids.old} -> {grids.new}x{grids.new}"
    return ""


def adapt(name: str, tensor: Tensor, wanted: Shape, *, antialias: bool, resize_table: ResizeTable) -> Tensor:
    """Do what ``how`` says.

    Args:
        tensor: From the file.
        antialias: Whether a grid that shrinks is smoothed first, as timm does and other libraries do not.
        resize_table: Interpolates a table of relative positions.
    Returns:
        float32, of the wanted shape.
    Source:
        Spread over three channels, a third of the weights each: as ``timm.models.adapt_input_conv`` turns round what it
        does for one channel. Positions: bicubic, as ``timm.layers.resample_abs_pos_embed`` and the ``interpolate`` of
        transformers' vision models. Distances: ``timm.layers.resize_rel_pos_bias_table``, from BEiT.
    """
    import torch

    given = tuple(tensor.shape)
    tensor = tensor.float()
    if len(given) == 4 and given[1] == 1 and wanted[1] == 3:
        return (tensor / 3).repeat(1, 3, 1, 1)
    if RELATIVE.search(name):
        distances = _distances(given, wanted)
        assert distances is not None
        return resize_table(tensor, (distances.new + 1) // 2, wanted)
    grids = _grids(given, wanted)
    assert grids is not None
    if len(given) == 4:
        channels_last = given[-1] == wanted[-1]
        grid = tensor.permute(0, 3, 1, 2) if channels_last else tensor
        grid = _resized(grid, grids.new, antialias=antialias)  # (1, C, h, w) -> (1, C, H, W)
        return (grid.permute(0, 2, 3, 1) if channels_last else grid).contiguous()
    tokens = tensor.reshape(-1, given[-1])  # (1, T, C) or (T, C) -> (T, C)
    grid = tokens[grids.n_prefix :].T.reshape(1, -1, grids.old, grids.old)  # (N, C) -> (1, C, h, w)
    rows = _resized(grid, grids.new, antialias=antialias).flatten(2)[0].T  # (1, C, H, W) -> (N', C)
    return torch.cat([tokens[: grids.n_prefix], rows]).reshape(wanted)


def _grids(given: Shape, wanted: Shape) -> Grids | None:
    """Find the square grids of two position embeddings; None if there are none."""
    if len(given) != len(wanted) or given == wanted:
        return None
    if len(given) == 4:
        for height, channels in ((1, 3), (2, 1)):  # (1, H, W, C), (1, C, H, W)
            old, new = given[height : height + 2], wanted[height : height + 2]
            if given[0] == wanted[0] == 1 and given[channels] == wanted[channels] and _is_square(old, new):
                return Grids(0, old[0], new[0])
        return None
    if len(given) not in (2, 3) or given[-1] != wanted[-1] or given[:-2] != wanted[:-2] or given[:-2] not in ((), (1,)):
        return None
    return _sides(given[-2], wanted[-2])


def _is_square(*sizes: Shape) -> bool:
    return all(height == width for height, width in sizes)


def _sides(old: int, new: int) -> Grids | None:
    for n in range(_MOST_PREFIX_TOKENS + 1):
        sides = [math.isqrt(max(rows - n, 0)) for rows in (old, new)]
        if min(sides) > 0 and [side**2 + n for side in sides] == [old, new]:
            return Grids(n, *sides)
    return None


def _distances(given: Shape, wanted: Shape) -> Grids | None:
    """Find the square grids of two tables of relative positions, (rows, heads) or (heads, H, W)."""
    if len(given) == 2 and len(wanted) == 2 and given[1] == wanted[1]:
        grids = _sides(given[0], wanted[0])
    elif len(given) == 3 and len(wanted) == 3 and given[0] == wanted[0] and _is_square(given[1:], wanted[1:]):
        grids = Grids(0, given[1], wanted[1])
    else:
        return None
    # a window of w positions has 2 w - 1 distances on each side
    return grids if grids is not None and grids.old % 2 and grids.new % 2 and grids.old != grids.new else None


def _resized(grid: Tensor, side: int, *, antialias: bool) -> Tensor:
    """(1, C, h, w) -> (1, C, side, side)"""
    from torch.nn import functional

    return functional.interpolate(grid, size=(side, side), mode="bicubic", antialias=antialias)
