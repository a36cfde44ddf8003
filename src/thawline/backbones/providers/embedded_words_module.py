"""The torch module of the text backbone that ships inside."""

from __future__ import annotations

import torch
from torch import nn

from thawline.backbones.providers.hf_text_pooling import Pooling


class MeanOfWords(nn.Module):
    """Ids of word pieces int64 (B, L), filled up with ``pad`` -> the mean of their vectors (B, W).

    Source:
        Shen et al. 2018, Baseline Needs More Love, arXiv:1805.09843, for how far a mean goes.
    """

    def __init__(self, vocabulary: int, width: int, pad: int, length: int) -> None:
        super().__init__()
        self.vocabulary, self.pad, self.length = vocabulary, pad, length
        self.embeddings = nn.Embedding(vocabulary, width, padding_idx=pad)  # the row of pad is 0, and never learns
        self.pooling = Pooling(("mean",))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, L) -> (B, W)"""
        hidden = self.embeddings(ids)  # (B, L, W)
        features: torch.Tensor = self.pooling(hidden)
        return features
