"""What the module of a backbone takes, and who knows how it is traced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thawline.backbones.providers import provider_of
from thawline.backbones.reading import Reading, reader

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones.providers.provider import LibraryLayer
    from thawline.backbones.providers.tracing import Tracing

BATCH = 2
"""Samples in a trial run: with one alone, a tensor without a batch dimension could pass for one that has it."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The input of a module, and the provider of its kind."""

    provider: str
    """Family of names, such as ``timm``."""
    shape: tuple[int, ...]
    """Of one sample as the first layer takes it: (3, H, W)."""
    readout: Reading | None = None
    """Where the features are read, if that is not the output of the module: layers above are left out."""

    def examples(self, module: nn.Module, n: int = BATCH) -> torch.Tensor:
        """Return random inputs (n, *shape), always the same, in the place and precision of the module's weights."""
        return provider_of(self.provider).examples(module, self.shape, n)

    def features(self, module: nn.Module, samples: torch.Tensor) -> torch.Tensor:
        """Run a module: (B, *shape) -> the features that are read (B, D)."""
        if self.readout is None:
            features: torch.Tensor = module(samples)
            return features
        return reader([self.readout], module, provider_of(self.provider), type(module).__name__)(samples)[0]

    def tracing(self, module: nn.Module) -> Tracing:
        """Say how the forward pass is traced."""
        return provider_of(self.provider).tracing(module)

    def library_layers(self, module: nn.Module) -> tuple[LibraryLayer, ...] | None:
        """Return the layers of a module as its library counts them; None if it counts as the ladder does."""
        return provider_of(self.provider).library_layers(module)

    def channels_last(self, module: nn.Module) -> bool:
        """Say whether picture-shaped activations are (B, H, W, C) rather than (B, C, H, W)."""
        return provider_of(self.provider).channels_last(module)
