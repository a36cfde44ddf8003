"""Names, shapes and kinds of the tensors of an architecture, kept in the cache: the next process needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.matching import COUNTER
from thawline.errors import StorageError
from thawline.scale import cache_root
from thawline.scale.disk import written_whole
from thawline.scale.releases import release
from thawline.version import __version__

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("timm", "torchvision", "transformers", "keras", "torch")
"""Packages whose release may change an architecture."""
_KINDS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""torch's name of a number format -> that of safetensors."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One tensor of an architecture."""

    shape: tuple[int, ...]
    kind: str = "F32"
    """Number format, as safetensors names it."""


Inventory = Mapping[str, Spec]
"""Name -> tensor, in the model's order."""


def inventory_of(module: nn.Module) -> dict[str, Spec]:
    """List the tensors of a module's state dict."""
    return {
        name: Spec(tuple(tensor.shape), _KINDS.get(str(tensor.dtype).removeprefix("torch."), str(tensor.dtype)))
        for name, tensor in module.state_dict().items()
    }


def inventory_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Spec]:
    """Do the same for an architecture of float32, whose only whole numbers are counters of batches."""
    return {name: Spec(tuple(shape), "I64" if name.endswith(COUNTER) else "F32") for name, shape in shapes.items()}


def name_of_kind(kind: str) -> str:
    """Return ``float16`` for ``F16``."""
    return next((name for name, known in _KINDS.items() if known == kind), kind)


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the cache keeps the inventory of one architecture."""

    path: Path

    @classmethod
    def of(cls, provider: str, architecture: str, model_args: Mapping[str, Any], shape: tuple[int, ...]) -> Kept:
        """Name the place for an architecture, its arguments and the shape of its input."""
        releases = [__version__, *map(release, LIBRARIES)]
        described = json.dumps([provider, architecture, dict(model_args), list(shape), releases], sort_keys=True)
        key = hashlib.sha256(described.encode()).hexdigest()
        return cls(cache_root() / "architectures" / f"{key}.json")

    def read(self) -> dict[str, Spec] | None:
        """Return what the cache holds; None if it holds nothing, or nothing sound."""
        try:
            rows = json.loads(self.path.read_bytes())
            return {str(name): Spec(tuple(int(n) for n in shape), str(kind)) for name, shape, kind in rows}
        except (OSError, ValueError, TypeError):
            return None

    def write(self, inventory: Inventory) -> None:
        """Keep an inventory; without a word if nothing can be written, as it is made again then."""
        if self.read() == dict(inventory):
            return
        with suppress(OSError, StorageError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(self.path) as file:
                json.dump([[name, spec.shape, spec.kind] for name, spec in inventory.items()], file)
