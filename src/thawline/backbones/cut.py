"""A backbone cut in two at a rung: what is frozen, run once, and what learns.

Both halves run the model's own layers: nothing is copied, so what the suffix learns the whole model knows, and names in
the suffix are names in the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from thawline.backbones.backbone import Backbone
from thawline.backbones.graph import LayerGraph, Line
from thawline.backbones.providers import provider_of
from thawline.backbones.signature import Signature
from thawline.errors import ModelError, nearest

_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Largest difference from the whole model, relative to its largest output; 1e-2 in half precision."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """The two halves of a model: ``suffix(*prefix(images))`` is ``model(images)``."""

    rung: str
    prefix: Prefix
    """Normalised images (B, 3, H, W) -> the tensors that cross the line, each (B, ...). Frozen, always in eval mode."""
    suffix: fx.GraphModule
    """Those tensors -> pooled features (B, D). Obeys ``train()`` and ``eval()``; leaves its inputs as they were."""
    suffix_parameter_names: tuple[str, ...]
    """Parameters that learn, by their names in the model (and in the suffix); every other parameter is frozen."""
    suffix_buffer_names: tuple[str, ...]
    """Buffers of the layers above the line, running statistics among them: they may move in train mode."""
    rungs_below: tuple[str, ...]
    """The rungs below this one, from ``input`` upwards."""


class Prefix(nn.Module):
    """Layers below a line, in eval mode and without gradients whatever is asked of it or of the whole model."""

    def __init__(self, layers: fx.GraphModule) -> None:
        super().__init__()
        self.layers = layers
        self.eval()

    def train(self, mode: bool = True) -> Prefix:
        """Stay in eval mode."""
        super().train(False)
        return self

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images (B, 3, H, W), or the tensors that cross a lower line -> the tensors that cross the line."""
        self.eval()  # the layers are the model's own, and somebody may have called train() on the model
        with torch.no_grad():
            crossing: tuple[torch.Tensor, ...] = self.layers(*given)
        return crossing


def cut(model: Backbone | nn.Module, rung: str, *, signature: Signature | None = None) -> Cut:
    """Cut a model at a rung, and check on random images that the halves give what the whole gives.

    Parameters above the line are set to learn and all others to be frozen, in the model itself: it shares its layers
    with the halves. The halves are for images of one size; the number of images is free. The suffix is in eval mode.

    Args:
        model: A backbone (its module is built), or any module (B, 3, H, W) -> (B, D), such as timm's with
            ``num_classes=0``.
        rung: ``input``, ``pooled``, or a layer named in the ladder.
        signature: What the module takes; by default the backbone's own, or what timm says of the module.
    Raises:
        ModelError: No such rung (names the nearest), a model that cannot be cut, or halves that are not exact.
    """
    module, name, signature = _opened(model, signature)
    graph = LayerGraph(module, name, signature)
    line = graph.lines[_find(graph, name, rung)]
    prefix = _below(module, graph, line)
    images = signature.examples(module)
    with _undisturbed(module):
        whole, given = signature.features(module, images), prefix(images)
        above = graph.nodes[line.position + 1 :]
        suffix = _checked_part(module, graph, line, above, graph.output, given, whole, f"{name} cut at {rung!r}")
    return _thaw(module, graph, line, prefix, suffix)


def segment(model: Backbone | nn.Module, low: str, high: str, *, signature: Signature | None = None) -> Prefix:
    """Take out the layers between two rungs, and check on random images that they give what the model has there.

    Nothing is set to learn or frozen; the layers are run in eval mode and leave what they are given as it was.

    Args:
        model: As for ``cut``.
        low: The rung whose crossing tensors, each (B, ...), are given.
        high: The rung above it whose crossing tensors come out.
        signature: As for ``cut``.
    Raises:
        ModelError: No such rung, a ``low`` that is not below ``high``, or layers that are not exact.
    """
    module, name, signature = _opened(model, signature)
    graph = LayerGraph(module, name, signature)
    first, last = _find(graph, name, low), _find(graph, name, high)
    if first >= last:
        raise ModelError(f"low must be a rung below {high!r}; got {low!r}. See `thawline ladder` for their order.")
    start, end = graph.lines[first], graph.lines[last]
    images = signature.examples(module)
    with _undisturbed(module):
        expected, given = _below(module, graph, end)(images), _below(module, graph, start)(images)
        between = graph.nodes[start.position + 1 : end.position + 1]
        what = f"{name} between {low!r} and {high!r}"
        return Prefix(_checked_part(module, graph, start, between, end.crossing, given, expected, what))


