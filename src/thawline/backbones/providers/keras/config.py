"""Read the configuration of a Keras model, of Keras 3 or 2, with the models within it, as one list of layers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thawline.backbones.providers.keras.graph import CALL, MOST_LAYERS, Graph, Node
from thawline.backbones.providers.keras.settings import (
    FUNCTIONS,
    MODELS,
    OPERATIONS,
    kind_of_layer,
    settings_of,
)
from thawline.errors import ModelError

_DEEPEST = 20
"""Models within models."""
_IGNORED = ("training", "mask", "name")
"""Arguments of a call that decide nothing in inference mode."""
_MOST_NUMBERS = 100_000
"""In the constants of one operation."""


def graph_of(config: Mapping[str, Any], *, keras_2: bool = False) -> Graph:
    """Read a whole model, models within it included.

    Args:
        config: ``{"class_name": "Functional", "config": {...}}``, as a file holds it.
        keras_2: The file was written by Keras 2.
    Raises:
        ModelError: No model, a class that is not known, several inputs or outputs, or code of its own.
    """
    reader = _Reader(keras_2)
    try:
        outputs = reader.model(str(config["class_name"]), config["config"], None, "", ())
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        said = json.dumps(str(error))[:120]
        raise ModelError(
            f"the configuration of a Keras model must be as Keras writes it; this one is not: {said}."
        ) from (error)
    if len(outputs) != 1:
        raise ModelError(f"a Keras model must have one output; this one has {len(outputs)}. Save a model with one.")
    return Graph.from_json(Graph(tuple(reader.nodes), outputs[0], groups=reader.groups).to_json(places=True))


class _Reader:
    """Collects the layers of a model and of the models within it."""

    def __init__(self, keras_2: bool) -> None:
        self.nodes: list[Node] = []
        self.groups: dict[str, str] = {}
        self._keras_2 = keras_2
        self._made: dict[str, str] = {}
        self._names: set[str] = set()

    def model(
        self, kind: str, config: Any, given: Sequence[str] | None, place: str, path: tuple[str, ...]
    ) -> list[str]:
        """Add the layers of a model, as it is called with ``given``, or with its own input; return its outputs."""
        if len(path) > _DEEPEST:
            raise ModelError(f"a Keras model must not hold more than {_DEEPEST} models within each other.")
        if kind not in MODELS:
            raise ModelError(
                f"a Keras model must be Sequential or Functional, built of Keras's own layers; got class {kind!r}, "
                "whose code is in no file. Build it as a Functional model, load its weights, and save that."
            )
        if kind == "Sequential" or isinstance(config, list):
            return self._sequential(config, given, place, path)
        return self._functional(config, given, place, path)

    def _sequential(self, config: Any, given: Sequence[str] | None, place: str, path: tuple[str, ...]) -> list[str]:
        layers = config if isinstance(config, list) else config["layers"]
        places = _Places(place)
        if not layers:
            raise ModelError("a Sequential model must have layers; this one has none.")
        current = None if given is None else given[0]
        if current is None and layers[0]["class_name"] != "InputLayer":
            first = layers[0]["config"]
            shape = first.get("batch_input_shape") or first.get("batch_shape")
            shape = shape or (None if isinstance(config, list) else config.get("build_input_shape"))
            current = self._add("InputLayer", {"batch_shape": shape, "name": "input"}, (), "", path)
        for layer in layers:
            kind = kind_of_layer(layer["class_name"])
            if kind == "InputLayer":
                if current is None:
                    current = self._layer(layer, kind, (), None, "", path)[0]
                continue
            inputs = () if current is None else (current,)
            current = self._layer(layer, kind, inputs, None, places.of(layer["class_name"]), path)[0]
        return [] if current is None else [current]

    def _functional(self, config: Any, given: Sequence[str] | None, place: str, path: tuple[str, ...]) -> list[str]:
        layers = config["layers"]
        if len(layers) > MOST_LAYERS:
            raise ModelError(f"a Keras model must have at most {MOST_LAYERS:,} layers; this one has {len(layers):,}.")
        places = _Places(place)
        inputs = [name for name, *_ in _references(config["input_layers"])]
        values: dict[tuple[str, int], list[str]] = {}
        if given is not None:
            if len(given) != len(inputs):
                raise ModelError(f"model {'/'.join(path)!r} must be called with {len(inputs)} inputs.")
            values = {(name, 0): [source] for name, source in zip(inputs, given, strict=True)}
        waiting: list[tuple[dict[str, Any], str, str, int, _Call]] = []
        for layer in layers:
            kind = kind_of_layer(layer["class_name"])
            where = places.of(layer["class_name"])
            name = str(layer.get("name") or layer["config"]["name"])
            calls = _calls(layer.get("inbound_nodes") or [])
            if kind == "InputLayer":
                if given is None:
                    values[name, 0] = self._layer(layer, kind, (), None, "", path)
                continue
            waiting += [(layer, kind, where, i, call) for i, call in enumerate(calls)]
        while waiting:
            later = []
            for item in waiting:
                layer, kind, where, i, call = item
                if all((name, n) in values for name, n, _ in call.tensors):
                    sources = tuple(values[name, n][t] for name, n, t in call.tensors)
                    name = str(layer.get("name") or layer["config"]["name"])
                    values[name, i] = self._layer(layer, kind, sources, call, where, path)
                else:
                    later.append(item)
            if len(later) == len(waiting):
                raise ModelError(f"layers of a Keras model must run in order; {later[0][0].get('name')!r} cannot.")
            waiting = later
        return [values[name, n][t] for name, n, t in _references(config["output_layers"])]

    def _layer(
        self,
        layer: Mapping[str, Any],
        kind: str,
        inputs: tuple[str, ...],
        call: _Call | None,
        place: str,
        path: tuple[str, ...],
    ) -> list[str]:
        config = layer["config"]
        if kind in MODELS:
            name = str(layer.get("name") or config["name"])
            before = len(self.nodes)
            outputs = self.model(kind, config, inputs, place, (*path, name))
            if kind == "Sequential":
                self.groups |= {node.name: name for node in self.nodes[before:]}
            return outputs
        if kind == "TimeDistributed" or "layer" in config:
            raise ModelError(f"layers of a Keras model must not wrap others; {config.get('name')!r} is a {kind}.")
        name = str(layer.get("name") or config.get("name"))
        settings = dict(config) | {"name": name}
        if kind in ("TFOpLambda", "SlicingOpLambda"):
            kind = _function(config, name)
            settings |= {"args": _arguments(call, kind, name)}
        elif kind in OPERATIONS and "trainable" not in config:  # Add is a layer, too
            kind = OPERATIONS[kind]
            settings |= {"args": _arguments(call, kind, name)}
        elif kind in ("Lambda", "TensorFlowOpLayer"):
            raise ModelError(
                f"layers of a Keras model must hold no code; {name!r} is a {kind}, which does, and code in files is "
                "never run. Put one of Keras's own layers in its place, and save the model again."
            )
        return [self._add(kind, settings, inputs, place, path)]

    def _add(
        self, kind: str, config: Mapping[str, Any], inputs: tuple[str, ...], place: str, path: tuple[str, ...]
    ) -> str:
        name = str(config["name"])
        whole = "/".join((*path, name))
        if whole in self._made:  # a layer that is used again
            first = self._made[whole]
            again = self._unique(f"{first}~{sum(node.layer == first for node in self.nodes) + 1}", whole)
            self.nodes.append(Node(again, CALL, {"of": first}, inputs))
            return again
        unique = self._made[whole] = self._unique(name, whole)
        settings = settings_of(kind, config, whole, keras_2=self._keras_2)
        self.nodes.append(Node(unique, kind, settings, inputs, place, whole))
        if len(self.nodes) > MOST_LAYERS:
            raise ModelError(f"a Keras model must have at most {MOST_LAYERS:,} layers; this one has more.")
        return unique

    def _unique(self, name: str, whole: str) -> str:
        """Return a name that no other layer has, and that torch takes: without dots."""
        for wished in (name, whole, *(f"{whole}~{n}" for n in range(2, MOST_LAYERS))):
            plain = wished.replace(".", "_") or "layer"
            if plain not in self._names:
                break
        self._names.add(plain)
        return plain


class _Places:
    """Names under which Keras 3 files keep the layers of one model: the class, and a number from the second on."""

    def __init__(self, place: str) -> None:
        self._place = f"{place}/layers" if place else "layers"
        self._seen: dict[str, int] = {}

    def of(self, kind: str) -> str:
        name = snake_case(kind.rpartition(">")[2])
        n = self._seen.get(name, -1) + 1
        self._seen[name] = n
        return f"{self._place}/{name}_{n}" if n else f"{self._place}/{name}"


def snake_case(name: str) -> str:
    """As ``keras.src.utils.naming.tosnake_case`` does."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class _Call:
    """One call of a layer: the tensors that it is given, and all arguments with None in the place of tensors."""

    def __init__(self, arguments: Any) -> None:
        self.tensors: list[tuple[str, int, int]] = []
        self.args = self._plain(arguments)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            kind, config = value.get("class_name"), value.get("config")
            if kind == "__keras_tensor__" and isinstance(config, dict):
                name, n, t = config["keras_history"]
                self.tensors.append((str(name), int(n), int(t)))
                return None
            if kind in ("__tensor__", "__numpy__") and isinstance(config, dict):
                return config["value"]
            if kind == "__ellipsis__":
                return "..."
            if kind == "__slice__" and isinstance(config, dict):
                return {"step": config.get("step"), "start": config.get("start"), "stop": config.get("stop")}
            return {str(key): self._plain(held) for key, held in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(item) for item in value]
        return value


