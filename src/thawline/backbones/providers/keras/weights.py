"""From the weights in a Keras file to safetensors with the names of the torch module, converted once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.providers.keras.graph import Graph
from thawline.backbones.providers.keras.h5 import KerasFile, Variable, opened
from thawline.backbones.weights import read_header
from thawline.errors import WeightsError
from thawline.scale.disk import file_sha256, storage_errors, written_whole
from thawline.scale.paths import cache_root

_REVISION = 2
"""Raise it when the same file is converted otherwise."""
_SHOWN = 5
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


def converted(path: Path, graph: Graph, side: int, *, sha256: str | None = None) -> Path:
    """Return the safetensors file of what the backbone takes of a Keras file; it is written into the cache once.

    Its metadata tell, in JSON, ``sources`` (name -> data set in the Keras file), ``unused`` (data sets that are not
    the backbone's) and ``adapted`` (name -> how its numbers were changed; the order of axes does not count).

    Args:
        path: ``.keras``, ``.weights.h5`` or legacy ``.h5``.
        graph: Of the backbone.
        side: Height and width of the input.
        sha256: Digest that the file must have.
    Raises:
        WeightsError: The file is not there, damaged, not the promised one, or of another architecture; names each
            tensor that differs.
    """
    if not path.is_file():
        raise WeightsError(f"weights must be a file; {path} is not there.")
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise WeightsError(f"weights must be readable; {path}: {error.strerror or error}.") from error
    if sha256 is not None and digest != sha256.lower():
        raise WeightsError(
            f"weights must have SHA-256 {sha256.lower()}; got {digest} ({path}). "
            "Fetch the file again, or give the digest of the file you mean to trust."
        )
    asked = json.dumps([_REVISION, digest, graph.to_json(places=True), side], sort_keys=True)
    key = hashlib.sha256(asked.encode()).hexdigest()
    target = cache_root() / "keras" / f"{digest[:16]}-{key[:16]}.safetensors"
    if _is_sound(target):
        return target
    with opened(path) as file:
        wanted = wanted_tensors(graph, side)
        return _write(target, file, _matched(file, wanted), wanted)


def drawn(graph: Graph, side: int) -> Path:
    """Return a file of random weights, always the same."""
    from safetensors.torch import save

    key = hashlib.sha256(json.dumps([_REVISION, graph.to_json(), side], sort_keys=True).encode()).hexdigest()
    target = cache_root() / "keras" / f"random-{key[:16]}.safetensors"
    if not _is_sound(target):
        import torch

        from thawline.backbones.providers.keras.module import KerasModule

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = KerasModule(graph, side).state_dict()
        _stored(target, save(state, {"format": "pt"}))
    return target


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


def _is_sound(path: Path) -> bool:
    with contextlib.suppress(OSError, WeightsError):
        return bool(read_header(path))
    return False


def _matched(file: KerasFile, wanted: Sequence[Wanted]) -> Found:
    """Find every tensor in the file.

    Raises:
        WeightsError: Names what is missing, and what has another shape.
    """
    by_layer: dict[str, list[Wanted]] = defaultdict(list)
    for want in wanted:
        by_layer[f"{want.place} {want.layer}"].append(want)
    layers = list(by_layer.values())
    ways = _by_place(file, layers) if file.places else _legacy(file, layers)
    best: Found = {}
    n_best = -1
    for found in ways:
        fitting = sum(_fits(want, found.get(want.name)) for want in wanted)
        if fitting == len(wanted):
            return found
        if fitting > n_best:
            best, n_best = found, fitting
    raise _misfit(file, wanted, best)


def _by_place(file: KerasFile, layers: Sequence[list[Wanted]]) -> Iterator[Found]:
    """By the class of each layer and its number, within any of the models in the file; then by name."""
    befores = {"": None}
    for place in file.places:
        befores |= {place[: match.start(1)]: None for match in re.finditer(r"(?:^|/)(?=(layers/))", place)}
    for before in befores:
        yield _found(layers, lambda layer, before=before: file.places.get(before + layer[0].place, ()))  # type: ignore[misc]
    named = {held[0].layer: held for held in file.places.values()}
    yield _found(layers, lambda layer: named.get(layer[0].layer, ()))


def _legacy(file: KerasFile, layers: Sequence[list[Wanted]]) -> Iterator[Found]:
    """By name; by the names that Keras makes up, counted from the first; and in order, as Keras does."""
    groups = file.groups
    inner: dict[str, list[Variable]] = defaultdict(list)
    for held in groups.values():
        for variable in held:
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
    axes = _AXES.get(want.layout)
    values = values if axes is None else values.transpose(axes)
    return np.ascontiguousarray(values).reshape(want.shape)


def _write(target: Path, file: KerasFile, found: Found, wanted: Sequence[Wanted]) -> Path:
    """Write the tensors that were found, as float32 or smaller, in the order of torch's axes."""
    from safetensors.numpy import save

    tensors, sources, adapted = {}, {}, {}
    for want in wanted:
        variable = found[want.name]
        values = variable.read()
        kind = np.dtype(np.int64) if want.layout == "counter" else values.dtype
        if kind.kind != "f" and want.layout != "counter":
            raise WeightsError(
                f"weights must be floating-point numbers; {variable.path} holds {kind} ({file.path}). "
                "If the model was quantised, give the weights from before."
            )
        kind = np.dtype(np.float32) if kind == np.float64 else kind
        if kind != values.dtype:
            adapted[want.name] = f"cast from {values.dtype} to {kind}"
        tensors[want.name] = _turned(want, values.astype(kind.newbyteorder("="), copy=False))
        sources[want.name] = variable.path
    used = set(sources.values())
    unused = [variable.path for variable in file.variables() if variable.path not in used]
    said = {"sources": sources, "unused": [*unused, *file.others], "adapted": adapted}
    return _stored(target, save(tensors, {"format": "pt", **{key: json.dumps(value) for key, value in said.items()}}))


def _stored(target: Path, content: bytes) -> Path:
    with storage_errors(target, elsewhere="set THAWLINE_CACHE to a folder"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target, "wb") as file:
        file.write(content)
    return target


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
    extra = [v.path for v in file.variables() if v.path not in used]
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
