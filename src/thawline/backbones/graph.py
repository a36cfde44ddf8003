"""A model as a graph of its layers: where the thaw line can stand, and which tensors cross it there.

One mechanism for every architecture. ``torch.fx`` records the forward pass with the blocks of the provider's library as
single nodes, so it traces only the few lines of code between the blocks. Everything that depends on train or eval mode
(dropout, stochastic depth, batch normalisation) stays inside the blocks and still obeys ``.train()`` and ``.eval()``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.flop_counter import FlopCounterMode

from thawline.backbones.names import INPUT, POOLED
from thawline.backbones.providers import provider_of
from thawline.backbones.providers.provider import Provider
from thawline.backbones.providers.tracing import Tracing
from thawline.backbones.reading import Reading, pooled_as
from thawline.backbones.signature import BATCH, Signature
from thawline.errors import ModelError


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One position where the thaw line can stand."""

    layer: str
    """The layer just below: its name in the model, or ``input`` or ``pooled``."""
    kind: str
    parameters: tuple[str, ...]
    """Names of the parameters of that layer."""
    position: int
    """Index of the last node below the line."""
    crossing: tuple[fx.Node, ...]
    """The values made at or below the line and used above it: tensors (B, ...), in the order in which they are made."""


class LayerGraph:
    """The forward pass of a model, layer by layer, for inputs of one shape.

    It is worked out on an outline of the model, which holds shapes and no numbers: this takes neither memory nor much
    time, and the model itself is not touched.

    Attributes:
        module: The outline.
        nodes: In the order in which they run; the first is the input, the output is left out.
        output: The node that holds the pooled features (B, D).
        values: Numbers and sizes (not tensors) that are the same for every batch at this input size.
        batch: Nodes that hold the number of samples.
        constants: Nodes that do not depend on the samples: ``values``, parameters used outside of layers, and what is
            made of them. They belong to the side of the line where they are used, and to both if used on both.
        shapes: Of every node that is one tensor.
        lines: From ``input`` to ``pooled``.
        is_stem: Whether a layer of that name belongs to the stem.
        stage_of: Stage of a layer by its name, as ``Tracing`` has it.
    """

    def __init__(self, module: nn.Module, name: str, signature: Signature) -> None:
        """Trace a model and find its lines.

        Args:
            module: (B, *signature.shape) -> (B, D); on any device, ``meta`` included.
            name: For messages.
            signature: What the module takes, and how it is traced.
        Raises:
            ModelError: The forward pass cannot be traced, or does something else in train mode between the layers.
        """
        self.module = module = _outline(module)
        tracing = signature.tracing(module)
        self.is_stem, self.stage_of = tracing.is_stem, tracing.stage_of
        self._graph = graph = trace(module, name, tracing)
        if signature.readout is not None:
            _end_at(graph, module, name, signature.readout, provider_of(signature.provider))
        self._examples = signature.examples(module)
        found = _run(module, graph, self._examples)
        self.nodes = tuple(node for node in graph.nodes if node.op != "output")
        self.output = next(node.args[0] for node in graph.nodes if node.op == "output")
        self._index = {node: i for i, node in enumerate(graph.nodes)}
        self._last_use = [max((self._index[user] for user in node.users), default=-1) for node in self.nodes]
        self.shapes = {node: tuple(value.shape) for node, value in found.items() if isinstance(value, torch.Tensor)}
        if not isinstance(self.output, fx.Node) or len(self.shapes.get(self.output, ())) != 2:
            raise ModelError(f"a model to be cut must give pooled features (B, D); {name} does not.")
        plain = {node: value for node, value in found.items() if _is_plain(value)}
        again = _run(module, graph, signature.examples(module, BATCH + 1)) if plain else {}
        self.values = {node: value for node, value in plain.items() if value == again[node]}
        self.batch = {node for node, value in plain.items() if (value, again[node]) == (BATCH, BATCH + 1)}
        self.constants: set[fx.Node] = set()
        for node in self.nodes[1:]:
            if node in self.values or self.constants.issuperset(node.all_input_nodes):
                self.constants.add(node)
        self._own: dict[fx.Node, dict[str, nn.Parameter]] = {}
        self.lines = tuple(self._find_lines())

    def flops(self) -> tuple[int, ...]:
        """FLOPs per sample up to and including each node, (len(nodes),); multiplying and adding counts 2."""
        counted: list[int] = []
        with FlopCounterMode(display=False) as counter:
            _run(self.module, self._graph, self._examples, lambda: counted.append(counter.get_total_flops()))
        return tuple(total // len(self._examples) for total in counted)

    def parameters_below(self, position: int) -> set[nn.Parameter]:
        """Everything that is frozen when the line stands above node ``position``."""
        below = (node for node in self.nodes[: position + 1] if node not in self.constants)
        return {parameter for node in below for parameter in self.own_parameters(node).values()}

    def own_parameters(self, node: fx.Node) -> dict[str, nn.Parameter]:
        """Parameters that a node brings in, by their name in the model: those of a layer, or of constants it uses."""
        if node not in self._own:
            held = dict(_held_parameters(self.module, node))
            for source in node.all_input_nodes:
                if source in self.constants:
                    held |= self.own_parameters(source)
            self._own[node] = held
        return self._own[node]

    def read_at(self, line: Line) -> tuple[str, tuple[int, ...]]:
        """Name the module whose output the layers above a line see of its layer, before any pooling; and its shape.

        After a normalisation, that is the activation; after the last layer of a residual block in a library that
        lists single layers, the end of the block; after a parameter used outside of layers, such as a position
        embedding, a layer that passes on what it was added to. The shape is without the batch. The name is empty if
        no module gives it.
        """
        if line.layer == POOLED:
            return POOLED, self.shapes[line.crossing[0]][1:]
        start = next((i for i, node in enumerate(self.nodes) if str(node.target) == line.layer), 0)
        first = self.nodes[start]
        is_layer = first.op == "call_module"
        wanted = self.shapes.get(first if is_layer else line.crossing[-1], ())
        targets = [str(node.target) for node in self.nodes]
        alike = [
            targets[i]
            for i in range(start + 1, line.position + 1)
            if self.nodes[i].op == "call_module"
            and self.shapes.get(self.nodes[i]) == wanted
            and targets.count(targets[i]) == 1  # else it gives several things
            and not (is_layer and _passes_on(self.module.get_submodule(targets[i])))
        ]
        return (alike[-1] if alike else line.layer if is_layer else ""), wanted[1:]

    def _find_lines(self) -> Iterator[Line]:
        layers: list[tuple[int, str, str, tuple[str, ...]]] = []
        known: set[nn.Parameter] = set()
        for i, node in enumerate(self.nodes):
            own = {} if node in self.constants else self.own_parameters(node)
            if names := tuple(key for key, value in own.items() if value not in known):
                is_layer = node.op == "call_module"
                layer = str(node.target) if is_layer else names[0]
                kind = type(self.module.get_submodule(layer)).__name__ if is_layer else "Parameter"
                layers.append((i, layer, kind, names))
            known |= set(own.values())
        yield Line(INPUT, "Input", (), 0, (self.nodes[0],))
        ends = [*(start for start, *_ in layers[1:]), len(self.nodes)][: len(layers)]
        for (start, layer, kind, names), end in zip(layers, ends, strict=True):
            if (best := self._cheapest(range(start, end))) is not None:
                yield Line(layer, kind, names, best, self._crossing(best))
        yield Line(POOLED, "Pooled", (), len(self.nodes) - 1, (self.output,))

    def _cheapest(self, positions: range) -> int | None:
        """Find where between two layers the fewest numbers cross, the latest of equals; None if no cut is possible.

        Dropout is left above the line: below it would be switched off.
        """
        best, least = None, math.inf
        for position in positions:
            if position > positions.start and self._acts_in_training(self.nodes[position]):
                break
            shapes = [self.shapes.get(node, ()) for node in self._crossing(position)]
            size = sum(math.prod(shape) for shape in shapes)
            if size <= least and all(shape[:1] == (BATCH,) for shape in shapes) and not self._is_torn(position):
                best, least = position, size
        return best

    def _crossing(self, position: int) -> tuple[fx.Node, ...]:
        return tuple(
            node
            for node, last_use in zip(self.nodes[: position + 1], self._last_use, strict=False)
            if last_use > position and node not in self.constants and node not in self.batch
        )

    def _is_torn(self, position: int) -> bool:
        """Whether a layer would have to be frozen and learn at once, because it runs below the line and above it."""
        return any(first <= position < last for first, last in self._repeated)

    @cached_property
    def _repeated(self) -> list[tuple[int, int]]:
        """(position of the first call, of the last) for each layer with state that runs several times."""
        calls: dict[object, list[int]] = {}
        for i, node in enumerate(self.nodes):
            if node not in self.constants and _has_state(self.module, node):
                calls.setdefault(node.target, []).append(i)
        return [(places[0], places[-1]) for places in calls.values() if len(places) > 1]

    def _acts_in_training(self, node: fx.Node) -> bool:
        if node.op != "call_module":
            return False
        layers = self.module.get_submodule(str(node.target)).modules()
        return any(isinstance(layer, _NormBase) or _drop_rate(layer) > 0 for layer in layers)


def trace(module: nn.Module, name: str, tracing: Tracing) -> fx.Graph:
    """Record the forward pass, in the order in which it runs, with blocks as single nodes.

    Raises:
        ModelError: Between its blocks, the model branches on values, or does something else in train than in eval mode.
    """
    try:
        graphs = [_Tracer(tracing).trace(module.train(mode)) for mode in (True, False)]
    except Exception as error:  # any line of a forward pass may fail on a symbolic value, each in its own way
        raise ModelError(
            f"{name} cannot be cut: its forward pass cannot be traced ({error}). Use it frozen or thawed as a whole."
        ) from error
    learning, graph = graphs
    if str(learning) != str(graph):
        raise ModelError(
            f"{name} cannot be cut: it does something else in training between its layers. "
            "Open it with --model-arg drop_rate=0, or use it frozen or thawed as a whole."
        )
    return graph


def _end_at(graph: fx.Graph, module: nn.Module, name: str, readout: Reading, provider: Provider) -> None:
    """Make what is read at a layer the output of a graph, and take out the layers that it does not need."""
    inside = f"{readout.layer}."
    ran = [node for node in graph.nodes if node.op == "call_module" and f"{node.target}.".startswith(inside)]
    if not ran:
        raise ModelError(
            f"{name} cannot be trained up to {readout.layer!r}, which lies inside another layer. Choose a layer that "
            "`thawline ladder` prints, or thaw none."
        )
    output = next(node for node in graph.nodes if node.op == "output")

    def features(activation: torch.Tensor) -> torch.Tensor:
        return pooled_as(readout, activation, module, provider)

    with graph.inserting_before(output):
        read = graph.call_function(features, (ran[-1],))
    output.args = (read,)
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)


