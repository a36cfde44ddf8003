"""Small encoders of transformers with random weights, in folders as the hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import nn

PX = 32
_TOKENS = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": PX,
    "patch_size": 8,
}
_DINOV2 = {"mlp_ratio": 2, "layerscale_value": 0.5}
_WINDOWS = {
    "image_size": PX,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "window_size": 4,
    "drop_path_rate": 0.0,
}
_TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 60,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_STAGES = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1]}

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", _TOKENS),
    "deit": ("DeiT", _TOKENS),
    "dinov2": ("Dinov2", _TOKENS | _DINOV2),
    "dinov2_with_registers": ("Dinov2WithRegisters", _TOKENS | _DINOV2 | {"num_register_tokens": 2}),
    "dinov3_vit": ("DINOv3ViT", _TOKENS | {"num_register_tokens": 2, "image_size": PX}),
    "beit": ("Beit", _TOKENS | {"use_relative_position_bias": True, "drop_path_rate": 0.0}),
    "swin": ("Swin", _WINDOWS),
    "swinv2": ("Swinv2", _WINDOWS),
    "convnext": ("ConvNext", _STAGES),
    "convnextv2": ("ConvNextV2", _STAGES),
    "resnet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2], "layer_type": "basic"}),
    "clip": ("CLIP", {"vision_config": _TOKENS, "text_config": _TEXT, "projection_dim": 8}),
    "siglip": ("Siglip", {"vision_config": _TOKENS, "text_config": _TEXT}),
}
"""model_type -> name of the classes in transformers, settings."""


def need_transformers() -> Any:
    """Return the library, made importable; skip the test without it."""
    from thawline.backbones.providers.timm_import import import_timm

    import_timm()
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install thawline[hf]")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def library_model(model_type: str, *, classifier: bool = True, **different: Any) -> nn.Module:
    """Build a model with random weights in which every tensor matters; with a classifier where the library has one."""
    import torch

    transformers = need_transformers()
    name, settings = SMALL[model_type]
    config = getattr(transformers, f"{name}Config")(**settings | different)
    task = "ForImageClassification" if classifier and model_type not in ("clip", "siglip", "dinov3_vit") else "Model"
    if task != "Model":
        config.num_labels = 5
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = getattr(transformers, f"{name}{task}")(config).eval()
        for held in model.parameters():
            held.add_(torch.randn(held.shape) * 0.1)
        for key, buffer in model.named_buffers():
            if key.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape) * 0.1)
    return model


def save(model: nn.Module, folder: Path, processor: dict[str, Any] | None = None) -> Path:
    """Write a folder as the library writes it, with ``preprocessor_config.json`` if given."""
    model.save_pretrained(folder)  # type: ignore[operator]
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def processor_of(model_type: str) -> dict[str, Any]:
    """Return what a processor for the small models would say."""
    kind = "CLIP" if model_type == "clip" else "ViT"
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "size": {"height": PX, "width": PX},
        "do_center_crop": False,
    }


def features_of(model: nn.Module, samples: Any, **asked: Any) -> Any:
    """Return what the library's own classifier sees (DINOv2: of it, the class token)."""
    import torch

    base = getattr(model, "vision_model", model)
    if type(model).__name__.endswith("Classification"):
        base = getattr(model, model.base_model_prefix)  # type: ignore[arg-type]
    with torch.no_grad():
        given = base(samples, **asked)
    if type(base).__name__ in ("ViTModel", "DeiTModel"):
        return given.last_hidden_state[:, 0]
    return given.pooler_output.flatten(1)
