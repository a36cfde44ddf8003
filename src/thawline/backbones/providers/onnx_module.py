"""The torch module of an ONNX backbone: it holds the bytes of the file, and OpenVINO computes."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from thawline.backbones.foreign.graphs import FEATURES, read_onnx


class OnnxGraph(nn.Module):
    """Pictures (B, 3, H, W) -> features (B, D), without gradients."""

    onnx: torch.Tensor

    def __init__(self, model_args: dict[str, Any]) -> None:
        super().__init__()
        self.features, self.px = str(model_args[FEATURES]), int(model_args["px"])
        self.batch, self.width = int(model_args["batch"]), int(model_args["width"])
        self.register_buffer("onnx", torch.empty(int(model_args["bytes"]), dtype=torch.uint8))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if pictures.device.type == "meta":
            return pictures.new_empty(len(pictures), self.width)
        rows = [self._run(part) for part in torch.split(pictures.detach().to("cpu", torch.float32), self.batch)]
        return torch.cat(rows).to(pictures)

    def _run(self, part: torch.Tensor) -> torch.Tensor:
        """(b, 3, H, W) -> (b, D); the graph has one shape: rows beyond b repeat the last picture, and are dropped."""
        filled = torch.cat([part, part[-1:].expand(self.batch - len(part), *part.shape[1:])])
        found = _compiled(self)(filled.numpy())[0]
        return torch.from_numpy(found[: len(part)].copy())


_COMPILED: WeakKeyDictionary[OnnxGraph, Any] = WeakKeyDictionary()
"""Apart from the modules, which are copied."""


def _compiled(module: OnnxGraph) -> Any:
    from thawline.scale.openvino_core import core

    if module not in _COMPILED:
        content = module.onnx.cpu().numpy().tobytes()
        model = read_onnx(content, features=module.features, px=module.px, batch=module.batch).model
        _COMPILED[module] = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return _COMPILED[module]


class OnnxModel(nn.Module):
    """The graph as the one layer of a model."""

    def __init__(self, model_args: dict[str, Any]) -> None:
        super().__init__()
        self.graph = OnnxGraph(model_args)
        self.px = self.graph.px

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.graph(pictures)
        return found
