"""The blocks of BERT and its next of kin, which need no library: importing it takes longer than all the rest.

They hold the library's tensors under the library's names, and give what its blocks give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_HIDDEN = -1e4
"""Added to the scores of keys that are padding: their weights become exactly 0, in half precision, too."""
_SPREAD = 0.02
"""Standard deviation of weights before any training."""
_ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
    "swish": functional.silu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a family calls the layers of its blocks, and how it differs from BERT."""

    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    attended: str = "attention.output.LayerNorm"
    """The normalisation after attention."""
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm: str = "output.LayerNorm"
    types: bool = True
    """Whether tokens have types; all are of the first."""
    drops_attended: bool = True
    """Whether dropout acts on what attention gives."""
    distances: int = 0
    """Buckets of distances that attention is biased by; 0: none. The library has as many whatever settings say."""


NAMES: Mapping[str, Names] = {
    "bert": Names(),
    "roberta": Names(),
    "xlm-roberta": Names(),
    "distilbert": Names(
        query="attention.q_lin", key="attention.k_lin", value="attention.v_lin", out="attention.out_lin",
        attended="sa_layer_norm", up="ffn.lin1", down="ffn.lin2", norm="output_layer_norm", types=False,
        drops_attended=False,
    ),
    "mpnet": Names(
        query="attention.attn.q", key="attention.attn.k", value="attention.attn.v", out="attention.attn.o",
        attended="attention.LayerNorm", types=False, distances=32,
    ),
}  # fmt: skip
"""Families whose blocks stand here."""
_OTHERWISE = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
"""DistilBERT's names of settings -> those of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Settings of an encoder, as the library has them where nobody says."""

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    relative_attention_num_buckets: int = 0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Sizes:
        """Read the settings of any of the families.

        Raises:
            ValueError: One cannot be.
        """
        sizes = cls(**{_OTHERWISE.get(key, key): value for key, value in settings.items()})
        if not 0 < sizes.num_attention_heads or sizes.hidden_size % sizes.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        if not isinstance(sizes.layer_norm_eps, float):
            raise ValueError(f"layer_norm_eps must be a fraction; got {sizes.layer_norm_eps!r}")
        if sizes.hidden_act not in _ACTIVATIONS:
            raise ValueError(f"hidden_act must be one of {', '.join(_ACTIVATIONS)}; got {sizes.hidden_act!r}")
        return sizes


def present(hidden: torch.Tensor) -> torch.Tensor:
    """Tell tokens from padding: (B, L, W) -> bool (B, L)."""
    return (hidden != 0).any(-1)


def additive(keys: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bool (...) -> numbers to add to scores: 0 where a key is to be seen."""
    return (~keys).to(like.dtype) * _HIDDEN


class Embeddings(nn.Module):
    """Ids (B, L) -> hidden (B, L, W), 0 at padding."""

    def __init__(self, names: Names, sizes: Sizes, pad: int, counted_from: int | None) -> None:
        """Make them with random weights.

        Args:
            counted_from: Positions are counted over the tokens of a text and begin behind this number; None counts
                every place, from 0.
        """
        super().__init__()
        width = sizes.hidden_size
        self._pad, self._counted_from = pad, counted_from
        self.word_embeddings = nn.Embedding(sizes.vocab_size, width)
        self.position_embeddings = nn.Embedding(sizes.max_position_embeddings, width)
        if names.types:
            self.token_type_embeddings = nn.Embedding(sizes.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=sizes.layer_norm_eps)
        self.dropout = nn.Dropout(sizes.hidden_dropout_prob)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, L) -> (B, L, W)"""
        tokens = ids != self._pad
        if self._counted_from is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]
        else:
            positions = tokens.long().cumsum(1) * tokens + self._counted_from
        hidden = self.word_embeddings(ids)
        if hasattr(self, "token_type_embeddings"):
            hidden = hidden + self.token_type_embeddings.weight[0]
        hidden = self.dropout(self.LayerNorm(hidden + self.position_embeddings(positions)))
        cleared: torch.Tensor = hidden * tokens[..., None].to(hidden.dtype)
        return cleared


