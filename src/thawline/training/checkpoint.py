"""Write and read checkpoints: everything that a stopped run needs, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from thawline.errors import RunError
from thawline.scale.disk import utf8_path, written_whole

Tensors = dict[str, torch.Tensor]
_STATE = "state"


def write_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a state fit for JSON at once; a kill at any moment leaves the old file or the new one.

    Raises:
        StorageError: The disk is full, or the place cannot be written.
    """
    # copies, as safetensors refuses weights that layers share
    packed = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with written_whole(path, "wb") as file:
        file.write(save(packed, metadata={_STATE: json.dumps(state)}))


def read_checkpoint(path: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """Read what ``write_checkpoint`` wrote, on the CPU; None if nothing was written yet.

    Raises:
        RunError: The file is damaged.
    """
    if not path.exists():
        return None
    try:
        with utf8_path(path) as opened, safe_open(opened, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return tensors, json.loads(file.metadata()[_STATE])
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise RunError(
            f"checkpoint must be whole; {path} is damaged ({error}). Begin the run again with --force."
        ) from error


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Rename ``name`` to ``prefix.name``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def having_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the tensors below a prefix, named without it."""
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
