"""A Keras model as a list of its layers, with what decides numbers and nothing else; no Keras, no torch needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from thawline.backbones.providers.keras.settings import SETTINGS
from thawline.errors import ModelError

MOST_LAYERS = 5_000
CALL = "Call"
"""Kind of a node that runs another node's layer once more."""
CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Node:
    """One call of a layer."""

    name: str
    """Name of the layer in Keras, made unique: where two models within a model use one, that of the model comes first.
    """
    kind: str
    """Class of the layer in Keras, or ``CALL``."""
    settings: Mapping[str, Any]
    """What is not the default; fit for JSON. A ``CALL`` has ``of``, the name of the layer."""
    inputs: tuple[str, ...]
    """Names of nodes."""
    place: str = ""
    """Where a file of Keras 3 keeps the weights of the layer: ``layers/functional/layers/conv2d_1``."""
    path: str = ""
    """Name of the layer in Keras behind those of the models around it: ``mobilenetv2_1.00_160/Conv1``."""

    @property
    def layer(self) -> str:
        """Name of the layer that runs."""
        return str(self.settings["of"]) if self.kind == CALL else self.name


@dataclass(frozen=True, slots=True)
class Graph:
    """Layers in an order in which they can run. The first is the input, pictures (H, W, 3); one gives the output."""

    nodes: tuple[Node, ...]
    output: str
    unlisted: frozenset[str] = field(default_factory=frozenset)
    """Layers that Thawline added to the model, which Keras does not count."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Layer -> the Sequential model around it, which Keras counts as one layer of the model around that."""

    @property
    def side(self) -> int | None:
        """Height and width of the input that the model was made for; None if it takes any.

        Raises:
            ModelError: It takes no square pictures of three channels.
        """
        shape = self.nodes[0].settings.get("batch_shape")
        shape = list(shape[1:]) if isinstance(shape, list) else []
        if len(shape) != 3 or not all(n is None or (isinstance(n, int) and 0 < n <= 4096) for n in shape):
            raise ModelError(f"a Keras model must take pictures (height, width, channels); this one takes {shape}.")
        height, width, channels = shape
        if channels not in (CHANNELS, None):
            raise ModelError(f"a Keras model must take pictures of 3 channels; this one takes {channels}.")
        if height != width:
            raise ModelError(f"a Keras model must take square pictures; this one takes {height} x {width}.")
        return height if isinstance(height, int) else None

    def to_json(self, *, places: bool = False) -> dict[str, Any]:
        """Return the graph, fit for JSON.

        Args:
            places: With where files keep the weights of each layer.
        """
        layers = [[n.name, n.kind, dict(n.settings), list(n.inputs)] for n in self.nodes]
        if places:
            layers = [[*layer, n.place, n.path] for layer, n in zip(layers, self.nodes, strict=True)]
        return {"layers": layers, "output": self.output, "unlisted": sorted(self.unlisted), "groups": dict(self.groups)}

    @classmethod
    def from_json(cls, said: object) -> Graph:
        """Read what ``to_json`` gave, from a file that anybody may have written.

        Raises:
            ModelError: It is no such graph.
        """
        try:
            if not isinstance(said, dict):
                raise TypeError("no object")
            nodes = tuple(_node(layer) for layer in said["layers"])
            graph = cls(nodes, said["output"], frozenset(said["unlisted"]), dict(said["groups"]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelError(
                f"the graph of a Keras model must be a list of layers; got another record: {error}."
            ) from (error)
        graph._check()
        return graph

    def _check(self) -> None:
        """Refuse a graph that could not be run."""
        if not self.nodes or len(self.nodes) > MOST_LAYERS or self.nodes[0].kind != "InputLayer":
            raise ModelError(
                f"the graph of a Keras model must begin with its input and have at most {MOST_LAYERS:,} layers; "
                f"this one has {len(self.nodes):,}."
            )
        made: dict[str, str] = {}
        for node in self.nodes:
            if node.name in made or not all(name in made for name in node.inputs):
                raise ModelError(
                    f"layers of a Keras model must have one name and run in order; {node.name!r} does not."
                )
            if (node.kind == "InputLayer") != (node is self.nodes[0]):
                raise ModelError(f"a Keras model must have one input; {node.name!r} is another. Give a model with one.")
            if node.kind == CALL and made.get(str(node.settings.get("of")), CALL) == CALL:
                raise ModelError(f"layer {node.name!r} must run a layer that is there.")
            made[node.name] = node.kind
        if self.output not in made:
            raise ModelError(f"the output of a Keras model must be one of its layers; got {self.output!r}.")

    def listed(self) -> dict[str, tuple[Node, ...]]:
        """Return the layers as Keras lists them, by name, each with the layers that it holds, or itself.

        Operations between layers, calls of a layer that ran before, and layers that were added are not listed.
        """
        listed: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.kind != CALL and "args" not in node.settings and node.name not in self.unlisted:
                listed.setdefault(self.groups.get(node.name, node.name), []).append(node)
        return {name: tuple(nodes) for name, nodes in listed.items()}

    def up_to(self, output: str) -> Graph:
        """Return the part of the graph that ends with a layer, and has only what that needs."""
        by_name = {node.name: node for node in self.nodes}
        needed: set[str] = {self.nodes[0].name}
        waiting = [output]
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                node = by_name[name]
                waiting += [*node.inputs, node.layer]
        kept = tuple(node for node in self.nodes if node.name in needed)
        groups = {name: group for name, group in self.groups.items() if name in needed}
        return replace(self, nodes=kept, output=output, unlisted=self.unlisted & needed, groups=groups)

    def after(self, name: str, added: Node) -> Graph:
        """Return the graph with one more layer between a layer and everything that reads it."""
        nodes: list[Node] = []
        for node in self.nodes:
            inputs = tuple(added.name if source == name else source for source in node.inputs)
            nodes.append(replace(node, inputs=inputs))
            if node.name == name:
                nodes.append(replace(added, inputs=(name,)))
        output = added.name if self.output == name else self.output
        return replace(self, nodes=tuple(nodes), output=output)


def _node(layer: Sequence[Any]) -> Node:
    name, kind, settings, inputs = layer[:4]
    place, path = layer[4:6] if len(layer) > 4 else ("", "")
    texts = (name, kind, place, path, *inputs)
    if not all(isinstance(text, str) for text in texts) or not isinstance(settings, dict) or not name:
        raise TypeError(f"a layer is {json.dumps(layer, default=str)[:80]}")
    if kind != CALL and kind not in SETTINGS:
        raise ValueError(f"{kind!r} is no layer")
    return Node(name, kind, settings, tuple(inputs), place, path)
