"""Count layers as the library of a model counts them: Keras counts activations, poolings and its input, too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from thawline.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones.ladder import Ladder
    from thawline.backbones.providers.provider import LibraryLayer

LAST, FIRST_FROZEN = "last-keras", "first-frozen-keras"
"""Thaw settings ``KIND:N`` that count as Keras users do: ``model.layers[-N:]`` and ``model.layers[:N]``."""
_MOST_NAMED = 8


def counted_layers(ladder: Ladder, module: nn.Module) -> tuple[LibraryLayer, ...] | None:
    """Return the layers of a backbone as its library counts them; None if it counts as the ladder does."""
    return ladder.signature.library_layers(module)


def counted_on(setting: str, ladder: Ladder, module: nn.Module) -> tuple[LibraryLayer, ...]:
    """Return the layers that ``last-keras:N`` or ``first-frozen-keras:K`` lets learn, in Keras's order.

    Raises:
        UsageError: The model is none of Keras's, or N is no number of its layers.
    """
    kind, _, value = setting.partition(":")
    layers = counted_layers(ladder, module)
    if layers is None:
        instead = "last:N" if kind == LAST else "first-frozen:K"
        raise UsageError(
            f"thaw {setting} counts layers as Keras does, so the model must be keras/NAME; got {ladder.model}. "
            f"Write {instead}, which counts the layers that have parameters."
        )
    if not re.fullmatch("[0-9]{1,9}", value) or int(value) > len(layers):
        raise UsageError(
            f"thaw {setting} must count layers of Keras with a whole number, at most {kind}:{len(layers)}: "
            f"{ladder.model} has {len(layers)}."
        )
    n = int(value)
    return layers[len(layers) - n :] if kind == LAST else layers[n:]


def nearest_that_learns(setting: str, ladder: Ladder, module: nn.Module, learnable: Sequence[str]) -> str:
    """Return the setting of the same kind that thaws the fewest layers, of which one has parameters.

    Args:
        learnable: Names of the parameters of ``module``.
    """
    kind = setting.partition(":")[0]
    layers = counted_layers(ladder, module) or ()
    known = set(learnable)
    top = max((place for place, layer in enumerate(layers) if known.intersection(layer.tensors)), default=0)
    return f"{kind}:{len(layers) - top if kind == LAST else top}"


def in_words(layers: Sequence[LibraryLayer], learnable: Sequence[str]) -> str:
    """Say how many of the counted layers carry weights, and name those that carry none."""
    known = set(learnable)
    bare = [layer.name for layer in layers if not known.intersection(layer.tensors)]
    if not layers or not bare:
        return ""
    named = ", ".join(bare if len(bare) <= _MOST_NAMED else [*bare[:3], "...", bare[-1]])
    n, verb = len(layers) - len(bare), {1: "has"}
    return (
        f"Of the {len(layers)} layers that Keras counts there, {n} {verb.get(n, 'have')} weights that can learn; "
        f"{len(bare)} {verb.get(len(bare), 'have')} none: {named}."
    )
