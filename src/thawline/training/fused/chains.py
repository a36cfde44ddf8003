"""Find convolution, batch norm and activation that follow each other above the thaw line, and run them as one.

The layers run once, and the graph that autograd records tells who reads what. A batch norm is folded if its input is
the output of a convolution that nothing else reads. All other layers run as they are.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from thawline.backbones.providers.timm_import import import_timm
from thawline.engines.convolving import Activation, own_pads, same_pads
from thawline.training.fused.convolution import Fixed, convolve, fold, takes_detours

if TYPE_CHECKING:
    from thawline.training.net import Above

import_timm()  # which makes torchvision importable, too
from timm.layers import BatchNormAct2d, Conv2dSame  # noqa: E402

_CONVOLUTIONS, _NORMS = (nn.Conv2d, Conv2dSame), (nn.BatchNorm2d, BatchNormAct2d)
_ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.ReLU: "relu", nn.ReLU6: "relu6"}
_KINDS = {*_CONVOLUTIONS, *_NORMS, *_ACTIVATIONS}
"""Exactly these: a subclass may compute something else."""
_Forward = Callable[[torch.Tensor], torch.Tensor]
_TOLERANCE = 1e-3
"""Largest difference that running layers as one may make in float32, relative to the largest output."""
_GRADIENT_TOLERANCE, _FLOOR = 0.25, 1e-3
"""The same for the gradient of each tensor, by its norm, and the least norm, relative to the largest, that counts.
Rounding turns some activations of a deep net on or off: gradients of a random MobileNetV2 differ by 4 %, those of a
pre-trained one by 0.1 %. A gradient that is wrong differs by its own size."""


@dataclass(eq=False)
class Chain:
    """Layers that run as one: a convolution, the batch norm on it, and the activation on that."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None
    activation: nn.Module | None
    shared: tuple[torch.Tensor, torch.Tensor | None] | None = None
    """Weights and bias to run with if the parts of a batch share them; None: they are folded in each run."""

    def fold(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weights in ``dtype``, and bias, with the batch norm folded in."""
        return fold(self.conv, self.norm, self.fixed, dtype)

    @cached_property
    def fixed(self) -> Fixed:
        """Return what stays the same from step to step."""
        conv, norm = self.conv, self.norm
        mean = inverse_std = None
        if norm is not None and norm.running_mean is not None and norm.running_var is not None:
            mean, inverse_std = norm.running_mean, torch.rsqrt(norm.running_var + norm.eps)
        return Fixed(
            stride=conv.stride,  # type: ignore[arg-type]
            dilation=conv.dilation,  # type: ignore[arg-type]
            groups=conv.groups,
            activation="none" if self.activation is None else _ACTIVATIONS[type(self.activation)],
            mean=mean,
            inverse_std=inverse_std,
        )


@dataclass(slots=True, eq=False)
class _Call:
    """One call of a layer, as autograd saw it. It holds its tensors, so that no other tensor gets their identity."""

    given: torch.Tensor
    given_by: object
    gave: torch.Tensor | None = None
    gave_by: object = None


def usable_chains(above: Above) -> list[Chain]:
    """Find the layers above the line that can run as one; none if outputs or gradients would not be the same.

    Both are tried on random inputs. Leaves ``above`` in the mode in which it is trained.
    """
    above.train()
    if not any(type(layer) in _CONVOLUTIONS for layer in above.cut.suffix.modules()):
        return []
    crossing = above.cut.prefix(above.signature.examples(above.net.backbone))
    crossing = tuple(tensor.requires_grad_(tensor.is_floating_point()) for tensor in crossing)
    pooled, chains = find_chains(above, crossing)
    if not chains:
        return []
    # Outputs alone would not do: they are right with a backward pass that is wrong.
    expected = _gradients(above, pooled)
    with installed(chains):
        fused = _run(above, crossing)
        found = _gradients(above, fused)
    return chains if _same_output(fused, pooled) and _same_gradients(found, expected) else []


def _same_output(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((found - expected).detach().abs().max()) <= _TOLERANCE * float(expected.detach().abs().max())


def _gradients(above: Above, pooled: torch.Tensor) -> list[torch.Tensor | None]:
    """Gradient of everything that learns, for a random gradient of the pooled features (B, D); always the same."""
    draw = torch.Generator().manual_seed(0)
    direction = torch.randn(pooled.shape, generator=draw).to(pooled)  # the sum would be constant after a layer norm
    return list(torch.autograd.grad(pooled, list(above.learning.values()), direction, allow_unused=True))


def _same_gradients(found: list[torch.Tensor | None], expected: list[torch.Tensor | None]) -> bool:
    norms = [0.0 if tensor is None else float(torch.linalg.vector_norm(tensor)) for tensor in expected]
    for one, other, norm in zip(found, expected, norms, strict=True):
        if one is None or other is None:
            if one is not other:
                return False
        elif not float(torch.linalg.vector_norm(one - other)) <= _GRADIENT_TOLERANCE * max(norm, _FLOOR * max(norms)):
            return False
    return True


def find_chains(above: Above, crossing: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, list[Chain]]:
    """Run what is above the line once, layer by layer.

    Args:
        above: In the mode in which it is trained.
        crossing: What crosses the line, each (B, ...), to try it on; recording gradients.
    Returns:
        Pooled features (B, D) with their graph, and the chains in the order in which they run.
    """
    # Neither names nor the order of calls tell who reads a tensor. A shortcut beside the batch norm may read it, too,
    # and would get something else if the chain skipped it. The graph of autograd has every reader.
    calls: dict[nn.Module, list[_Call]] = {}
    hooks = []
    for layer in above.cut.suffix.modules():
        if type(layer) in _KINDS and not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks):
            calls[layer] = []
            hooks += [
                layer.register_forward_pre_hook(_note_given(calls)),
                layer.register_forward_hook(_note_gave(calls)),
            ]
    try:
        pooled = _run(above, crossing)
    finally:
        for hook in hooks:
            hook.remove()
    readers = _readers(pooled)
    # A layer that is called twice may be followed by different ones.
    once = {layer: made[0] for layer, made in calls.items() if len(made) == 1}

    def follower(layer: nn.Module) -> nn.Module | None:
        """Return the layer that alone reads the output of a layer; None if there is no such layer."""
        this = once[layer]
        # A change in place leaves a tensor its identity, and gives it another place in the graph: both must agree.
        if readers[this.gave_by] != 1:
            return None
        return next((n for n, o in once.items() if o.given is this.gave and o.given_by is this.gave_by), None)

    chains = []
    for layer in once:
        if isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str) and layer.padding_mode == "zeros":
            norm = follower(layer)
            if isinstance(norm, nn.BatchNorm2d) and not norm.training and norm.running_var is not None:
                chains.append(Chain(layer, norm, _activation(norm, follower(norm))))
            elif takes_detours(layer):
                chains.append(Chain(layer, None, None))
    return pooled, chains


def _activation(norm: nn.BatchNorm2d, follower: nn.Module | None) -> nn.Module | None:
    """Return the activation to run with a batch norm: its own or the one that follows; None for other kinds."""
    if isinstance(norm, BatchNormAct2d):
        if type(norm.drop) is not nn.Identity:
            return None
        if type(norm.act) is not nn.Identity:
            return norm.act if type(norm.act) in _ACTIVATIONS else None
    return follower if type(follower) in _ACTIVATIONS else None


def _note_given(calls: dict[nn.Module, list[_Call]]) -> Callable[[nn.Module, Any], None]:
    def note(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        calls[layer].append(_Call(given[0], given[0].grad_fn))  # before an activation in place changes it

    return note


def _note_gave(calls: dict[nn.Module, list[_Call]]) -> Callable[[nn.Module, Any, torch.Tensor], None]:
    def note(layer: nn.Module, _given: tuple[torch.Tensor, ...], gave: torch.Tensor) -> None:
        calls[layer][-1].gave, calls[layer][-1].gave_by = gave, gave.grad_fn

    return note


def _readers(pooled: torch.Tensor) -> Counter[object]:
    """Count, for each operation, how often its output is read on the way to the pooled features."""
    readers: Counter[object] = Counter()
    waiting, known = [pooled.grad_fn], {pooled.grad_fn}
    while waiting:
        node = waiting.pop()
        for source, _ in () if node is None else node.next_functions:
            readers[source] += 1
            if source not in known:
                known.add(source)
                waiting.append(source)
    return readers


def _run(above: Above, crossing: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return pooled features (B, D) in training mode, except that running statistics do not move; always the same."""
    moving = [layer for layer in above.cut.suffix.modules() if isinstance(layer, _NormBase) and layer.training]
    # Dropout and stochastic depth draw the same numbers in both runs, or the outputs would differ by them.
    with torch.enable_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        for layer in moving:
            layer.eval()
        try:
            pooled: torch.Tensor = above.cut.suffix(*crossing)
        finally:
            for layer in moving:
                layer.train()
    return pooled


@contextlib.contextmanager
def installed(chains: Sequence[Chain]) -> Iterator[None]:
    """Within this block, run each chain as one wherever gradients are recorded.

    Parameters, buffers and their names stay what they are. Without gradients (judging), layers run one by one, as they
    will predict.
    """
    with contextlib.ExitStack() as stack:
        for chain in chains:
            stack.enter_context(_installed(chain))
        yield


@contextlib.contextmanager
def _installed(chain: Chain) -> Iterator[None]:
    """Run the layers of a chain as one within the block, wherever gradients are recorded."""
    conv, norm, activation = chain.conv, chain.norm, chain.activation
    pads_of = same_pads if isinstance(conv, Conv2dSame) else own_pads

    def whole(x: torch.Tensor) -> torch.Tensor:
        # Autocast casts what torch's own layers are given; a function of ours must do it by itself.
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        w, b = chain.shared or chain.fold(x.dtype)
        return convolve(x, w, b, chain.fixed, pads_of(conv, x.shape[2:]))

    replaced: dict[nn.Module, _Forward] = {conv: whole}
    if norm is not None:
        replaced[norm] = _given
    if activation is not None:
        replaced[activation] = _given
    # timm's batch norm holds an activation and runs it: an activation that is not in the chain must still run.
    own: Any = norm.act if isinstance(norm, BatchNormAct2d) else None
    if norm is not None and own is not None and own is not activation:
        drop: Any = norm.drop
        replaced[norm] = lambda x: own(drop(x))
    in_place = getattr(own, "inplace", None)
    if in_place:
        own.inplace = False  # autograd would copy the input first, and in bf16 it takes three times as long
    for layer, forward in replaced.items():
        layer.forward = _with_gradients(forward, layer.forward)
    try:
        yield
    finally:
        for layer in replaced:
            del layer.forward
        if in_place:
            own.inplace = True


def _given(x: torch.Tensor) -> torch.Tensor:
    return x


def _with_gradients(forward: _Forward, usual: _Forward) -> _Forward:
    def choose(x: torch.Tensor) -> torch.Tensor:
        # Judging runs the layers that will predict: folded weights would round differently in bf16.
        return forward(x) if torch.is_grad_enabled() else usual(x)

    return choose
