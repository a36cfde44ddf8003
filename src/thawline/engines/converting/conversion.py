"""Convert a torch module to graphs for OpenVINO, no further from float32 than asked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thawline.engines.arithmetic import one_thread
from thawline.engines.converting.batch_norm import folded, run_hooked
from thawline.engines.converting.refining import (
    Reference,
    in_bfloat16,
    in_float32,
    in_int8,
    of_any_length,
    run_compiled,
    smallest_cosine,
)
from thawline.engines.graphs import N_STAND_INS, Converted
from thawline.engines.openvino_engine import compile_graphs
from thawline.errors import ModelError, NotConvertibleError
from thawline.inputs import kind_of
from thawline.inputs.lengths import lengths_of
from thawline.inputs.text.tokens import tokens_of
from thawline.records import Precision, TextPreparation
from thawline.scale.openvino_import import ov

if TYPE_CHECKING:
    from thawline.backbones import Backbone

N_MEASURED = 32
"""Made-up texts on which the ranges of int8 are measured."""
_LEAST_IN_INT8 = 0.9
"""Smallest cosine to the float32 features, over made-up texts, of which int8 has less than of real ones."""
_SAME = 0.99999
"""Cosine between float32 features of OpenVINO and of torch."""
NUMBERS_AT_ONCE = 2_500_000
"""Most numbers in the largest output of a layer: the next layer still finds most of them in the processor's caches.
MobileNetV2 at 224 px is a quarter faster with 2 pictures than with 8; small pictures are faster with 8
(benchmarks/at_once.md)."""
MOST_AT_ONCE = 8


def convert(backbone: Backbone, rungs: Sequence[str], precision: Precision) -> Converted:
    """Convert the layers between prepared samples and the features at some rungs; this builds the backbone.

    In bfloat16, first layers stay in float32 as far as the features would otherwise stray; all of them if need be. In
    int8, only texts.

    Raises:
        NotConvertibleError: OpenVINO does not take this architecture, or computes something else.
        ModelError: The backbone cannot be built, or has no such rung.
    """
    spec = backbone.preparation.spec
    with one_thread(torch.device("cpu")):
        if spec.pad is not None:
            return _of_any_length(backbone, rungs, spec.pad, precision)
        model, reference = traced(backbone, rungs)
    return in_float32(model) if precision == "f32" else in_bfloat16(reference)


def traced(backbone: Backbone, rungs: Sequence[str]) -> tuple[ov.Model, Reference]:
    """Convert to one graph in float32, and check that it gives what torch gives.

    Raises:
        NotConvertibleError, ModelError: As ``convert``.
    """
    samples = kind_of(backbone.preparation.kind).stand_ins(N_STAND_INS, backbone.preparation)
    reader = _SampleReader(backbone, rungs, samples[:2])
    model = _traced(reader, backbone)
    reference = Reference.of(model, samples)
    _check_equal(reference.features, _by_torch(reader, samples), backbone.name)
    return model, reference


def _of_any_length(backbone: Backbone, rungs: Sequence[str], pad: int, precision: Precision) -> Converted:
    """Convert to one graph for any number of samples of any length, and check it at a length that was not traced."""
    stand_ins: NDArray[np.int32] = kind_of(backbone.preparation.kind).stand_ins(N_STAND_INS, backbone.preparation)
    samples = stand_ins[:, : int(lengths_of(stand_ins, pad).max())]
    half = samples[:, : max(samples.shape[1] // 2, 1)]
    reader = _SampleReader(backbone, rungs, half[:2])
    model = _traced(reader, backbone, half[:2])
    with torch.no_grad():
        expected = [rows.numpy() for rows in reader(torch.from_numpy(samples))]
    converted = of_any_length(model, samples, pad, "f32" if precision == "int8" else precision)
    found = run_compiled(compile_graphs(((model, "f32"),)), [samples])
    _check_equal(found, expected, backbone.name)
    return _in_int8(model, backbone, converted) if precision == "int8" else converted


def _in_int8(model: ov.Model, backbone: Backbone, exact: Converted) -> Converted:
    preparation = backbone.preparation
    assert isinstance(preparation, TextPreparation)
    tokens = tokens_of(preparation)
    room = preparation.length - len(tokens.before) - len(tokens.behind)
    bare = [row[row != preparation.pad][:room] for row in kind_of("text").stand_ins(N_MEASURED, preparation)]
    # the tokens that stand around every text are those with the largest activations
    converted = in_int8(model, [np.array([[*tokens.before, *ids, *tokens.behind]], np.int32) for ids in bare], exact)
    if converted.cosine < _LEAST_IN_INT8:
        raise ModelError(
            f"{backbone.name} in int8 strays too far from itself: the smallest cosine to its float32 features is "
            f"{converted.cosine:.3f}, and must be at least {_LEAST_IN_INT8}. Use --precision f32."
        )
    return converted


def samples_at_once(largest: int) -> int:
    """Return how many samples one run of a graph of fixed shape takes: a power of two.

    Args:
        largest: Numbers in the largest output of a layer, for one sample.
    """
    fitting = max(NUMBERS_AT_ONCE // largest, 1)
    return int(min(2 ** (fitting.bit_length() - 1), MOST_AT_ONCE))


def largest_output(module: nn.Module, inputs: torch.Tensor) -> int:
    """Count the numbers in the largest tensor that a layer of a module gives.

    Args:
        inputs: (B, ...), as the module takes them; the numbers are those of all.
    """
    largest = 1

    def see(_layer: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.numel())

    run_hooked(module, inputs, [layer.register_forward_hook(see) for layer in module.modules()])
    return largest


class _SampleReader(nn.Module):
    """Prepared samples (B, *spec.shape) -> features (B, D) at each rung, batch norms folded into convolutions."""

    def __init__(self, backbone: Backbone, rungs: Sequence[str], samples: NDArray[Any]) -> None:
        super().__init__()
        self._to_tensors = kind_of(backbone.preparation.kind).to_tensors(backbone.preparation, torch.device("cpu"))
        inputs = self._to_tensors(torch.from_numpy(samples))
        read = [backbone.reading(rung).layer for rung in rungs]
        self._module = folded(backbone.module(), inputs, keep=read)  # a part of this one: its weights become constants
        self._read = backbone.reader(rungs, self._module)
        self.at_once = samples_at_once(largest_output(self._module, inputs[:1]))

    def forward(self, samples: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._read(self._to_tensors(samples))


def _traced(reader: _SampleReader, backbone: Backbone, ragged: NDArray[np.int32] | None = None) -> ov.Model:
    """Do what ``ov.convert_model`` does, a second faster: no second and third tracing, no telemetry.

    The caller compares the graph's results with torch's.

    Args:
        ragged: Samples to trace with, where the graph is to take any number of any length.
    """
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # after ``openvino_import``
    from openvino.passes import ConstantFolding, Manager

    shape = [reader.at_once, *backbone.preparation.spec.shape] if ragged is None else [-1, -1]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer, about constants: the shape of the input is fixed
            samples = torch.zeros(shape, dtype=torch.uint8) if ragged is None else torch.from_numpy(ragged)
            # A function, not the module: its weights then are constants, and no layer is wrapped.
            traced = torch.jit.trace(lambda given: reader(given), samples, check_trace=False)  # type: ignore[no-untyped-call]
            manager, decoder = ov.frontend.FrontEndManager(), TorchScriptPythonDecoder(traced, example_input=(samples,))
            frontend = manager.load_by_framework("pytorch")  # usable only as long as its manager
            model = frontend.convert(frontend.load(decoder))
            model.reshape(shape)
            folding = Manager()
            folding.register_pass(ConstantFolding())
            folding.run_passes(model)
            for node in model.get_ordered_ops():  # remarks that no file keeps, and that change how some are compiled
                for remark in list(node.get_rt_info().keys()):
                    del node.get_rt_info()[remark]
    except Exception as error:  # whatever a converter meets in an architecture it does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotConvertibleError(
            f"{backbone.name} cannot be converted for OpenVINO: {reason}. Use --engine torch."
        ) from error
    return model


def _by_torch(reader: _SampleReader, samples: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Features of the first samples as plain torch gives them in float32."""
    with torch.no_grad():
        return [rows.numpy() for rows in reader(torch.from_numpy(samples[:2]))]


def _check_equal(found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]], name: str) -> None:
    """Refuse a graph that computes something else: an operator may be converted wrongly."""
    cosine = smallest_cosine([rows[: len(right)] for rows, right in zip(found, expected, strict=True)], expected)
    if cosine < _SAME:
        raise NotConvertibleError(
            f"{name} converted for OpenVINO computes other features than torch: their cosine is {cosine:.5f}. "
            "Use --engine torch."
        )