class _Tracer(fx.Tracer):
    """Steps into containers and treats everything else as one node."""

    def __init__(self, tracing: Tracing) -> None:
        super().__init__(autowrap_functions=tracing.untraced)
        self._tracing = tracing

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self._tracing.containers and type(m) not in self._tracing.container_types

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Only the samples are symbolic: other arguments (masks) keep their defaults."""
        return root_fn, [self.root, self.create_proxy("placeholder", "samples", (), {})]


def _outline(module: nn.Module) -> nn.Module:
    """Copy a model without the content of its tensors."""
    tensors: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    for parameter in module.parameters():
        tensors[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    return copy.deepcopy(module, tensors).eval()


def _run(
    module: nn.Module, graph: fx.Graph, samples: torch.Tensor, after_each: Callable[[], None] = lambda: None
) -> dict[fx.Node, Any]:
    """Run the graph and return the value of each node."""
    values: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n] = super().run_node(n)
            after_each()
            return values[n]

        def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            args = tuple(list(arg) if isinstance(arg, list) else arg for arg in args)  # fx's own lists are immutable
            return super().call_module(target, args, kwargs)

    with torch.no_grad():
        Recorder(module, graph=graph).run(samples)
    return values


def _is_plain(value: object) -> bool:
    """Whether a value is a number, a size, or a tuple of such."""
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, int | float | torch.dtype | torch.device)


def _held_parameters(module: nn.Module, node: fx.Node) -> Iterator[tuple[str, nn.Parameter]]:
    target = str(node.target)
    if node.op == "call_module":
        yield from module.get_submodule(target).named_parameters(prefix=target)
    elif node.op == "get_attr":
        owner, _, attribute = target.rpartition(".")
        value = getattr(module.get_submodule(owner), attribute)
        if isinstance(value, nn.Parameter):
            yield target, value


def _has_state(module: nn.Module, node: fx.Node) -> bool:
    return node.op == "call_module" and bool(module.get_submodule(str(node.target)).state_dict())


def _passes_on(layer: nn.Module) -> bool:
    """Whether a layer gives what it is given, outside of training."""
    return isinstance(layer, nn.Identity) or "drop" in type(layer).__name__.lower()


def _drop_rate(layer: nn.Module) -> float:
    """Rate of any dropout, by its name and its usual attributes, 0 for other layers."""
    if "drop" not in type(layer).__name__.lower():
        return 0.0
    rates = (getattr(layer, name, None) for name in ("p", "prob", "drop_prob"))
    return next((float(rate) for rate in rates if isinstance(rate, int | float)), 1.0)
