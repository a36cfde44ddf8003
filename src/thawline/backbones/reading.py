"""Read features at layers: the output of each, averaged over positions or on a grid, its largest, or every number."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thawline.backbones.names import POOLED, layers_in
from thawline.errors import ModelError, UsageError, nearest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones.providers.provider import Provider

POOLINGS = ("avg", "max", "flatten", "grid:N")
"""What may stand behind a layer and a colon: the mean over positions, which is what a layer alone gives; the largest;
every number, in the order of the module; or the means of N x N fields of the map, channel by channel."""
_GLOBAL = ("adaptive", "global")
"""Words in the names of classes that pool a whole map to one position."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where features are read, and what is made of the map that is found there."""

    layer: str
    """``pooled`` or a layer. ``pooled`` with a pooling is the last map of the backbone."""
    pooling: str = ""
    """``avg``, ``max``, ``flatten`` or ``grid``; empty for what a layer alone gives."""
    side: int = 0
    """Of the grid."""

    @classmethod
    def of(cls, rung: str) -> Reading:
        """Read ``LAYER``, ``LAYER:max``, ``LAYER:flatten`` or ``LAYER:grid:N``.

        Raises:
            UsageError: There is no such pooling.
        """
        layer, colon, pooling = rung.partition(":")
        name, _, side = pooling.partition(":")
        if not colon or (name in ("avg", "max", "flatten") and not side):
            return cls(layer, name)
        if name == "grid" and side.isdecimal() and int(side) > 0:
            return cls(layer, name, int(side))
        raise UsageError(f"pooling must be one of {', '.join(POOLINGS)}; got {pooling!r} ({rung}).")

    @property
    def is_wide(self) -> bool:
        """Whether more is kept than one number for each channel."""
        return self.pooling in ("flatten", "grid")


def with_pooling(layers: str, pooling: str | None) -> str:
    """Give a pooling to each of the layers that a setting names; without one, they stay as they are.

    Raises:
        UsageError: A layer has a pooling already, or there is no such pooling.
    """
    if pooling is None:
        return layers
    if ":" in layers:
        raise UsageError(f"pooling must be given once; got {pooling!r} for {layers!r}. Leave --pooling out.")
    given = [f"{layer}:{pooling}" for layer in layers_in(layers)]
    for rung in given:
        Reading.of(rung)
    return ",".join(given)


def reader(
    readings: Sequence[Reading], module: nn.Module, provider: Provider, architecture: str
) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """See ``Backbone.reader``; ``architecture`` is for messages."""
    # inside the blocks of a text encoder, nobody knows which tokens are padding
    readable: Collection[str] | None = getattr(module, "readable", None)
    layers = set(readable or (name for name, _ in module.named_modules() if name))
    for reading in readings:
        if reading.layer != POOLED and reading.layer not in layers:
            stages = ", ".join(readable or (name for name, _ in module.named_children()))
            inside = None if readable else next((name for name in sorted(layers) if "." in name), None)
            raise ModelError(
                f"layer must be {POOLED!r} or a layer of {architecture}; got {reading.layer!r}."
                f"{nearest(reading.layer, layers)} Its stages are {stages}"
                f"{f'; a layer inside one: {inside}' if inside else ''}."
            )
    return lambda samples: _read(module, provider, readings, samples)


class _Reached(Exception):
    """Ends a forward pass when the last layer that was asked for has run: the layers above it need not run."""


