"""A Keras model as one torch module, whose layers have Keras's names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from thawline.backbones.names import INPUT, POOLED
from thawline.backbones.providers.keras.graph import CALL, CHANNELS, Graph
from thawline.backbones.providers.keras.layers import make
from thawline.backbones.providers.keras.making import Shape, Tensor
from thawline.backbones.providers.keras.modules import PixelLinear
from thawline.backbones.providers.provider import LibraryLayer
from thawline.errors import ModelError

_MOST_NUMBERS = 2**28
"""That one layer gives for one picture: a gigabyte."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One call of a layer."""

    node: str
    child: str
    inputs: tuple[str, ...]


def initialise(layer: nn.Module) -> None:
    """Draw weights as Keras does by default: Glorot's uniform distribution, and no bias."""
    for part in layer.modules():
        if isinstance(part, nn.Conv2d | nn.Linear | PixelLinear) and not part.weight.is_meta:
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class KerasModule(nn.Module):
    """Pictures (B, 3, H, W) -> pooled features (B, D)."""

    def __init__(self, graph: Graph, side: int) -> None:
        """Make every layer; weights are random.

        Args:
            graph: Of the model without its classifier.
            side: Height and width of the input.
        Raises:
            ModelError: A layer cannot be made for this input; names it.
        """
        super().__init__()
        self.input_shape = (CHANNELS, side, side)
        self.shapes: dict[str, Shape] = {graph.nodes[0].name: self.input_shape}
        self.tensors: dict[str, tuple[Tensor, ...]] = {}
        self.graph = graph
        self._input, self._output = graph.nodes[0].name, graph.output
        self._steps: list[_Step] = []
        children: dict[str, str] = {}
        for node in graph.nodes[1:]:
            given = [self.shapes[name] for name in node.inputs]
            if node.kind == CALL:
                of = next(n for n in graph.nodes if n.name == node.layer)
                made = make(of.kind, of.name, of.settings, given)
                if given != [self.shapes[name] for name in of.inputs]:
                    raise ModelError(f"layer {of.name!r} of a Keras model must be given the same shape in each call.")
            else:
                made = make(node.kind, node.name, node.settings, given)
                initialise(made.module)
                child = children[node.name] = self._free_name(node.name)
                self.add_module(child, made.module)
                self.tensors[node.name] = made.tensors
            if math.prod(made.shape) > _MOST_NUMBERS:
                raise ModelError(
                    f"layers of a Keras model must give at most {_MOST_NUMBERS:,} numbers; {node.name!r} gives "
                    f"{made.shape} for an input of {side} px. Give a smaller --input-px."
                )
            self.shapes[node.name] = made.shape
            self._steps.append(_Step(node.name, children[node.layer], node.inputs))
        self._children = children

    def _free_name(self, name: str) -> str:
        """Return a layer's name, changed if torch or the ladder use it for something else."""
        while hasattr(self, name) or name in (INPUT, POOLED):
            name += "_"
        return name

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, D)"""
        values = {self._input: samples}
        for step in self._steps:
            layer = getattr(self, step.child)
            values[step.node] = layer(*[values[name] for name in step.inputs])
        pooled = values[self._output]
        rank = len(self.shapes[self._output])
        if rank == 3:
            pooled = pooled.mean((2, 3))  # (B, C, H, W) -> (B, C)
        elif rank == 2:
            pooled = pooled.mean(1)  # (B, T, D) -> (B, D)
        return pooled

    def placed_tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield (layer in Keras, name in the state dict, tensor) for each tensor of each layer, in Keras's order."""
        for node in self.graph.nodes[1:]:
            for tensor in self.tensors.get(node.name, ()):
                yield node.name, f"{self._children[node.name]}.{tensor.name}", tensor

    def layers(self) -> tuple[LibraryLayer, ...]:
        """List the layers as ``model.layers`` does, with the counts of ``count_params``."""
        state = self.state_dict()
        listed = []
        for name, nodes in self.graph.listed().items():
            child = self._children.get(name, name)
            tensors = tuple(
                f"{self._children[node.name]}.{tensor.name}"
                for node in nodes
                for tensor in self.tensors.get(node.name, ())
            )
            kind = nodes[0].kind if nodes[0].name == name else "Sequential"
            listed.append(LibraryLayer(child, kind, tensors, sum(state[tensor].numel() for tensor in tensors)))
        return tuple(listed)
