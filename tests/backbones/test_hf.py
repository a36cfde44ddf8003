"""Encoders of transformers: opened, taken apart, interpolated, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.hf_models import PX, SMALL, features_of, library_model, processor_of, save

import thawline as tl

Make = Callable[..., tuple[Path, Any]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """(model_type, **settings) -> a folder that holds such a model, and the model itself."""

    def made(model_type: str, *, folder: str = "model", **settings: Any) -> tuple[Path, Any]:
        model = library_model(model_type, **settings)
        return save(model, tmp_path / folder, processor_of(model_type)), model

    return made


def pictures(n: int = 3, px: int = PX) -> torch.Tensor:
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(0))


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return found.shape == expected.shape and float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("model_type", SMALL)
def test_features_are_what_the_library_gives(make: Make, model_type: str) -> None:
    folder, model = make(model_type)
    backbone = tl.open_backbone(f"hf/{model_type}@{folder}")
    found = backbone.module()(pictures())
    assert close(found, features_of(model, pictures()))
    assert found.shape[1] == backbone.ladder.rungs[-1].shape[-1]
    receipt = backbone.load_receipt().counts()
    assert receipt["random"] == receipt["adapted"] == 0
    assert receipt["loaded"] == len(backbone.module().state_dict())
    assert backbone.n_parameters() == sum(held.numel() for held in backbone.module().parameters())


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("beit", {"use_relative_position_bias": False, "use_shared_relative_position_bias": True}),
        ("beit", {"use_mean_pooling": False, "use_absolute_position_embeddings": True}),
        ("swin", {"depths": [2, 2, 1], "num_heads": [2, 2, 2], "window_size": 4, "use_absolute_embeddings": True}),
        ("swinv2", {"window_size": 12}),
        ("dinov2", {"use_swiglu_ffn": True}),
        ("dinov3_vit", {"use_gated_mlp": True, "key_bias": True}),
        ("resnet", {"layer_type": "bottleneck", "downsample_in_first_stage": True}),
        ("siglip", {"vision_config": SMALL["siglip"][1]["vision_config"] | {"hidden_act": "gelu"}}),
    ],
)
def test_features_of_other_settings_too(make: Make, model_type: str, settings: dict[str, Any]) -> None:
    folder, model = make(model_type, **settings)
    backbone = tl.open_backbone(f"hf/{model_type}@{folder}")
    assert close(backbone.module()(pictures()), features_of(model, pictures()))
