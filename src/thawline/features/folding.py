"""Frozen layers with batch norms folded into the convolutions before them, and activations computed by these.

In eager torch, a batch norm and an activation each read and write all activations once more: of the lower half of a
MobileNetV2 they take a quarter of the time in float32 and a third in bfloat16.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from thawline.backbones.providers.timm_import import import_timm
from thawline.engines.convolving import Activation, activated, own_pads, padded, same_pads

if TYPE_CHECKING:
    from thawline.backbones.cut import Prefix

import_timm()  # which makes torchvision importable, too
from timm.layers import BatchNormAct2d, Conv2dSame  # noqa: E402

REVISION = 1
"""Raise it when the same layers begin to give other bits."""
_CONVOLUTIONS, _NORMS = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)
_ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.ReLU: "relu", nn.ReLU6: "relu6"}
_KINDS = {*_CONVOLUTIONS, *_NORMS, *_ACTIVATIONS}
"""Exactly these: a subclass may compute something else."""
_SAME = 1e-4
"""Largest difference, relative to the largest output, that folding may make in float32."""
_Run = Callable[..., "tuple[torch.Tensor, ...]"]


class Folded(nn.Module):
    """A convolution with a batch norm and an activation in it, for inference."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, activation: Activation) -> None:
        super().__init__()
        mean, variance = cast("torch.Tensor", norm.running_mean), cast("torch.Tensor", norm.running_var)
        weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
        self.weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self.bias = bias.detach()
        # Plain attributes: the convolution's own weights are not needed any more.
        self._stride = (conv.stride[0], conv.stride[1])
        self._dilation, self._groups = (conv.dilation[0], conv.dilation[1]), conv.groups
        self._activation: Activation = activation
        self._widened: dict[tuple[int, int], torch.Tensor] = {}
        shape = copy.copy(conv)
        shape._parameters = {}
        self._shape, self._pads_of = [shape], same_pads if isinstance(conv, Conv2dSame) else own_pads

    def round_to(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype`` from now on."""
        self.weight, self.bias = self.weight.to(dtype), self.bias.to(dtype)
        self._widened.clear()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H', W')"""
        left, right, top, bottom = pads = self._pads_of(self._shape[0], x.shape[2:])
        x, weight, padding = x.to(self.weight.dtype), self.weight, (top, left)
        if (left, top) != (right, bottom):  # torch pads alike on both sides
            if self._groups == len(weight) and self._dilation == (1, 1):
                weight, padding = self._wider(right - left, bottom - top), (bottom, right)
            else:
                x, padding = padded(x, pads), (0, 0)
        return activated(x, weight, self.bias, self._activation, self._stride, padding, self._dilation, self._groups)

    def _wider(self, columns: int, rows: int) -> torch.Tensor:
        """Return the weights with zeros to the left and above, which read what is padded too much there.

        A copy of the activations with more padding would take as long as a depthwise convolution.
        """
        if (columns, rows) not in self._widened:  # two threads may both make it
            wider = nn.functional.pad(self.weight, (columns, 0, rows, 0))
            self._widened[columns, rows] = wider.contiguous(memory_format=torch.channels_last)
        return self._widened[columns, rows]


@dataclass(frozen=True, slots=True)
class _Chain:
    """Names of layers that become one; None for an activation that is none or stays."""

    conv: str
    norm: str
    activation: str | None


def folded(layers: Prefix, given: tuple[torch.Tensor, ...], dtype: torch.dtype) -> _Run:
    """Return what computes as ``layers`` do, in fewer passes over memory; the layers themselves if it would differ.

    Parameters of all other layers are shared.

    Args:
        layers: On a processor.
        given: Made-up tensors that the layers take, float32 (B, ...), on which both are tried.
        dtype: In which convolutions compute.
    """
    if not any(type(layer) in _NORMS for layer in layers.modules()):
        return layers
    with torch.no_grad():
        chains, expected = _chains(layers, given)
        if not chains:
            return layers
        light = _sharing_weights(layers.layers)
        for chain in chains:
            _fold(light, chain)
        found = light(*given)
    # Hooks see that a batch norm reads a convolution, not that nothing else does: the outputs must prove it.
    if not all(_is_same(*pair) for pair in zip(found, expected, strict=True)):
        return layers
    for layer in light.modules():
        if isinstance(layer, Folded):
            layer.round_to(dtype)
    return cast("_Run", light)


def _is_same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((found - expected).abs().max()) <= _SAME * float(expected.abs().max())


def _fold(module: nn.Module, chain: _Chain) -> None:
    """Put one layer for the layers of a chain."""
    conv = cast("nn.Conv2d", module.get_submodule(chain.conv))
    norm = cast("nn.BatchNorm2d", module.get_submodule(chain.norm))
    own: Any = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
    activation: Activation = "none"
    if type(own) in _ACTIVATIONS:
        activation, own = _ACTIVATIONS[type(own)], nn.Identity()
    elif chain.activation is not None:
        activation = _ACTIVATIONS[type(module.get_submodule(chain.activation))]
        _replace(module, chain.activation, nn.Identity())
    _replace(module, chain.conv, Folded(conv, norm, activation))
    _replace(module, chain.norm, own)


@dataclass(slots=True)
class _Call:
    """One call of a layer. It holds its tensors, so that no other tensor gets their identity.

    A sum in place (of a residual block) leaves a tensor its identity and gives it another version.
    """

    given: torch.Tensor
    given_version: int
    gave: torch.Tensor | None = None
    gave_version: int = -1

    def is_read_by(self, other: _Call) -> bool:
        """Whether the other was given what this gave, unchanged."""
        return other.given is self.gave and other.given_version == self.gave_version


def _chains(layers: Prefix, given: tuple[torch.Tensor, ...]) -> tuple[list[_Chain], tuple[torch.Tensor, ...]]:
    """(chains of layers that were each run once, what the layers gave)"""
    kinds = {name: layer for name, layer in layers.layers.named_modules() if type(layer) in _KINDS}
    calls, expected = _watched(layers, given, kinds)
    once = {name: made[0] for name, made in calls.items() if len(made) == 1}

    def follower(name: str, types: tuple[type[nn.Module], ...]) -> str | None:
        readers = (other for other, call in once.items() if once[name].is_read_by(call))
        return next((other for other in readers if type(kinds[other]) in types), None)

    chains = []
    for name in once:
        conv = kinds[name]
        if isinstance(conv, nn.Conv2d) and not isinstance(conv.padding, str) and conv.padding_mode == "zeros":
            norm_name = follower(name, _NORMS)
            if norm_name is not None and _is_foldable(norm := kinds[norm_name]):
                own = norm.act if isinstance(norm, BatchNormAct2d) else None
                is_open = own is None or type(own) is nn.Identity
                chains.append(_Chain(name, norm_name, follower(norm_name, tuple(_ACTIVATIONS)) if is_open else None))
    return chains, expected


def _watched(
    layers: Prefix, given: tuple[torch.Tensor, ...], kinds: dict[str, nn.Module]
) -> tuple[dict[str, list[_Call]], tuple[torch.Tensor, ...]]:
    """(calls of each layer, what all of them gave)"""
    calls: dict[str, list[_Call]] = {name: [] for name in kinds}

    def before(made: list[_Call]) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        return lambda _, given: made.append(_Call(given[0], given[0]._version))

    def after(made: list[_Call]) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def note(_layer: nn.Module, _given: tuple[torch.Tensor, ...], gave: torch.Tensor) -> None:
            made[-1].gave, made[-1].gave_version = gave, gave._version

        return note

    hooks = []
    for name, layer in kinds.items():
        hooks.append(layer.register_forward_pre_hook(before(calls[name])))
        hooks.append(layer.register_forward_hook(after(calls[name])))
    try:
        return calls, layers(*given)
    finally:
        for hook in hooks:
            hook.remove()


def _is_foldable(norm: nn.Module) -> bool:
    return getattr(norm, "running_var", None) is not None and type(getattr(norm, "drop", nn.Identity())) is nn.Identity


def _sharing_weights(module: nn.Module) -> nn.Module:
    """Copy the layers; the copy shares their parameters and buffers."""
    kept = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, kept).eval()


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(parent), leaf, layer)
