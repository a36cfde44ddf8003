"""From the weights in a Keras file to safetensors with the names of the torch module, converted once."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.derived import derived
from thawline.backbones.foreign.reading import Answer
from thawline.backbones.providers.keras.files import KerasFile, Variable, checked_digest, numbers_of, values
from thawline.backbones.providers.keras.graph import Graph
from thawline.backbones.weights import TensorFile
from thawline.errors import WeightsError

_REVISION = 2
"""Raise it when the same file is converted otherwise."""
_SHOWN = 5
COUNTER = "counter"
"""Layout of a tensor of one whole number."""
_NOT_BACKBONE = "not the backbone's"
_ALIASES = {"depthwise_kernel": ("depthwise_kernel", "kernel"), "pointwise_kernel": ("pointwise_kernel",),
            "gamma": ("gamma", "variable", "layer_scale")}  # fmt: skip
"""Variables that have had other names, too."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor of the module, as Keras has it."""

    layer: str
    """Name of the layer in Keras."""
    place: str
    variable: str
    name: str
    """In the state dict."""
    shape: tuple[int, ...]
    """In the state dict."""
    layout: str


Found = dict[str, Variable]
"""Name in the state dict -> variable in the file."""


def converted(
    path: Path, graph: Graph, side: int, *, sha256: str | None = None, by_name: bool | None = None
) -> TensorFile:
    """Return what a backbone takes of a Keras file, as safetensors; it is converted once.

    The metadata tell, in JSON, ``sources`` (name -> data set in the Keras file), ``unused`` (data set that is not the
    backbone's -> why) and ``adapted`` (name -> how its numbers were changed; the order of axes does not count).

    Args:
        path: ``.keras``, ``.weights.h5`` or legacy ``.h5``.
        graph: Of the backbone.
        side: Height and width of the input.
        sha256: Digest that the file must have.
        by_name: Take what layers of the same name hold, whatever its shape, and do without the rest.
    Raises:
        WeightsError: The file is not there, damaged, not the promised one, or of another architecture; names each
            tensor that differs.
    """

    def write(target: Path) -> None:
        wanted = wanted_tensors(graph, side)
        with numbers_of(path) as (file, answer):
            _write(target, file, _named(file, wanted) if by_name else _matched(file, wanted), wanted, answer)

    asked = json.dumps([_REVISION, graph.to_json(places=True), side, path.name, bool(by_name)], sort_keys=True)
    return TensorFile(derived(checked_digest(path, sha256), f"from Keras {asked}", write), origin=path)


def wanted_tensors(graph: Graph, side: int) -> list[Wanted]:
    """List the tensors of a backbone in Keras's order; the module is made without memory."""
    import torch

    from thawline.backbones.outline import without_draws
    from thawline.backbones.providers.keras.module import KerasModule

    with torch.device("meta"), without_draws():
        module = KerasModule(graph, side)
    state = module.state_dict()
    nodes = {node.name: node for node in graph.nodes}
    return [
        Wanted(
            layer=nodes[layer].path.rpartition("/")[2] or layer,
            place=nodes[layer].place,
            variable=tensor.variable,
            name=name,
            shape=tuple(state[name].shape),
            layout=tensor.layout,
        )
        for layer, name, tensor in module.placed_tensors()
    ]


def _matched(file: KerasFile, wanted: Sequence[Wanted]) -> Found:
    """Find every tensor in the file.

    Raises:
        WeightsError: Names what is missing, and what has another shape.
    """
    layers = _layers(wanted)
    ways = _legacy(file, layers) if file.legacy else _by_place(file, layers)
    best: Found = {}
    n_best = -1
    for found in ways:
        fitting = sum(_fits(want, found.get(want.name)) for want in wanted)
        if fitting == len(wanted):
            return found
        if fitting > n_best:
            best, n_best = found, fitting
    raise _misfit(file, wanted, best)


def _layers(wanted: Sequence[Wanted]) -> list[list[Wanted]]:
    by_layer: dict[str, list[Wanted]] = defaultdict(list)
    for want in wanted:
        by_layer[f"{want.place} {want.layer}"].append(want)
    return list(by_layer.values())


def _named(file: KerasFile, wanted: Sequence[Wanted]) -> Found:
    """Find what layers of the same name hold, if it can be turned into torch's order of axes."""
    ways = list((_legacy if file.legacy else _by_place)(file, _layers(wanted)))
    found = ways[0 if file.legacy else -1]
    layouts = {want.name: want.layout for want in wanted}
    return {name: held for name, held in found.items() if _shape(layouts[name], held.shape) is not None}


def _by_place(file: KerasFile, layers: Sequence[list[Wanted]]) -> Iterator[Found]:
    """By the class of each layer and its number, within any of the models in the file; then by name."""
    groups = file.groups()
    befores = {"": None}
    for place in groups:
        befores |= {place[: match.start(1)]: None for match in re.finditer(r"(?:^|/)(?=(layers/))", place)}
    for before in befores:
        yield _found(layers, lambda layer, before=before: groups.get(before + layer[0].place, ()))  # type: ignore[misc]
    named = {held[0].layer: held for held in groups.values()}
    yield _found(layers, lambda layer: named.get(layer[0].layer, ()))