class _OldCall(_Call):
    """The same as Keras 2 writes it: ``[[name, call, tensor, {argument: value}], ...]``."""

    def __init__(self, node: Sequence[Any]) -> None:
        self.tensors = []
        self.args = []
        for source in [node] if node and isinstance(node[0], str) else node:
            name, n, t = source[:3]
            self.tensors.append((str(name), int(n), int(t)))
            self.args.append(None)
            for key, value in (source[3] if len(source) > 3 else {}).items():
                if key in _IGNORED:
                    continue
                if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and value[0] != "...":
                    self.tensors.append((value[0], int(value[1]), int(value[2])))
                    self.args.append(None)
                else:
                    self.args.append(value)


def _calls(nodes: Sequence[Any]) -> list[_Call]:
    calls: list[_Call] = []
    if nodes and isinstance(nodes[0], list) and nodes[0] and isinstance(nodes[0][0], str):
        return [_OldCall(node) for node in nodes]  # each call of an operation has one tensor
    for node in nodes:
        if isinstance(node, dict):
            named = {key: value for key, value in node.get("kwargs", {}).items() if key not in _IGNORED}
            calls.append(_Call([*node["args"], *named.values()]))
        else:
            calls.append(_OldCall(node))
    return calls


def _references(said: Any) -> Iterator[tuple[str, int, int]]:
    """``["name", 0, 0]``, or a list or a mapping of such."""
    if isinstance(said, dict):
        said = list(said.values())
    if len(said) == 3 and isinstance(said[0], str):
        said = [said]
    for name, n, t in said:
        yield str(name), int(n), int(t)


def _function(config: Mapping[str, Any], name: str) -> str:
    """What a call of TensorFlow's functions computes, as an operation."""
    function = str(config.get("function", ""))
    if "getitem" in function:
        return "GetItem"
    if function in FUNCTIONS:
        return FUNCTIONS[function]
    raise ModelError(
        f"layers of a Keras model must be of classes that Thawline knows; {name!r} calls TensorFlow's {function!r}. "
        "Put one of Keras's own layers in its place, and save the model again."
    )


def _arguments(call: _Call | None, kind: str, name: str) -> list[Any]:
    """Constants of an operation, None in the place of tensors."""
    args = [] if call is None else call.args
    while len(args) == 1 and isinstance(args[0], list):
        args = args[0]
    if len(json.dumps(args, default=str)) > _MOST_NUMBERS:
        raise ModelError(f"constants of an operation must be few; {name!r} ({kind}) has too many.")
    return list(args)
