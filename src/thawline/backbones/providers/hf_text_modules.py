"""Text encoders of transformers as chains of their own blocks, which can be cut between any two of them.

One tensor crosses every line: hidden (B, L, W), whose rows at padding are exactly 0. Each block makes its mask of that,
and clears the rows again that it filled. So a batch may be filled up to any length, and a cut serves all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from thawline.backbones.providers.hf_text_pooling import Dense, Normalize, Pooling
from thawline.backbones.providers.transformers_import import import_transformers
from thawline.errors import ModelError

if TYPE_CHECKING:
    from thawline.backbones.providers.hf_text_families import TextFamily
    from thawline.records import TextPreparation

_HIDDEN = -1e4
"""Added to the scores of keys that are padding: their weights become exactly 0, in half precision, too."""

Given = tuple[Any, ...]
Mask = Callable[..., tuple[Given, dict[str, Any]]]
"""(block, hidden (B, L, W), *constants) -> what the library's block takes."""


class TextEncoder(nn.Module):
    """Ids of tokens int64 (B, L), filled up with ``pad`` at the end -> pooled features (B, D), by a chain of blocks."""

    embeddings: Any
    encoder: Any
    dense: Any
    final_norm: Any
    normalize: Any
    rotation: Any

    def __init__(
        self, model: Any, family: TextFamily, settings: Mapping[str, Any], preparation: TextPreparation
    ) -> None:
        super().__init__()
        self.length, self.vocabulary, self.pad = preparation.length, preparation.vocabulary, preparation.pad
        self._blocks = family.blocks
        self.embeddings = model.embeddings
        self.embeddings.register_forward_hook(partial(_clear_padding, pad=self.pad))
        holder, _, layers = family.blocks.rpartition(".")
        blocks: Any = model.get_submodule(family.blocks)
        if holder:
            held = nn.Module()
            setattr(held, layers, blocks)
            setattr(self, holder, held)
        else:
            setattr(self, layers, blocks)
        for block in blocks:
            block.register_forward_pre_hook(partial(_given, _MASKS[family.model_type]), with_kwargs=True)
            block.register_forward_hook(_clear_rows)
        width = int(model.config.hidden_size)
        if family.model_type in _ADDED:
            _ADDED[family.model_type](self, model)
        pooling = Pooling(str(settings.get("pooling", "mean")).split("+"))
        self.pooling = pooling
        self.dense = nn.ModuleList()
        width *= len(pooling.modes)
        for described in settings.get("dense") or ():
            self.dense.append(Dense(width, **described))
            width = int(described["out_features"])
        if settings.get("normalize"):
            self.normalize = Normalize()
        self.readable = tuple(self._readable())
        """Names of the layers whose rows at padding are 0, so that features can be read there."""

    def _readable(self) -> Iterator[str]:
        yield "embeddings"
        yield from (f"{self._blocks}.{i}" for i in range(len(self._layers())))
        if hasattr(self, "final_norm"):
            yield "final_norm"
        yield "pooling"
        yield from (f"dense.{i}" for i in range(len(self.dense)))

    def _layers(self) -> Any:
        return self.get_submodule(self._blocks)

    def _constants(self) -> tuple[Any, ...]:
        """What all blocks need beside the tokens: positions relative to each other, for texts up to ``length``."""
        if hasattr(self, "rotation"):
            return (self.rotation(),)
        encoder: Any = getattr(self, "encoder", None)
        if hasattr(encoder, "relative_attention_bias"):
            return (encoder.relative_attention_bias(),)
        if hasattr(encoder, "rel_embeddings"):
            vectors = encoder.rel_embeddings()
            return (encoder.LayerNorm(vectors) if hasattr(encoder, "LayerNorm") else vectors,)
        return ()

    def forward(self, ids: torch.Tensor) -> Any:
        """(B, L) -> (B, D)"""
        hidden = self.embeddings(ids)  # (B, L, W)
        constants = self._constants()
        for block in self._layers():
            hidden = block(hidden, *constants)
        if hasattr(self, "final_norm"):
            hidden = self.final_norm(hidden)
        pooled = self.pooling(hidden)  # (B, L, W) -> (B, D)
        for dense in self.dense:
            pooled = dense(pooled)
        return self.normalize(pooled) if hasattr(self, "normalize") else pooled


class _Distances(nn.Module):
    """MPNet's bias of attention by the distance of two tokens, for all distances of a text."""

    def __init__(self, embedding: nn.Embedding, bucket_of: Any, length: int) -> None:
        super().__init__()
        self.weight = embedding.weight
        distances = torch.arange(1 - length, length)  # of a key from a query
        self.buckets = nn.Buffer(bucket_of(distances, num_buckets=len(self.weight)), persistent=False)

    def forward(self) -> torch.Tensor:
        """(2 * length - 1, heads)"""
        return nn.functional.embedding(self.buckets, self.weight)