def _legacy(file: KerasFile, layers: Sequence[list[Wanted]]) -> Iterator[Found]:
    """By name; by the names that Keras makes up, counted from the first; and in order, as Keras does."""
    groups = file.groups()
    inner: dict[str, list[Variable]] = defaultdict(list)
    for variable in file.variables:
        inner[variable.layer].append(variable)
    yield _found(layers, lambda layer: _of_layer(groups, inner, layer[0].layer))
    first: dict[str, int] = {}
    for name in inner:
        word, n = _made_up(name)
        first[word] = min(first.get(word, n), n)
    renumbered: dict[str, list[Variable]] = {}
    for name in inner:
        word, n = _made_up(name)
        renumbered[f"{word}_{n - first[word]}" if n > first[word] else word] = inner[name]
    yield _found(layers, lambda layer: renumbered.get(layer[0].layer, ()))
    in_order = iter(groups.values())
    yield _found(layers, lambda layer: next(in_order, ()))


def _of_layer(groups: Mapping[str, Sequence[Variable]], inner: Mapping[str, Sequence[Variable]], name: str) -> Any:
    return groups.get(name) or inner.get(name, ())


def _made_up(name: str) -> tuple[str, int]:
    word, _, number = name.rpartition("_")
    return (word, int(number)) if word and re.fullmatch(r"\d{1,6}", number) else (name, 0)


def _found(layers: Sequence[list[Wanted]], held_by: Callable[[list[Wanted]], Sequence[Variable]]) -> Found:
    """Give each layer its variables: by their names if the file has these, else in Keras's order."""
    found: Found = {}
    for layer in layers:
        held = held_by(layer)
        by_name = {variable.variable: variable for variable in held}
        names = [next((n for n in _ALIASES.get(w.variable, (w.variable,)) if n in by_name), None) for w in layer]
        if all(name is not None for name in names) and len(held) == len(layer):
            found |= {want.name: by_name[str(name)] for want, name in zip(layer, names, strict=True)}
        else:
            found |= {want.name: variable for want, variable in zip(layer, held, strict=False)}
    return found


def _fits(want: Wanted, variable: Variable | None) -> bool:
    return variable is not None and _shape(want.layout, variable.shape) == want.shape


def _shape(layout: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that a variable of Keras has in torch; None if it is of another rank."""
    if layout in _AXES:
        if len(shape) != len(_AXES[layout]):
            return None
        turned = tuple(shape[axis] for axis in _AXES[layout])
        return (turned[0] * turned[1], 1, *turned[2:]) if layout == "depthwise" else turned
    if layout == "flat":
        return (int(np.prod(shape)),)
    return shape


_AXES = {"conv": (3, 2, 0, 1), "depthwise": (2, 3, 0, 1), "dense": (1, 0)}
"""Layout of a variable in Keras -> its axes in the order of torch."""


def _turned(want: Wanted, values: NDArray[Any]) -> NDArray[Any]:
    """Return a variable in torch's order of axes; of another shape than the model's only if it is taken by name."""
    shape = _shape(want.layout, values.shape) or want.shape
    axes = _AXES.get(want.layout)
    values = values if axes is None else values.transpose(axes)
    return np.ascontiguousarray(values).reshape(shape)


def _write(target: Path, file: KerasFile, found: Found, wanted: Sequence[Wanted], answer: Answer) -> None:
    """Write the tensors that were found, in torch's order of axes."""
    from safetensors.numpy import save_file

    takers: dict[str, list[Wanted]] = defaultdict(list)
    for want in wanted:
        if want.name in found:
            takers[found[want.name].path].append(want)
    tensors, adapted, unused = {}, {}, {}
    for variable in file.variables:
        numbers = values(variable, answer, file.path)
        for want in takers[variable.path]:
            if numbers.dtype.kind != "f" and want.layout != COUNTER:
                raise WeightsError(
                    f"weights must be floating-point numbers; {variable.path} holds {numbers.dtype} ({file.path}). "
                    "If the model was quantised, give the weights from before."
                )
            kind = np.dtype(np.int64) if want.layout == COUNTER else min(numbers.dtype, np.dtype(np.float32))
            if kind != numbers.dtype and want.layout != COUNTER:
                adapted[want.name] = f"cast {numbers.dtype} -> {kind}"
            tensors[want.name] = _turned(want, numbers.astype(kind))
        if not takers[variable.path]:
            unused[variable.path] = _NOT_BACKBONE
    unused |= {name: "state of a training" for name in file.others}
    said = {"sources": {name: variable.path for name, variable in found.items()}, "unused": unused, "adapted": adapted}
    save_file(tensors, target, {"source": file.path.name, **{key: json.dumps(value) for key, value in said.items()}})


def _misfit(file: KerasFile, wanted: Sequence[Wanted], found: Found) -> WeightsError:
    """Say which tensors differ, and what to do."""
    problems, used = [], set()
    for want in wanted:
        variable = found.get(want.name)
        if variable is None:
            problems.append(f"missing {want.layer}/{want.variable}")
            continue
        used.add(variable.path)
        shape = _shape(want.layout, variable.shape)
        if shape != want.shape:
            problems.append(f"{variable.path} is {shape or variable.shape} instead of {want.shape} for {want.name}")
    extra = [v.path for v in file.variables if v.path not in used]
    shown = "; ".join(problems[:_SHOWN]) + (f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else "")
    beside = (
        f" Not the backbone's in the file: {', '.join(extra[:3])}{', ...' if len(extra) > 3 else ''}." if extra else ""
    )
    step = (
        f"If it is a whole model of your own, give --model keras/custom@{file.path}."
        if file.config is not None
        else "Give the model that the weights were saved from, its --model-arg settings, and its --input-px."
    )
    return WeightsError(
        f"weights must fit the architecture; {len(problems)} of {len(wanted)} tensors differ ({file.path}): {shown}."
        f"{beside} {step}"
    )
