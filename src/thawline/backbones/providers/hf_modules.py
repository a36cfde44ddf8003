"""Encoders of transformers as chains of their own blocks, which can be cut between any two of them.

The library's models cannot be traced by ``torch.fx``. Its blocks can be run one after the other, and that is all that
these modules do: they hold the library's own layers under the library's own names, and give what it gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from thawline.backbones.providers.transformers_import import import_transformers
from thawline.errors import ModelError

if TYPE_CHECKING:
    from thawline.backbones.providers.hf_families import Family


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) -> pooled features (B, D), by a chain of blocks."""

    embeddings: Any
    encoder: Any
    """Holds the blocks, or the stages of blocks."""
    layernorm: Any

    def __init__(self, *, input_px: int, num_prefix_tokens: int) -> None:
        super().__init__()
        self.input_px = input_px
        self.num_prefix_tokens = num_prefix_tokens
        """Tokens that stand before those of the patches, as timm calls it."""


class Tokens(Encoder):
    """A vision transformer: one block after the other on the same tokens."""

    pooler: Any
    head: Any
    pre_layrnorm: Any
    shared_position_bias: Any

    def __init__(self, model: Any, family: Family, input_px: int, patch_px: int, num_prefix_tokens: int) -> None:
        super().__init__(input_px=input_px, num_prefix_tokens=num_prefix_tokens)
        self._family = family
        self.embeddings = model.embeddings
        self.embeddings.mask_token = None  # hides patches in pre-training, and is used for nothing else
        for name in ("pre_layrnorm", "shared_position_bias"):
            if isinstance(held := getattr(model, name, None), nn.Module):
                setattr(self, name, held)
        holder, _, layers = family.blocks.rpartition(".")
        blocks = model.get_submodule(family.blocks)
        if holder:
            setattr(self, holder, _holder(**{layers: blocks}))
        else:
            setattr(self, layers, blocks)
        if isinstance(norm := getattr(model, family.norm), nn.LayerNorm):
            setattr(self, family.norm, norm)
        if family.pooling == "beit" and isinstance(model.pooler.layernorm, nn.LayerNorm):
            self.pooler = _holder(layernorm=model.pooler.layernorm)
        if family.pooling == "siglip" and getattr(model, "use_head", False):
            self.head = model.head
        self._grid = (input_px // patch_px,) * 2
        self._each: dict[str, Any] = {"resolution": (input_px, input_px)} if family.pooling == "beit" else {}
        if isinstance(rotating := getattr(model, "rope_embeddings", None), nn.Module):
            self.rope = _Rotation(rotating, next(model.parameters()), input_px)

    def forward(self, samples: torch.Tensor) -> Any:
        """(B, 3, H, W) -> (B, D)"""
        tokens = self.embeddings(samples)  # (B, T, D)
        if hasattr(self, "pre_layrnorm"):
            tokens = self.pre_layrnorm(tokens)
        each = dict(self._each)
        if hasattr(self, "rope"):
            each["position_embeddings"] = self.rope()
        mask = self.shared_position_bias(self._grid) if hasattr(self, "shared_position_bias") else None
        blocks: Any = self.get_submodule(self._family.blocks)
        for block in blocks:
            tokens = block(tokens, mask, **each)
        return self._pool(tokens)

    def _pool(self, tokens: Any) -> Any:
        """(B, T, D) -> (B, D), as the library's classifier sees it."""
        norm: Any = getattr(self, self._family.norm, None)
        if self._family.pooling == "clip":
            return norm(tokens[:, 0])
        if norm is not None:
            tokens = norm(tokens)
        if hasattr(self, "pooler"):
            return self.pooler.layernorm(tokens[:, 1:].mean(1))
        if self._family.pooling == "siglip":
            return self.head(tokens) if hasattr(self, "head") else tokens.mean(1)
        return tokens[:, 0]


class _Rotation(nn.Module):
    """Angles of rotary positions for one input size: constants, without the random shifts of pre-training."""

    def __init__(self, rotating: nn.Module, like: torch.Tensor, input_px: int) -> None:
        super().__init__()
        with torch.no_grad():
            cos, sin = rotating.eval()(like.new_empty(1, 3, input_px, input_px))
        self.cos, self.sin = nn.Buffer(cos, persistent=False), nn.Buffer(sin, persistent=False)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Two of (patches, head dimension)."""
        return self.cos, self.sin


class Windows(Encoder):
    """Swin: stages of blocks with attention inside windows; patches are merged after each stage but the last."""

    def __init__(self, model: Any, input_px: int, patch_px: int, window: int) -> None:
        super().__init__(input_px=input_px, num_prefix_tokens=0)
        self.embeddings = model.embeddings
        self.embeddings.mask_token = None
        self.embeddings.register_forward_hook(_first)
        self.encoder = _holder(layers=model.encoder.layers)
        self.layernorm = model.layernorm
        self._sizes: list[tuple[int, int]] = []
        side = -(-input_px // patch_px)
        for stage in self.encoder.layers:
            if side < window and hasattr(stage.blocks[0], "set_shift_and_window_size"):
                raise ModelError(
                    f"Swin must see at least {window} x {window} patches in each stage; got {side} x {side}."
                )
            for block in stage.blocks:
                block.register_forward_hook(_first)
                if side <= window and hasattr(block, "set_shift_and_window_size"):
                    block.shift_size = 0  # one window: what the library sets in its first forward pass
            self._sizes.append((side, side))
            side = -(-side // 2) if stage.downsample is not None else side
        first = self.encoder.layers[0].blocks[0]
        # Sizes are settled above; the library's own way would keep a traced number in the block
        self._each = {"always_partition": True} if hasattr(first, "set_shift_and_window_size") else {}

    def forward(self, samples: torch.Tensor) -> Any:
        """(B, 3, H, W) -> (B, D)"""
        tokens = self.embeddings(samples)  # (B, T, D)
        for stage, size in zip(self.encoder.layers, self._sizes, strict=True):
            for block in stage.blocks:
                tokens = block(tokens, size, **self._each)
            if stage.downsample is not None:
                tokens = stage.downsample(tokens, size)  # (B, T, D) -> (B, T / 4, 2 D)
        return self.layernorm(tokens).mean(1)


class Stages(Encoder):
    """A convolutional net: stages of blocks, each with its own way of becoming smaller."""

    embedder: Any

    def __init__(self, model: Any, input_px: int) -> None:
        super().__init__(input_px=input_px, num_prefix_tokens=0)
        for name in ("embeddings", "embedder", "layernorm"):
            if isinstance(held := getattr(model, name, None), nn.Module):
                setattr(self, name, held)
        self.encoder = _holder(stages=model.encoder.stages)

    def forward(self, samples: torch.Tensor) -> Any:
        """(B, 3, H, W) -> (B, C)"""
        maps = self.embeddings(samples) if hasattr(self, "embeddings") else self.embedder(samples)  # (B, C, h, w)
        for stage in self.encoder.stages:
            for layer in getattr(stage, "downsampling_layer", ()):
                maps = layer(maps)
            for layer in stage.layers:
                maps = layer(maps)
        maps = maps.mean((2, 3))
        return self.layernorm(maps) if hasattr(self, "layernorm") else maps


def encoder(family: Family, settings: Mapping[str, Any], input_px: int) -> Encoder:
    """Build an encoder with random weights.

    Raises:
        ModelError: The library does not take these settings, or the encoder does not take pictures of that size.
    """
    library = import_transformers(f"models.{family.package}")
    try:
        config = getattr(library, family.config)(**settings, **_size_in(family, input_px))
        patch = int(getattr(config, "patch_size", 1))
        if input_px < patch or (family.layout == "tokens" and input_px % patch):
            near = max(round(input_px / patch), 1) * patch
            raise ModelError(f"input must be a multiple of {patch} px; got {input_px} px. Take --input-px {near}.")
        model: Any = getattr(library, family.model)(config)
        if family.layout == "tokens":
            n_prefix = family.n_prefix + getattr(config, "num_register_tokens", 0)
            return Tokens(model, family, input_px, patch, n_prefix)
        if family.layout == "windows":
            return Windows(model, input_px, patch, config.window_size)
        return Stages(model, input_px)
    except ModelError:
        raise
    except Exception as error:  # its checks raise errors of many kinds
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"settings must be ones that transformers' {family.model_type} takes; got {dict(settings)!r}: {reason}."
        ) from error


def _size_in(family: Family, input_px: int) -> dict[str, Any]:
    return {} if family.model_type == "resnet" else {"image_size": input_px}


def _holder(**children: Any) -> nn.Module:
    """Return a module that only holds others, under the names that they have in the library."""
    holder = nn.Module()
    for name, child in children.items():
        setattr(holder, name, child)
    return holder


def _first(_layer: nn.Module, _inputs: object, output: torch.Tensor | Sequence[Any]) -> torch.Tensor:
    """Leave out what a layer gives beside its activations: sizes, attention weights."""
    first: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return first
