"""From a torch module to graphs for OpenVINO, no further from float32 than asked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.passes import ConstantFolding, Manager
from torch import nn

from thawline.engines.arithmetic import one_thread
from thawline.engines.converting.batch_norm import folded, run_hooked
from thawline.engines.converting.refining import Reference, in_bfloat16, in_float32, smallest_cosine
from thawline.engines.graphs import Converted
from thawline.errors import NotConvertibleError
from thawline.inputs.image.stand_ins import N_STAND_INS, stand_ins
from thawline.inputs.image.tensors import Normalise
from thawline.records import Precision

if TYPE_CHECKING:
    from thawline.backbones import Backbone

_SAME = 0.99999
"""Cosine between float32 features of OpenVINO and of torch."""
NUMBERS_AT_ONCE = 2_500_000
"""In the largest output of a layer: of so many the next layer finds most in the caches. MobileNetV2 at 224 px is a
quarter faster with 2 pictures than with 8, while small pictures are faster with 8 (benchmarks/at_once.md)."""
MOST_AT_ONCE = 8


def convert(backbone: Backbone, rungs: Sequence[str], precision: Precision) -> Converted:
    """Convert what leads from pixels to the features at some rungs; the backbone is built for it.

    In bfloat16 first layers are left in float32 where the features would otherwise stray, all of them if need be.

    Raises:
        NotConvertibleError: OpenVINO does not take this architecture, or computes something else.
        ModelError: The backbone cannot be built, or has no such rung.
    """
    with one_thread(torch.device("cpu")):
        model, reference = traced(backbone, rungs)
    return in_float32(model) if precision == "f32" else in_bfloat16(reference)


def traced(backbone: Backbone, rungs: Sequence[str]) -> tuple[ov.Model, Reference]:
    """Convert to one graph in float32, and see that it gives what torch gives.

    Raises:
        NotConvertibleError, ModelError: As ``convert``.
    """
    pictures = stand_ins(N_STAND_INS, backbone.preparation.input_px)
    reader = _PixelReader(backbone, rungs, pictures[:2])
    model = _traced(reader, backbone)
    reference = Reference.of(model, pictures)
    _check_equal(reference.features, _by_torch(reader, pictures), backbone.name)
    return model, reference


def pictures_at_once(largest: int) -> int:
    """Pictures in one run of a graph, whose shape is fixed: a power of two.

    Args:
        largest: Numbers in the largest output of a layer, for one picture.
    """
    fitting = max(NUMBERS_AT_ONCE // largest, 1)
    return int(min(2 ** (fitting.bit_length() - 1), MOST_AT_ONCE))


def largest_output(module: nn.Module, images: torch.Tensor) -> int:
    """Numbers in the largest tensor that a layer of a module gives.

    Args:
        images: (B, 3, H, W), as the module takes them; the numbers are those of all.
    """
    largest = 1

    def see(_layer: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.numel())

    run_hooked(module, images, [layer.register_forward_hook(see) for layer in module.modules()])
    return largest


class _PixelReader(nn.Module):
    """Pixels uint8 (B, H, W, 3) -> features (B, D) at each rung, batch norms folded into convolutions."""

    def __init__(self, backbone: Backbone, rungs: Sequence[str], pictures: NDArray[np.uint8]) -> None:
        super().__init__()
        self._normalise = Normalise(backbone.preparation, torch.device("cpu"))
        images = self._normalise(torch.from_numpy(pictures))
        self._module = folded(backbone.module(), images, keep=rungs)  # a part of this one: its weights become constants
        self._read = backbone.reader(rungs, self._module)
        self.at_once = pictures_at_once(largest_output(self._module, images[:1]))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._read(self._normalise(pixels))


def _traced(reader: _PixelReader, backbone: Backbone) -> ov.Model:
    """What ``ov.convert_model`` does, a second faster: no second and third tracing, no telemetry.

    What the graph computes is compared with torch afterwards.
    """
    shape = (reader.at_once, *backbone.preparation.input_px, 3)
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
            for node in model.get_ordered_ops():  # remarks that no file keeps, and that change how some are compiled
                for remark in list(node.get_rt_info().keys()):
                    del node.get_rt_info()[remark]
    except Exception as error:  # whatever a converter meets in an architecture it does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotConvertibleError(
            f"{backbone.name} cannot be converted for OpenVINO: {reason}. Use --engine torch."
        ) from error
    return model


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
