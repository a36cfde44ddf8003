"""Weights that stay where they are, of a model that is only described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thawline.backbones.weights import TensorFile, WeightsFile
from thawline.errors import ModelError


class UnfetchedFile(WeightsFile):
    """A file that is not here; what it is called, and what the library says of it."""

    @property
    def tensors(self) -> TensorFile:
        return NoTensors(self.path)


class NoTensors(TensorFile):
    """Refuses whatever would need the weights."""

    @property
    def is_there(self) -> bool:
        return False

    def entries(self) -> dict[str, Mapping[str, Any]]:
        raise ModelError(f"{self.path} was opened for its architecture only; to run it, open it with its weights.")

    def digest(self, *, checked: bool = False) -> str:
        return str(self.entries())

    def load(self) -> dict[str, Any]:
        return self.entries()