def _opened(model: Backbone | nn.Module, signature: Signature | None) -> tuple[nn.Module, str, Signature]:
    """(module, name, what it takes)"""
    if isinstance(model, Backbone):
        return model.module(), model.name, signature or model.signature
    return model, type(model).__name__, signature or _usual_signature(model)


def _usual_signature(module: nn.Module) -> Signature:
    shape = provider_of("timm").input_shape(module)
    if shape is None:
        raise ModelError(
            f"the input of a {type(module).__name__} must be known to cut it; the module does not say. Give signature."
        )
    return Signature("timm", shape)


def _find(graph: LayerGraph, name: str, rung: str) -> int:
    """Place of a rung in the ladder."""
    rungs = [line.layer for line in graph.lines]
    if rung not in rungs:
        raise ModelError(f"rung must be one of the {len(rungs)} rungs of {name}; got {rung!r}.{nearest(rung, rungs)}")
    return rungs.index(rung)


def _below(module: nn.Module, graph: LayerGraph, line: Line) -> Prefix:
    return Prefix(_part(module, graph, graph.nodes[:1], graph.nodes[1 : line.position + 1], line.crossing))


def _checked_part(
    module: nn.Module,
    graph: LayerGraph,
    line: Line,
    nodes: Sequence[fx.Node],
    wanted: fx.Node | tuple[fx.Node, ...],
    given: tuple[torch.Tensor, ...],
    expected: torch.Tensor | tuple[torch.Tensor, ...],
    what: str,
) -> fx.GraphModule:
    """Make a part that starts at a line, check what it computes from ``given``, and that it leaves that as it was."""
    part = _part(module, graph, line.crossing, nodes, wanted)
    versions = [tensor._version for tensor in given]
    found = part(*given)
    pairs = [(expected, found)] if isinstance(expected, torch.Tensor) else zip(expected, found, strict=True)
    for right, computed in pairs:
        _check_equal(right, computed, what)
    changed = [
        node for node, tensor, before in zip(line.crossing, given, versions, strict=True) if tensor._version != before
    ]
    if changed:  # a layer that works in place would write into what it is given, which may be a cache: copy that first
        part = _part(module, graph, line.crossing, nodes, wanted, copied=changed)
    return part


def _part(
    module: nn.Module,
    graph: LayerGraph,
    given: Iterable[fx.Node],
    nodes: Iterable[fx.Node],
    wanted: fx.Node | tuple[fx.Node, ...],
    copied: Iterable[fx.Node] = (),
) -> fx.GraphModule:
    """Make a module that computes ``wanted`` from ``given`` by running ``nodes`` and the constants that they use."""
    part = fx.Graph()
    made: dict[fx.Node, Any] = {node: part.placeholder(node.name) for node in given}
    first = next(iter(made.values()))
    for node in copied:
        made[node] = part.call_method("clone", (made[node],))

    def make(node: fx.Node) -> Any:
        if node not in made:
            if node in graph.values:
                made[node] = graph.values[node]
            elif node in graph.batch:
                made[node] = part.call_method("size", (first, 0))
            else:
                for source in node.all_input_nodes:
                    make(source)
                made[node] = part.node_copy(node, made.__getitem__)
        return made[node]

    for node in nodes:
        if node not in graph.constants and node not in graph.batch:
            make(node)
    part.output(fx.map_arg(wanted, make))
    return fx.GraphModule(module, part)


@contextlib.contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Run a model in eval mode and without gradients, and leave the modes of its layers as they were."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, training in modes:
            layer.training = training


def _check_equal(whole: torch.Tensor, parts: torch.Tensor, what: str) -> None:
    scale = float(whole.abs().max())
    difference = float((whole - parts).abs().max()) if parts.shape == whole.shape else float("inf")
    # written so that a NaN on either side is a failure
    if not difference <= _TOLERANCE.get(whole.dtype, 1e-2) * scale < float("inf"):
        raise ModelError(
            f"{what} must give what the whole model gives; outputs up to {scale:.3g} differ by "
            f"{difference:.3g}. Choose another rung."
        )


def _thaw(module: nn.Module, graph: LayerGraph, line: Line, prefix: Prefix, suffix: fx.GraphModule) -> Cut:
    """Set what learns. A parameter used on both sides (tied weights, a shared position bias) is frozen."""
    learning = set(suffix.parameters()) - set(prefix.parameters())
    for parameter in module.parameters():
        parameter.requires_grad_(parameter in learning)
    return Cut(
        rung=line.layer,
        prefix=prefix,
        suffix=suffix.eval(),
        suffix_parameter_names=tuple(name for name, held in module.named_parameters() if held in learning),
        suffix_buffer_names=tuple(name for name, _ in suffix.named_buffers()),
        rungs_below=tuple(other.layer for other in graph.lines[: graph.lines.index(line)]),
    )
