"""Turn a graph in float32 into the graphs that run, no further from it than asked. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.engines.converting.quantising import quantised
from thawline.engines.converting.rounding import Means, round_weights, run_watched, split, work
from thawline.engines.graphs import Converted
from thawline.engines.openvino_engine import compile_graphs
from thawline.records import Precision
from thawline.scale.openvino_import import ov

Chain = tuple[tuple[ov.Model, Precision], ...]
"""Graphs that run one after the other, each in its precision."""

MIN_COSINE = 0.9996
"""Least cosine between features in bfloat16 and in float32, on each stand-in."""
_LITTLE_IN_FLOAT32_COSINE = 0.9999
"""The same if less than ``_MUCH`` of the work stays in float32. The first layers suffer from what only photographs
have and stand-ins lack, so without them the cosine must leave more room. Of a MobileNetV2 all in bfloat16, 0.9997
on stand-ins went with 0.9975 on the worst of 64 photographs, and 0.9998 with 0.9986 where 7 % were left in float32;
where a third were, it went with 0.9995."""
_MUCH = 0.25
FLOAT32_SHARES = (0.0, 0.06, 0.12, _MUCH)
"""Tried one after the other: how much of the work, counted from the pixels, stays in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The features of a graph in float32 for the stand-ins."""

    model: ov.Model
    batches: list[NDArray[np.uint8]]
    """Batches of the graph's shape; the last one is padded with its last sample."""
    features: list[NDArray[np.float32]]
    """(N, D) for each rung, of as many pictures as the batches hold."""
    means: Means
    """See ``rounding``."""

    @classmethod
    def of(cls, model: ov.Model, pictures: NDArray[np.uint8]) -> Reference:
        """Run a graph on prepared samples (N, *spec.shape)."""
        size = int(model.get_parameters()[0].get_output_shape(0)[0])
        filled = np.concatenate([pictures, np.repeat(pictures[-1:], -len(pictures) % size, axis=0)])
        batches = list(filled.reshape(-1, size, *pictures.shape[1:]))
        features, means = run_watched(model, batches)
        return cls(model, batches, features, means)


def of_any_length(model: ov.Model, samples: NDArray[np.int32], pad: int, precision: Precision) -> Converted:
    """A graph that takes any number of samples of any length: as it is, in bfloat16 if that stays close to float32.

    Args:
        samples: (N, L) stand-ins, filled up with ``pad``; what they take is what ``multiply_adds`` says of one.
    """
    fixed = model.clone()
    fixed.reshape([1, samples.shape[1]])
    of_one = work(fixed)
    graphs: Chain = ((model, "f32"),)
    exact = compile_graphs(graphs)
    if precision == "bf16":
        rounded: Chain = ((model, "bf16"),)
        ready = compile_graphs(rounded)
        cosine = smallest_cosine(run_compiled(ready, [samples]), run_compiled(exact, [samples]))
        if cosine >= MIN_COSINE:
            return Converted(rounded, ready, of_one, 0.0, cosine, pad)
    return Converted(graphs, exact, of_one, 1.0, 1.0, pad)


def in_int8(model: ov.Model, batches: Sequence[NDArray[np.int32]], exact: Converted) -> Converted:
    """A graph that takes samples of any length, its products with weights computed in int8.

    Args:
        batches: (B, L) without padding; ranges are measured on them.
        exact: The graph in float32.
    """
    graphs: Chain = ((quantised(model, batches), "f32"),)  # what is not quantised stays float32
    ready = compile_graphs(graphs)
    cosine = smallest_cosine(run_compiled(ready, batches), run_compiled(exact.compiled, batches))
    return replace(exact, graphs=graphs, compiled=ready, float32_share=0.0, cosine=cosine)


def in_float32(model: ov.Model) -> Converted:
    """A graph as it is."""
    graphs: Chain = ((model, "f32"),)
    return Converted(graphs, compile_graphs(graphs), _of_one_picture(model), 1.0, 1.0)


def in_bfloat16(reference: Reference, *, first_share: float = 0.0) -> Converted:
    """Round as much of a graph to bfloat16 as keeps its features close to float32; nothing of it if need be.

    Args:
        reference: Of the graph, which is left as it is.
        first_share: Of the work; less is not tried in float32, where it is known to be too little.
    """
    model = reference.model
    for share in FLOAT32_SHARES:
        halves = split(model, share) if share else None
        if share < first_share or (share and halves is None):
            continue
        tail = model.clone() if halves is None else halves.tail
        round_weights(tail, reference.means)
        graphs: Chain = ((tail, "bf16"),) if halves is None else ((halves.head, "f32"), (tail, "bf16"))
        ready = compile_graphs(graphs)
        cosine = smallest_cosine(run_compiled(ready, reference.batches), reference.features)
        if cosine >= (MIN_COSINE if share >= _MUCH else _LITTLE_IN_FLOAT32_COSINE):
            below = 0.0 if halves is None else work(halves.head) / work(model)
            return Converted(graphs, ready, _of_one_picture(model), below, cosine)
    return in_float32(model)


def run(graphs: Chain, batches: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """Run graphs on batches of their size: one float32 (N, D) for each rung."""
    return run_compiled(compile_graphs(graphs), batches)


def run_compiled(graphs: Sequence[ov.CompiledModel], batches: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """As ``run``."""
    given = [(batch,) for batch in batches]
    for graph in graphs:
        given = [tuple(array.copy() for array in graph(list(arrays)).values()) for arrays in given]
    return [np.concatenate(parts) for parts in zip(*given, strict=True)]


def smallest_cosine(found: Sequence[NDArray[np.float32]], expected: Sequence[NDArray[np.float32]]) -> float:
    """Over rungs and pictures; 0 where something is not finite."""
    smallest = 1.0
    for a, b in zip(found, expected, strict=True):
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines = np.where((lengths == 0) & (a == b).all(1), 1.0, (a * b).sum(1) / np.maximum(lengths, 1e-30))
        smallest = min(smallest, float(np.nan_to_num(cosines).min()))
    return smallest


def _of_one_picture(model: ov.Model) -> int:
    return work(model) // int(model.get_parameters()[0].get_output_shape(0)[0])
