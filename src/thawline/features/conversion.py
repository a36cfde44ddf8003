"""From a torch module to graphs for OpenVINO, no further from float32 than asked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.passes import ConstantFolding, Manager
from torch import nn

from thawline.features.building import NotConvertibleError
from thawline.features.calibration import stand_ins
from thawline.features.folding import folded
from thawline.features.keys import Precision
from thawline.features.rounding import channel_means, round_weights, split, work
from thawline.features.torch_engine import Normalise, one_thread
from thawline.scale.allocator import keep_freed_memory

if TYPE_CHECKING:
    from thawline.backbones import Backbone

MIN_COSINE = 0.9996
"""What features in bfloat16 must reach of those in float32, on each picture that stands for photographs."""
_ALL_ROUNDED_COSINE = 0.9999
"""The same where nothing is left in float32: the first layers are the ones that suffer from what only photographs have
(0.9997 on stand-ins went with 0.9975 on the worst of 64 photographs), so without them there must be more room."""
_FLOAT32_SHARES = (0.06, 0.12, 0.25)
"""Tried one after the other: how much of the work, counted from the pixels, stays in float32."""
_SAME = 0.99999
"""Cosine between float32 features of OpenVINO and of torch."""
_N_STAND_INS = 8


Graphs = tuple[tuple[ov.Model, Precision], ...]
"""Run one after the other, each in its precision."""


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A frozen part of a backbone as graphs of fixed shape."""

    graphs: Graphs
    """The first takes pixels uint8 (B, H, W, 3); the last gives float32 (B, D), one for each rung."""
    multiply_adds: int
    """Of one picture."""
    float32_share: float
    """Of the work, that is computed in float32."""
    cosine: float
    """Smallest to float32 features, over pictures that stand for photographs; 1 in float32."""


def convert(backbone: Backbone, rungs: Sequence[str], precision: Precision, *, batch_size: int) -> Converted:
    """Convert what leads from pixels to the features at some rungs; the backbone is built for it.

    In bfloat16 first layers are left in float32 where the features would otherwise stray, all of them if need be.

    Raises:
        NotConvertibleError: OpenVINO does not take this architecture, or computes something else.
        ModelError: The backbone cannot be built, or has no such rung.
    """
    keep_freed_memory()
    with one_thread(torch.device("cpu")):
        return _convert(backbone, rungs, precision, batch_size)


def _convert(backbone: Backbone, rungs: Sequence[str], precision: Precision, batch_size: int) -> Converted:
    pictures = stand_ins(_N_STAND_INS, backbone.preprocessing.input_px)
    reader = _PixelReader(backbone, rungs, pictures[:2])
    model = _traced(reader, backbone, batch_size)
    batches = _batches(pictures, batch_size)
    exact = Converted(((model, "f32"),), work(model) // batch_size, 1.0, 1.0)
    expected = run(exact.graphs, batches)
    _check_equal(expected, _by_torch(reader, pictures), backbone.name)
    if precision == "f32":
        return exact
    return _rounded(exact, batches, expected) or exact


def run(graphs: Graphs, batches: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """Run graphs on batches of their size: one float32 (N, D) for each rung."""
    core, given = ov.Core(), [(batch,) for batch in batches]
    for model, precision in graphs:
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1})
        given = [tuple(array.copy() for array in compiled(list(arrays)).values()) for arrays in given]
    return [np.concatenate(parts) for parts in zip(*given, strict=True)]


def smallest_cosine(found: Sequence[NDArray[np.float32]], expected: Sequence[NDArray[np.float32]]) -> float:
    """Over rungs and pictures; 0 where something is not finite."""
    smallest = 1.0
    for a, b in zip(found, expected, strict=True):
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines = np.where((lengths == 0) & (a == b).all(1), 1.0, (a * b).sum(1) / np.maximum(lengths, 1e-30))
        smallest = min(smallest, float(np.nan_to_num(cosines).min()))
    return smallest


class _PixelReader(nn.Module):
    """Pixels uint8 (B, H, W, 3) -> features (B, D) at each rung, batch norms folded into convolutions."""

    def __init__(self, backbone: Backbone, rungs: Sequence[str], pictures: NDArray[np.uint8]) -> None:
        super().__init__()
        self._normalise = Normalise(backbone.preprocessing, torch.device("cpu"))
        images = self._normalise(torch.from_numpy(pictures))
        self._module = folded(backbone.module(), images, keep=rungs)  # a part of this one: its weights become constants
        self._read = backbone.reader(rungs, self._module)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._read(self._normalise(pixels))


def _traced(reader: _PixelReader, backbone: Backbone, batch_size: int) -> ov.Model:
    """What ``ov.convert_model`` does, a second faster: no second and third tracing, no telemetry.

    What the graph computes is compared with torch afterwards.
    """
    shape = (batch_size, *backbone.preprocessing.input_px, 3)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer, about constants: the shape of the input is fixed
            pixels = torch.zeros(shape, dtype=torch.uint8)
            # A function, not the module: its weights then are constants, and no layer is wrapped.
            traced = torch.jit.trace(lambda given: reader(given), pixels, check_trace=False)  # type: ignore[no-untyped-call]
            manager, decoder = FrontEndManager(), TorchScriptPythonDecoder(traced, example_input=(pixels,))
            frontend = manager.load_by_framework("pytorch")  # usable only as long as its manager
            model = frontend.convert(frontend.load(decoder))
            model.reshape(list(shape))
            folding = Manager()
            folding.register_pass(ConstantFolding())
            folding.run_passes(model)
    except Exception as error:  # whatever a converter meets in an architecture it does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotConvertibleError(
            f"{backbone.name} cannot be converted for OpenVINO: {reason}. Use --engine torch."
        ) from error
    return model


def _rounded(
    exact: Converted, batches: Sequence[NDArray[np.uint8]], expected: list[NDArray[np.float32]]
) -> Converted | None:
    """The fastest form that is close enough to float32; None where none is."""
    ((model, _),) = exact.graphs
    means = channel_means(model, batches)
    for share in (0.0, *_FLOAT32_SHARES):
        halves = split(model, share) if share else None
        if share and halves is None:
            continue
        tail = model.clone() if halves is None else halves.tail
        round_weights(tail, means)
        graphs: Graphs = ((tail, "bf16"),) if halves is None else ((halves.head, "f32"), (tail, "bf16"))
        cosine = smallest_cosine(run(graphs, batches), expected)
        if cosine >= (MIN_COSINE if share else _ALL_ROUNDED_COSINE):
            below = 0.0 if halves is None else work(halves.head) / work(model)
            return Converted(graphs, exact.multiply_adds, below, cosine)
    return None


def _by_torch(reader: _PixelReader, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Features of the first pictures as plain torch gives them in float32."""
    with torch.no_grad():
        return [rows.numpy() for rows in reader(torch.from_numpy(pictures[:2]))]


def _check_equal(found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]], name: str) -> None:
    """Refuse a graph that computes something else: an operator may be converted wrongly."""
    cosine = smallest_cosine([rows[: len(right)] for rows, right in zip(found, expected, strict=True)], expected)
    if cosine < _SAME:
        raise NotConvertibleError(
            f"{name} converted for OpenVINO must give what torch gives; the cosine of features is {cosine:.5f}. "
            "Use --engine torch."
        )


def _batches(pictures: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    """Batches of one size; the last is filled up with its last picture."""
    filled = np.concatenate([pictures, np.repeat(pictures[-1:], -len(pictures) % size, axis=0)])
    return list(filled.reshape(-1, size, *pictures.shape[1:]))
