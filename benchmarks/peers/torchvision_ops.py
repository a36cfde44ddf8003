"""Import before torchvision, timm and fastai, so that a torchvision without its compiled operators can be imported.

A CPU build of torch beside a torchvision built for CUDA cannot load them, and `import torchvision` then fails on shape
rules for two operators that were never declared. No peer calls these operators; declaring them is enough. Nothing is
imported twice and nothing else is changed, so that it costs no peer any time.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

declared: list[Any] = []
"""torch removes an operator when the ``Library`` that declared it is collected."""


def _declare_missing() -> None:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    compiled = Path(spec.origin).with_name("_C.so")
    if not compiled.exists():
        return
    try:
        torch.ops.load_library(compiled)  # torchvision loads it again, which is free
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        declared.append(library)


_declare_missing()
