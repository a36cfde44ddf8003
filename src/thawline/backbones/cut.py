"""A backbone cut in two at a rung: what is frozen, run once, and what learns.

Both halves run the model's own layers: nothing is copied, so what the suffix learns the whole model knows, and names in
the suffix are names in the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from thawline.backbones.backbone import Backbone
from thawline.backbones.graph import LayerGraph, Line, example
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


class Prefix(nn.Module):
    """The layers below the line, in eval mode and without gradients whatever is asked of it or of the whole model."""

    def __init__(self, layers: fx.GraphModule) -> None:
        super().__init__()
        self.layers = layers
        self.eval()

    def train(self, mode: bool = True) -> Prefix:
        """Stay in eval mode."""
        super().train(False)
        return self

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, 3, H, W) -> the tensors that cross the line."""
        self.eval()  # the layers are the model's own, and somebody may have called train() on the model
        with torch.no_grad():
            crossing: tuple[torch.Tensor, ...] = self.layers(images)
        return crossing


def cut(model: Backbone | nn.Module, rung: str, *, input_px: tuple[int, int] | None = None) -> Cut:
    """Cut a model at a rung, and check on random images that the halves give what the whole gives.

    Parameters above the line are set to learn and all others to be frozen, in the model itself: it shares its layers
    with the halves. The halves are for images of one size; the number of images is free. The suffix is in eval mode.

    Args:
        model: A backbone (its module is built), or any module (B, 3, H, W) -> (B, D), such as timm's with
            ``num_classes=0``.
        rung: ``input``, ``pooled``, or a layer named in the ladder.
        input_px: Height and width; by default the backbone's own, or what timm says of the module.
    Raises:
        ModelError: No such rung (names the nearest), a model that cannot be cut, or halves that are not exact.
    """
    if isinstance(model, Backbone):
        module, name, size = model.module(), model.name, model.preprocessing.input_px
    else:
        module, name, size = model, type(model).__name__, input_px or _usual_size(model)
    graph = LayerGraph(module, name, input_px or size)
    line = _find(graph, name, rung)
    below, above = graph.nodes[1 : line.position + 1], graph.nodes[line.position + 1 :]
    prefix = Prefix(_part(module, graph, graph.nodes[:1], below, line.crossing))
    suffix = _part(module, graph, line.crossing, above, graph.output)
    images = example(module, input_px or size)
    with _undisturbed(module):
        whole = module(images)
        given = prefix(images)
        versions = [tensor._version for tensor in given]
        _check_equal(whole, suffix(*given), name, rung)
    changed = [
        node for node, tensor, before in zip(line.crossing, given, versions, strict=True) if tensor._version != before
    ]
    if changed:  # a layer that works in place would write into what it is given, which may be a cache: copy that first
        suffix = _part(module, graph, line.crossing, above, graph.output, copied=changed)
    return _thaw(module, rung, prefix, suffix)


def _usual_size(module: nn.Module) -> tuple[int, int]:
    config = getattr(module, "pretrained_cfg", None) or {}
    if "input_size" not in config:
        raise ModelError(
            f"the input size of a {type(module).__name__} must be known to cut it; it does not say. Give input_px."
        )
    height, width = config["input_size"][1:]
    return int(height), int(width)


def _find(graph: LayerGraph, name: str, rung: str) -> Line:
    lines = {line.layer: line for line in graph.lines}
    if rung not in lines:
        raise ModelError(f"rung must be one of the {len(lines)} rungs of {name}; got {rung!r}.{nearest(rung, lines)}")
    return lines[rung]


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


def _check_equal(whole: torch.Tensor, parts: torch.Tensor, name: str, rung: str) -> None:
    scale = float(whole.abs().max())
    difference = float((whole - parts).abs().max()) if parts.shape == whole.shape else float("inf")
    # written so that a NaN on either side is a failure
    if not difference <= _TOLERANCE.get(whole.dtype, 1e-2) * scale < float("inf"):
        raise ModelError(
            f"{name} cut at {rung!r} must give what the whole model gives; outputs up to {scale:.3g} differ by "
            f"{difference:.3g}. Choose another rung."
        )


def _thaw(module: nn.Module, rung: str, prefix: Prefix, suffix: fx.GraphModule) -> Cut:
    """Set what learns. A parameter used on both sides (tied weights, a shared position bias) is frozen."""
    learning = set(suffix.parameters()) - set(prefix.parameters())
    for parameter in module.parameters():
        parameter.requires_grad_(parameter in learning)
    names = tuple(name for name, parameter in module.named_parameters() if parameter in learning)
    return Cut(rung, prefix, suffix.eval(), names, tuple(name for name, _ in suffix.named_buffers()))