def _read(
    module: nn.Module, provider: Provider, readings: Sequence[Reading], samples: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    made: dict[Reading, torch.Tensor] = {}
    wanted = set(readings)

    def catch(layer: str) -> Callable[[nn.Module, object, object], None]:
        own = [reading for reading in wanted if reading.layer == layer]

        def hook(_layer: nn.Module, _inputs: object, output: object) -> None:
            for reading in own:  # now: a layer above that works in place would change the output
                made[reading] = pooled_as(reading, output, module, provider)
            if len(made) == len(wanted):
                raise _Reached

        return hook

    layers = sorted({reading.layer for reading in wanted} - {POOLED})
    hooks = [module.get_submodule(layer).register_forward_hook(catch(layer)) for layer in layers]
    try:
        made |= {Reading(POOLED): module(samples)}
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    for reading in readings:
        if reading not in made:
            raise ModelError(
                f"layer {reading.layer!r} is not run in a forward pass, so it has no output. Choose another layer."
            )
    return tuple(made[reading] for reading in readings)


def pooled_as(reading: Reading, activation: object, module: nn.Module, provider: Provider) -> torch.Tensor:
    """Make features (B, D) of what a layer gave, (B, ...).

    Raises:
        ModelError: It cannot be read so.
    """
    import torch
    from torch.nn import functional

    layer, pooling = reading.layer, reading.pooling
    if not isinstance(activation, torch.Tensor) or activation.ndim < 2:
        raise ModelError(f"layer {layer!r} gives no image-shaped or token-shaped output. Choose another layer.")
    if pooling == "flatten":
        return activation.flatten(1).clone()
    if pooling in ("", "avg"):
        pooled = provider.pooled(activation, module)
        if pooled is None:
            raise ModelError(f"layer {layer!r} gives no image-shaped or token-shaped output. Choose another layer.")
        return pooled
    if activation.ndim != 4:
        raise ModelError(
            f"pooling {pooling} needs an image-shaped output; layer {layer!r} gives {tuple(activation.shape[1:])}. "
            "Choose avg, flatten or another layer."
        )
    picture = activation.permute(0, 3, 1, 2) if provider.channels_last(module) else activation  # (B, C, H, W)
    if pooling == "max":
        return picture.amax((2, 3))
    height, width = picture.shape[2:]
    if reading.side > min(height, width):
        raise ModelError(
            f"a grid must have at most as many fields as layer {layer!r} has positions, {height} x {width}; got "
            f"{reading.side} x {reading.side}. Choose a smaller grid, or flatten."
        )
    return functional.adaptive_avg_pool2d(picture, reading.side).flatten(1)  # (B, C, N, N) -> (B, C * N * N)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a layer gave."""

    layer: str
    shape: tuple[int, ...]
    """Without the batch."""
    of_whole: bool
    """Whether it made one position of a whole map, as a global pooling does, or a dense layer written as one."""


def _outputs(module: nn.Module, samples: torch.Tensor) -> list[_Given]:
    """List what the layers of a module give, in the order in which they end."""
    import torch

    found: list[_Given] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
            if isinstance(output, torch.Tensor):
                found.append(_Given(name, tuple(output.shape[1:]), _is_of_whole(layer, inputs)))

        return hook

    hooks = [layer.register_forward_hook(note(name)) for name, layer in module.named_modules() if name]
    try:
        with torch.no_grad():
            module(samples)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_of_whole(layer: nn.Module, inputs: tuple[Any, ...]) -> bool:
    from torch import nn

    if isinstance(layer, nn.Conv2d):
        return not any(layer.padding) and layer.kernel_size == tuple(inputs[0].shape[2:]) != (1, 1)
    return any(word in type(layer).__name__.lower() for word in _GLOBAL)


def find_last_map(module: nn.Module, samples: torch.Tensor, name: str, *, channels_last: bool) -> str:
    """Name the layer that gives the last map of a model: image-shaped or tokens, before it is pooled.

    A map of one position counts unless a layer pooled a larger one as a whole: a small picture ends in such a map.

    Args:
        name: Of the model, for messages.
        channels_last: Whether maps are (H, W, C).
    Raises:
        ModelError: The model gives no map at all.
    """
    ran = _outputs(module, samples)
    maps = [at for at, one in enumerate(ran) if len(one.shape) == 2 or _positions(one.shape, channels_last) > 1]
    if not maps:
        raise ModelError(f"{name} has no map to read features from. Leave --pooling out, or name a layer.")
    last = maps[-1]
    for at in range(last + 1, len(ran)):
        if len(ran[at].shape) != 3 or ran[at].of_whole:
            break
        last = at
    return ran[last].layer


def _positions(shape: tuple[int, ...], channels_last: bool) -> int:
    """Positions of (C, H, W) or (H, W, C); 0 for what is no map."""
    if len(shape) != 3:
        return 0
    return math.prod(shape[:2] if channels_last else shape[1:])
