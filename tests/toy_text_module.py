"""The module of the toy text encoder."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def there_of(hidden: torch.Tensor) -> torch.Tensor:
    """(B, L, W) -> (B, L) whether a token is no padding."""
    return (hidden != 0).any(-1)


class Embeddings(nn.Module):
    def __init__(self, vocabulary: int, length: int, pad: int, width: int, dropout: float) -> None:
        super().__init__()
        self.pad = pad
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, L) -> (B, L, W)"""
        places = torch.arange(ids.shape[1], device=ids.device)
        hidden = self.dropout(self.norm(self.words(ids) + self.positions(places)))
        return hidden * (ids != self.pad)[..., None]


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.dense, self.first = nn.Linear(width, width), nn.LayerNorm(width)
        self.up, self.down, self.second = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, L, W) -> (B, L, W)"""
        there = there_of(hidden)

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, L, W) -> (B, H, L, W / H)

        q, k, v = (split(layer(hidden)) for layer in (self.query, self.key, self.value))
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None, :])
        hidden = self.first(hidden + self.dropout(self.dense(seen.transpose(1, 2).flatten(2))))
        hidden = self.second(hidden + self.dropout(self.down(functional.gelu(self.up(hidden)))))
        return hidden * there[..., None]


class Pooling(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, L, W) -> (B, W)"""
        return hidden.sum(1) / there_of(hidden).sum(1, keepdim=True).clamp(min=1)


class ToyTextEncoder(nn.Module):
    """(B, L) -> (B, W)"""

    def __init__(
        self, vocabulary: int, length: int, pad: int, width: int, heads: int, blocks: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embeddings = Embeddings(vocabulary, length, pad, width, dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(blocks)))
        self.pooling = Pooling()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.pooling(self.blocks(self.embeddings(ids)))
