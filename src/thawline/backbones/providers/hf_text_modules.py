"""Text encoders as chains of blocks, which can be cut between any two of them: ours, or those of transformers.

One tensor crosses every line: hidden (B, L, W), whose rows at padding are exactly 0. Each block makes its mask of that,
and clears the rows again that it filled. So a batch may be filled up to any length, and a cut serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from thawline.backbones.providers.hf_text_blocks import (
    NAMES,
    Block,
    Distances,
    Embeddings,
    Sizes,
    additive,
    draw,
    present,
)
from thawline.backbones.providers.hf_text_pooling import Dense, Normalize, Pooling
from thawline.backbones.providers.transformers_import import import_transformers
from thawline.errors import ModelError

if TYPE_CHECKING:
    from thawline.backbones.providers.hf_text_families import TextFamily
    from thawline.records import TextPreparation

Given = tuple[Any, ...]


class TextEncoder(nn.Module):
    """Ids of tokens int64 (B, L), filled up with ``pad`` at the end -> pooled features (B, D), by a chain of blocks."""

    embeddings: Any
    encoder: Any
    dense: Any
    final_norm: Any
    normalize: Any
    rotation: Any

    def __init__(self, family: TextFamily, preparation: TextPreparation) -> None:
        super().__init__()
        self.length, self.vocabulary, self.pad = preparation.length, preparation.vocabulary, preparation.pad
        self._blocks = family.blocks

    def hold(self, embeddings: nn.Module, blocks: nn.ModuleList) -> None:
        """Take embeddings and blocks, under the names that they have in the library."""
        self.embeddings = embeddings
        holder, _, layers = self._blocks.rpartition(".")
        if holder:
            setattr(self, holder, nn.Module())
        setattr(self.get_submodule(holder), layers, blocks)

    def end(self, width: int, settings: Mapping[str, Any]) -> None:
        """Add what follows the blocks.

        Args:
            width: Of hidden.
        """
        self.pooling = Pooling(str(settings.get("pooling", "mean")).split("+"))
        width *= len(self.pooling.modes)
        self.dense = nn.ModuleList()
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


def _vectors_given(_block: nn.Module, args: Given, _kwargs: object) -> tuple[Given, dict[str, Any]]:
    """DeBERTa: its blocks take a bool mask, and find relative positions by themselves."""
    hidden, *vectors = args
    return (hidden, present(hidden)[:, None, None]), {"rel_embeddings": vectors[0] if vectors else None}


def _angles_given(block: Any, args: Given, _kwargs: object) -> tuple[Given, dict[str, Any]]:
    """ModernBERT: some blocks see neighbours only."""
    hidden, tables = args
    length, kind = hidden.shape[1], block.attention_type
    keys = present(hidden)[:, None, None]  # (B, 1, 1, L)
    if kind == "sliding_attention":
        at = torch.arange(length, device=hidden.device)
        keys = keys & ((at[None] - at[:, None]).abs() <= block.config.sliding_window)  # (B, 1, L, L)
    angles = tuple(table[:, :length] for table in tables[kind])
    return (hidden, additive(keys, hidden)), {"position_embeddings": angles}


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
        ModelError: The family does not take these settings.
    """
    own = {key: settings[key] for key in settings if key in family.keys}
    made = TextEncoder(family, preparation)
    try:
        width = (_of_library if family.of_library else _of_ours)(made, family, own)
        made.end(width, settings)
    except ModelError:
        raise
    except Exception as error:  # the library's checks raise errors of many kinds
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"settings must be ones that {family.model_type} takes; got {dict(settings)!r}: {reason}."
        ) from error
    return made


def _of_ours(made: TextEncoder, family: TextFamily, settings: Mapping[str, Any]) -> int:
    """Fill an encoder with our own blocks; return its width."""
    names, sizes = NAMES[family.model_type], Sizes.of({**family.defaults, **settings})
    counted_from = sizes.pad_token_id if family.counts_from_pad else None
    blocks = nn.ModuleList(Block(names, sizes) for _ in range(sizes.num_hidden_layers))
    made.hold(Embeddings(names, sizes, made.pad, counted_from), blocks)
    if names.distances:
        rows = sizes.relative_attention_num_buckets or names.distances
        if rows < names.distances:
            raise ValueError(f"relative_attention_num_buckets must be at least {names.distances}")
        made.encoder.relative_attention_bias = Distances(rows, names.distances, sizes.num_attention_heads, made.length)
    draw(made)
    return sizes.hidden_size


def _of_library(made: TextEncoder, family: TextFamily, settings: Mapping[str, Any]) -> int:
    """Fill an encoder with the library's blocks; return its width."""
    library = import_transformers(f"models.{family.package}.modeling_{family.package}")
    configuration = import_transformers(f"models.{family.package}")
    model: Any = getattr(library, family.model)(getattr(configuration, family.config)(**settings))
    blocks: Any = model.get_submodule(family.blocks)
    made.hold(model.embeddings, blocks)
    made.embeddings.register_forward_hook(partial(_clear_padding, pad=made.pad))
    given = _angles_given if family.model_type == "modernbert" else _vectors_given
    for block in blocks:
        block.register_forward_pre_hook(given, with_kwargs=True)
        block.register_forward_hook(_clear_rows)
    if family.model_type == "modernbert":
        made.rotation = _Rotation(model.rotary_emb, made.length, sorted(set(model.config.layer_types)))
        made.final_norm = model.final_norm
        made.final_norm.register_forward_hook(_clear_rows)
        return int(model.config.hidden_size)
    if model.encoder.relative_attention:
        made.encoder.rel_embeddings = _Vectors(model.encoder.rel_embeddings)
    if hasattr(model.encoder, "LayerNorm"):  # which files have even where nothing is normalised by it
        made.encoder.LayerNorm = model.encoder.LayerNorm
    if model.encoder.conv is not None:
        blocks[0].conv = model.encoder.conv
        blocks[0].register_forward_hook(_convolved)
    return int(model.config.hidden_size)
