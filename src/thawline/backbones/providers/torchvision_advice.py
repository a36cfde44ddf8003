"""Why weights do not fit one of torchvision's architectures, and which they fit."""

from __future__ import annotations

import difflib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.backbones.matching import misfits
from thawline.backbones.providers import torchvision_architectures as architectures

if TYPE_CHECKING:
    from thawline.backbones.matching import Shapes
    from thawline.backbones.providers.provider import Description

_SEARCH_S = 6.0
"""Time to look for an architecture that fits; building one without memory takes 30 to 300 ms."""


def advice(found: Description, path: Path, given: Shapes, wanted: Shapes) -> str:
    """Return the next step that what differs suggests; empty if nothing does.

    Args:
        found: What was asked for.
        path: The file of weights.
        given, wanted: Name -> shape, in the file and in the architecture.
    """
    fitting = fitting_architecture(given, found.architecture, path)
    if not fitting:
        return ""
    prefix = found.tensors.prefix
    taken_off = f"Names in the file begin with {prefix!r}, which is left out here. " if prefix else ""
    return f"{taken_off}The weights fit torchvision's {fitting}: give --model torchvision/{fitting}@{path}."


def fitting_architecture(given: Shapes, like: str, path: Path) -> str:
    """Return the architecture of torchvision that tensors fit, whatever their number of classes; empty if none soon.

    Args:
        given: Name -> shape, of a file.
        like: An architecture's name; those with similar names are tried first.
        path: The file, whose name may say what it holds.
    """
    import torch

    from thawline.backbones.outline import without_draws

    begun = time.monotonic()
    for name in sorted(architectures.names(), key=lambda name: -_alike(name, like, path)):
        if time.monotonic() - begun > _SEARCH_S:
            break
        heads = architectures.head_of(name).in_files
        own = {key: shape for key, shape in given.items() if not key.startswith(heads)}
        with torch.device("meta"), without_draws():
            module = architectures.build(name, {}, architectures.NORMALISED_SIDE)
        if not misfits(own, {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}):
            return name
    return ""


def _alike(name: str, like: str, path: Path) -> float:
    if name in path.stem:
        return 1 + len(name)  # resnet50 before resnet5
    return max(difflib.SequenceMatcher(None, name, other).ratio() for other in (like, path.stem))
