"""Fold batch norms in inference mode into the convolutions before them: one pass over the activations less."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from thawline.engines.converting.fold import Fold

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.utils.hooks import RemovableHandle

_SAME = 1e-4
"""Largest difference, relative to the largest output, that folding may make in float32."""


def folds(module: nn.Module, images: torch.Tensor, *, keep: Container[str] = ()) -> tuple[Fold, ...]:
    """List the batch norms that ``folded`` folds; none if folding would change the outputs."""
    pairs = _foldable(module, images, keep)
    if not pairs or folded(module, images, keep=keep) is module:
        return ()
    return tuple(Fold(conv, norm, cast("_BatchNorm", module.get_submodule(norm)).eps) for conv, norm in pairs)


def folded(module: nn.Module, images: torch.Tensor, *, keep: Container[str] = ()) -> nn.Module:
    """Return a copy whose batch norms are part of the convolutions before them, where that changes nothing.

    Which batch norm reads which convolution is seen by running the module, and the copy is only kept where it gives the
    same: a convolution that something else reads as well, or that does more than convolve, cannot be folded.

    Args:
        module: In inference mode; left as it is.
        images: Any input.
        keep: Names of layers whose own output is wanted: such a convolution stays as it is.
    """
    pairs = _foldable(module, images, keep)
    if not pairs:
        return module
    light = copy.deepcopy(module)
    for conv_name, norm_name in pairs:
        conv = cast("nn.Conv2d", light.get_submodule(conv_name))
        norm = cast("_BatchNorm", light.get_submodule(norm_name))
        mean, variance = cast("torch.Tensor", norm.running_mean), cast("torch.Tensor", norm.running_var)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
        )
        _replace(light, norm_name, _what_is_left(norm))
    light.requires_grad_(False)
    with torch.inference_mode():
        before, after = module(images), light(images)
    scale = float(before.abs().max())
    # Hooks see that a batch norm reads a convolution, not that nothing else does: the outputs must prove it.
    return light if float((before - after).abs().max()) <= _SAME * scale else module


def _foldable(module: nn.Module, images: torch.Tensor, keep: Container[str]) -> list[tuple[str, str]]:
    return [(conv, norm) for conv, norm in _pairs(module, images) if conv not in keep]


def _pairs(module: nn.Module, images: torch.Tensor) -> list[tuple[str, str]]:
    """(convolution, batch norm that is given its output), by name, where each was run once."""
    made: dict[int, str] = {}
    outputs: list[torch.Tensor] = []  # kept, so that no two share an identity
    runs: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []

    def after_conv(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            runs[name] = runs.get(name, 0) + 1
            made[id(output)] = name  # a batch norm may run on the very tensor only: identity, not equality, joins them
            outputs.append(output)

        return hook

    def before_norm(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            runs[name] = runs.get(name, 0) + 1
            if id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])], name))

        return hook

    hooks = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(after_conv(name)))
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            hooks.append(layer.register_forward_pre_hook(before_norm(name)))
    run_hooked(module, images, hooks)
    return [(conv, norm) for conv, norm in pairs if runs[conv] == 1 == runs[norm]]


def run_hooked(module: nn.Module, images: torch.Tensor, hooks: Sequence[RemovableHandle]) -> None:
    """Run a module once for its hooks, then remove them."""
    try:
        with torch.inference_mode():
            module(images)
    finally:
        for hook in hooks:
            hook.remove()


def _what_is_left(norm: nn.Module) -> nn.Module:
    """Return the activation function inside timm's batch norm layers."""
    rest = [getattr(norm, name, None) for name in ("drop", "act")]
    return nn.Sequential(*(layer for layer in rest if isinstance(layer, nn.Module)))


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, layer)
