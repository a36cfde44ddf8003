"""The one place that imports timm."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType
from typing import Any

_KEEP_ALIVE: list[object] = []
"""torch removes an operator when the ``Library`` that declared it is collected."""


def import_timm() -> ModuleType:
    """Import timm even where torchvision's compiled operators do not fit the installed torch.

    timm needs torchvision's transforms and never its operators, yet ``import torchvision`` fails when its compiled part
    cannot be loaded (a CPU build of torch beside the index's CUDA build of torchvision, for one): it registers shape
    rules for two operators that were then never declared. Declaring those two lets the Python part load; calling them
    still fails, as it should.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if not re.search(r"operator torchvision::\w+ does not exist", str(error)):
            raise
        import torch

        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEEP_ALIVE.append(library)
        for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[module]
    return importlib.import_module("timm")