class _Vectors(nn.Module):
    """DeBERTa's vectors of relative positions."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.weight = embedding.weight

    def forward(self) -> torch.Tensor:
        """(2 * span, W)"""
        return self.weight


class _Rotation(nn.Module):
    """ModernBERT's angles of rotary positions, for all positions of a text and each type of attention."""

    def __init__(self, rotary: nn.Module, length: int, types: list[str]) -> None:
        super().__init__()
        positions = torch.arange(length)[None]
        self._types = types
        for kind in types:
            for name, table in zip(("cos", "sin"), rotary(torch.zeros(1), positions, kind), strict=True):
                setattr(self, f"{name}_{kind}", nn.Buffer(table, persistent=False))  # (1, length, head width)

    def forward(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Type of attention -> (cos, sin), each (1, length, head width)."""
        return {kind: (getattr(self, f"cos_{kind}"), getattr(self, f"sin_{kind}")) for kind in self._types}


def present(hidden: torch.Tensor) -> torch.Tensor:
    """Tell tokens from padding: (B, L, W) -> bool (B, L)."""
    return (hidden != 0).any(-1)


def _additive(keys: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bool (...) -> numbers to add to scores: 0 where a key is to be seen."""
    return (~keys).to(like.dtype) * _HIDDEN


def _given(mask: Mask, block: nn.Module, args: Given, _kwargs: object) -> tuple[Given, dict[str, Any]]:
    return mask(block, *args)


def _masked(block: nn.Module, hidden: torch.Tensor) -> tuple[Given, dict[str, Any]]:
    return (hidden, _additive(present(hidden)[:, None, None], hidden)), {}  # (B, 1, 1, L)


def _with_distances(block: nn.Module, hidden: torch.Tensor, table: torch.Tensor) -> tuple[Given, dict[str, Any]]:
    """MPNet: the table (2 * length - 1, heads) becomes a bias (1, heads, L, L)."""
    at = torch.arange(hidden.shape[1], device=hidden.device)
    middle = len(table) // 2
    bias = table[at[None] - at[:, None] + middle].permute(2, 0, 1)[None]  # row: query, column: key
    (hidden, mask), _ = _masked(block, hidden)
    return (hidden, mask, bias), {}


def _with_vectors(block: nn.Module, hidden: torch.Tensor, vectors: Any = None) -> tuple[Given, dict[str, Any]]:
    """DeBERTa: takes a bool mask, and finds relative positions by itself."""
    return (hidden, present(hidden)[:, None, None]), {"rel_embeddings": vectors}


def _rotated(block: Any, hidden: torch.Tensor, tables: Mapping[str, Any]) -> tuple[Given, dict[str, Any]]:
    """ModernBERT: some blocks see neighbours only."""
    length, kind = hidden.shape[1], block.attention_type
    keys = present(hidden)[:, None, None]
    if kind == "sliding_attention":
        at = torch.arange(length, device=hidden.device)
        keys = keys & ((at[None] - at[:, None]).abs() <= block.config.sliding_window)  # (B, 1, L, L)
    angles = tuple(table[:, :length] for table in tables[kind])
    return (hidden, _additive(keys, hidden)), {"position_embeddings": angles}


_MASKS: Mapping[str, Mask] = {
    "bert": _masked,
    "distilbert": _masked,
    "roberta": _masked,
    "xlm-roberta": _masked,
    "mpnet": _with_distances,
    "deberta-v2": _with_vectors,
    "modernbert": _rotated,
}


def _add_distances(encoder: Any, model: Any) -> None:
    bucket_of = model.encoder.relative_position_bucket
    encoder.encoder.relative_attention_bias = _Distances(
        model.encoder.relative_attention_bias, bucket_of, encoder.length
    )


def _add_vectors(encoder: Any, model: Any) -> None:
    if model.encoder.relative_attention:
        encoder.encoder.rel_embeddings = _Vectors(model.encoder.rel_embeddings)
        if hasattr(model.encoder, "LayerNorm"):
            encoder.encoder.LayerNorm = model.encoder.LayerNorm
    if model.encoder.conv is not None:
        first = encoder.encoder.layer[0]
        first.conv = model.encoder.conv
        first.register_forward_hook(_convolved)


def _add_rotation(encoder: Any, model: Any) -> None:
    types = sorted(set(model.config.layer_types))
    encoder.rotation = _Rotation(model.rotary_emb, encoder.length, types)
    encoder.final_norm = model.final_norm
    encoder.final_norm.register_forward_hook(_clear_rows)


_ADDED: Mapping[str, Callable[[Any, Any], None]] = {
    "mpnet": _add_distances,
    "deberta-v2": _add_vectors,
    "modernbert": _add_rotation,
}
"""What a family has beside embeddings and blocks."""


def _first(output: Any) -> torch.Tensor:
    """Leave out what a block gives beside its activations."""
    activations: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return activations


def _clear_padding(_layer: nn.Module, args: Given, output: torch.Tensor, pad: int) -> torch.Tensor:
    tokens: torch.Tensor = args[0] != pad
    return output * tokens[..., None].to(output.dtype)


def _clear_rows(_layer: nn.Module, args: Given, output: Any) -> torch.Tensor:
    hidden = _first(output)
    return hidden * present(args[0])[..., None].to(hidden.dtype)


def _convolved(layer: Any, args: Given, output: Any) -> torch.Tensor:
    """DeBERTa's first block, followed by its convolution over tokens, which clears padding by itself."""
    hidden = args[0]
    convolved: torch.Tensor = layer.conv(hidden, _first(output), present(hidden).long())
    return convolved


def encoder(family: TextFamily, settings: Mapping[str, Any], preparation: TextPreparation) -> TextEncoder:
    """Build an encoder with random weights.

    Raises:
        ModelError: The library does not take these settings.
    """
    library = import_transformers(f"models.{family.package}")
    own = {key: settings[key] for key in settings if key in family.keys}
    try:
        model: Any = getattr(library, family.model)(getattr(library, family.config)(**own))
        return TextEncoder(model, family, settings, preparation)
    except ModelError:
        raise
    except Exception as error:  # its checks raise errors of many kinds
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"settings must be ones that transformers' {family.model_type} takes; got {dict(settings)!r}: {reason}."
        ) from error
