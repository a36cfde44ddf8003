"""Random weights as a library draws them, always the same, kept as a file like any others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.derived import derived
from thawline.backbones.weights import TensorFile
from thawline.randomness import derived_seed
from thawline.scale.releases import release

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from thawline.records import Preparation

    Build = Callable[[str, Mapping[str, Any], Preparation], nn.Module]


def random_weights(
    family: str, architecture: str, build: Build, model_args: Mapping[str, Any], preparation: Preparation
) -> TensorFile:
    """Return the weights that an architecture has before any training.

    Args:
        family: Name of the provider; with what is built, and the release of torch, it decides the weights.
        build: As in ``Provider``.
        architecture, model_args, preparation: As ``build`` takes them.
    Raises:
        ModelError: The library does not take these arguments.
        StorageError: The file cannot be written.
    """

    def write(path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(0, "backbone"))
            module = build(architecture, model_args, preparation)
        drawn = {name: tensor.clone().contiguous() for name, tensor in module.state_dict().items()}
        save_file(drawn, path, {"random": json.dumps(dict.fromkeys(drawn, "drawn, not trained"))})

    described = json.dumps([family, architecture, dict(model_args), preparation.described()], sort_keys=True)
    return TensorFile(derived(hashlib.sha256(described.encode()).hexdigest(), f"random 2, {release('torch')}", write))
