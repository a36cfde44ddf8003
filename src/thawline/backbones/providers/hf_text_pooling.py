"""From the tokens of a text to its features, as sentence-transformers has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from thawline.backbones.providers.hf_text_families import ACTIVATIONS

_LEAST = 1e-9


class Pooling(nn.Module):
    """Hidden (B, L, W), 0 at padding -> (B, W), or several of them side by side."""

    def __init__(self, modes: Sequence[str]) -> None:
        super().__init__()
        self.modes = tuple(modes)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, L, W) -> (B, len(modes) * W)"""
        there = (hidden != 0).any(-1, keepdim=True)  # (B, L, 1)
        return torch.cat([pooled(mode, hidden, there) for mode in self.modes], dim=-1)


def pooled(mode: str, hidden: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Pool (B, L, W) to (B, W); ``there``: bool (B, L, 1), which rows are tokens."""
    mask = there.to(hidden.dtype)
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return hidden.masked_fill(~there, torch.finfo(hidden.dtype).min).amax(1)
    if mode == "lasttoken":
        last = (there.long().sum(1, keepdim=True) - 1).clamp(min=0)  # (B, 1, 1)
        return hidden.gather(1, last.expand(-1, 1, hidden.shape[-1]))[:, 0]
    if mode == "weightedmean":
        mask = mask * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[None, :, None]
    n = mask.sum(1).clamp(min=_LEAST)  # (B, 1)
    return (hidden * mask).sum(1) / (n.sqrt() if mode == "mean_sqrt_len_tokens" else n)


class Dense(nn.Module):
    """A layer behind the pooling, with its activation."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, activation: str = "Tanh") -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        self.activation = getattr(nn, activation)()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, out_features)"""
        activated: torch.Tensor = self.activation(self.linear(features))
        return activated


class Normalize(nn.Module):
    """Features of length 1."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, D)"""
        return nn.functional.normalize(features, dim=-1)
