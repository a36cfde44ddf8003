"""Backbones whose own file is a graph: there is nothing to convert, only pixels to put before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thawline.records import of_pictures
from thawline.scale.openvino_import import ov

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Preparation


def given_graph(backbone: Backbone) -> ov.Model:
    """Return the backbone as a graph in float32 that takes pixels uint8 (B, H, W, 3).

    Raises:
        ModelError: OpenVINO cannot read it.
    """
    from thawline.backbones.providers import onnx

    read = onnx.graph(backbone.tensors, backbone.model_args)
    return _from_pixels(read.model, backbone.preparation)


def _from_pixels(model: ov.Model, preparation: Preparation) -> ov.Model:
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    change = steps.input().preprocess().convert_element_type(ov.Type.f32).scale(255.0)
    pictures = of_pictures(preparation)
    change.mean(list(pictures.mean)).scale(list(pictures.std))
    return steps.build()
