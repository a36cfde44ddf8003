"""Why weights do not fit one of torchvision's architectures, and which they fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.backbones.matching import misfits
from thawline.backbones.names import STATISTICS
from thawline.backbones.providers import torchvision_architectures as architectures
from thawline.backbones.providers.known import known_models

if TYPE_CHECKING:
    from thawline.backbones.matching import Shapes
    from thawline.backbones.providers.provider import Description

_NO_PARAMETERS = (*STATISTICS, "relative_position_index", "relative_coords_table")
"""Endings of the buffers that torchvision's models keep."""


def advice(found: Description, path: Path, given: Shapes, wanted: Shapes) -> str:
    """Return the next step that what differs suggests; empty if nothing does.

    Args:
        found: What was asked for.
        path: The file of weights.
        given, wanted: Name -> shape, in the file and in the architecture.
    """
    fitting = fitting_architecture(given)
    if not fitting:
        return ""
    prefix = found.tensors.prefix
    taken_off = f"Names in the file begin with {prefix!r}, which is left out here. " if prefix else ""
    return f"{taken_off}The weights fit torchvision's {fitting}: give --model torchvision/{fitting}@{path}."


def fitting_architecture(given: Shapes) -> str:
    """Return the architecture of torchvision that tensors fit, whatever their number of classes; empty if none does.

    Architectures with as many parameters come into question, which are one or two.

    Args:
        given: Name -> shape, of a file.
    """
    import torch

    from thawline.backbones.outline import without_draws

    counted = [(known.name.partition(".")[0], known.parameters) for known in known_models("torchvision")]
    for name, parameters in dict.fromkeys(counted):
        own = {key: shape for key, shape in given.items() if not key.startswith(architectures.head_of(name).in_files)}
        if sum(math.prod(shape) for key, shape in own.items() if not key.endswith(_NO_PARAMETERS)) != parameters:
            continue
        with torch.device("meta"), without_draws():
            module = architectures.build(name, {}, architectures.USUAL_SIDE)
        if not misfits(own, {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}):
            return name
    return ""