class Block(nn.Module):
    """Attention and two fully connected layers, each followed by a normalisation; hidden stays 0 at padding."""

    def __init__(self, names: Names, sizes: Sizes) -> None:
        super().__init__()
        width, inner = sizes.hidden_size, sizes.intermediate_size
        self._names, self._heads = names, sizes.num_attention_heads
        self._activation, self._drops = _ACTIVATIONS[sizes.hidden_act], sizes.attention_probs_dropout_prob
        for name in (names.query, names.key, names.value, names.out):
            _place(self, name, nn.Linear(width, width))
        _place(self, names.up, nn.Linear(width, inner))
        _place(self, names.down, nn.Linear(inner, width))
        for name in (names.attended, names.norm):
            _place(self, name, nn.LayerNorm(width, eps=sizes.layer_norm_eps))
        self.dropout = nn.Dropout(sizes.hidden_dropout_prob)

    def forward(self, hidden: torch.Tensor, distances: torch.Tensor | None = None) -> torch.Tensor:
        """(B, L, W) -> (B, L, W)

        Args:
            distances: (2 * longest - 1, heads) what is added to scores by the distance of a key from a query.
        """
        names, run = self._names, self._run
        tokens = present(hidden)
        mask = additive(tokens[:, None, None], hidden)  # (B, 1, 1, L)
        if distances is not None:
            mask = mask + _by_distance(distances, hidden.shape[1])  # (B, heads, L, L)
        query, key, value = (
            run(name, hidden).view(*hidden.shape[:2], self._heads, -1).transpose(1, 2)  # (B, heads, L, W / heads)
            for name in (names.query, names.key, names.value)
        )
        drops = self._drops if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=drops)
        attended = run(names.out, attended.transpose(1, 2).flatten(2))  # (B, L, W)
        attended = self.dropout(attended) if names.drops_attended else attended
        hidden = run(names.attended, attended + hidden)
        raised = run(names.down, self._activation(run(names.up, hidden)))  # (B, L, W)
        return run(names.norm, self.dropout(raised) + hidden) * tokens[..., None].to(hidden.dtype)

    def _run(self, name: str, given: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.get_submodule(name)(given)
        return made


class Distances(nn.Module):
    """MPNet's bias of attention by the distance of two tokens, for all distances of a text."""

    def __init__(self, rows: int, buckets: int, heads: int, length: int) -> None:
        """Make them with random weights; ``rows`` that are no buckets stay unused."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, heads))
        self.buckets = nn.Buffer(_buckets(torch.arange(1 - length, length), buckets), persistent=False)

    def forward(self) -> torch.Tensor:
        """(2 * length - 1, heads)"""
        return functional.embedding(self.buckets, self.weight)


def _buckets(distances: torch.Tensor, n: int, farthest: int = 128) -> torch.Tensor:
    """Put distances of keys from queries into n buckets: half for each direction, of them half for one distance each.

    Source:
        T5, arXiv:1910.10683; transformers' ``MPNetEncoder.relative_position_bucket``.
    """
    half = n // 2
    exact = half // 2
    away = distances.abs()
    wide = exact + (torch.log(away / exact) / math.log(farthest / exact) * (half - exact)).long()
    return (distances > 0) * half + torch.where(away < exact, away, wide.clamp(max=half - 1))


def _by_distance(table: torch.Tensor, length: int) -> torch.Tensor:
    """(2 * longest - 1, heads) -> (1, heads, length, length); row: query, column: key"""
    at = torch.arange(length, device=table.device)
    return table[at[None] - at[:, None] + len(table) // 2].permute(2, 0, 1)[None]


def _place(module: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer where its name says, in modules that only hold others."""
    *holders, last = path.split(".")
    for name in holders:
        if not hasattr(module, name):
            setattr(module, name, nn.Module())
        module = module.get_submodule(name)
    setattr(module, last, layer)


@torch.no_grad()
def draw(module: nn.Module) -> None:
    """Draw weights as the library does before any training."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding | Distances):
            layer.weight.normal_(std=_SPREAD)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            layer.bias.zero_()
