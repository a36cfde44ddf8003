"""Usual encoders of the hub: their configurations, for a ladder and a catalogue without a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_VIT_SIZES: Mapping[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    "small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, "num_hidden_layers": 24},
}


@dataclass(frozen=True, slots=True)
class Known:
    """A model of the hub as its repository describes it."""

    config: Mapping[str, Any]
    """What ``config.json`` says, as far as it decides the encoder."""
    processor: Mapping[str, Any]
    """What ``preprocessor_config.json`` says."""
    licence: str


def _vit(size: str, side: int = 224, patch: int = 16) -> Known:
    config = {"model_type": "vit", **_VIT_SIZES[size], "patch_size": patch, "layer_norm_eps": 1e-12}
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}, "resample": 2}
    return Known(config, processor, "apache-2.0")


def _deit(size: str) -> Known:
    """One without the distillation token is a ViT in the library, too."""
    config = {"model_type": "vit", **_VIT_SIZES[size], "patch_size": 16, "layer_norm_eps": 1e-12}
    return Known(config, _cropped("DeiT"), "apache-2.0")


def _dinov2(size: str, registers: bool = False) -> Known:
    config = {"model_type": "dinov2", **_VIT_SIZES[size], "mlp_ratio": 4, "patch_size": 14, "layer_norm_eps": 1e-6}
    if registers:
        config |= {"model_type": "dinov2_with_registers", "num_register_tokens": 4}
    return Known(config, _cropped("Bit", shortest=True), "apache-2.0")


def _cropped(kind: str, shortest: bool = False) -> dict[str, Any]:
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "size": {"shortest_edge": 256} if shortest else {"height": 256, "width": 256},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": 3,
        **_IMAGENET,
    }


def _swin(dim: int, depths: list[int], heads: list[int]) -> Known:
    config = {"model_type": "swin", "embed_dim": dim, "depths": depths, "num_heads": heads, "window_size": 7}
    processor = {"image_processor_type": "ViTImageProcessor", "size": 224, "resample": 3, **_IMAGENET}
    return Known({**config, "patch_size": 4, "drop_path_rate": 0.1}, processor, "apache-2.0")


def _stages(model_type: str, widths: list[int], depths: list[int], **more: Any) -> Known:
    config = {"model_type": model_type, "hidden_sizes": widths, "depths": depths, **more}
    processor = {"image_processor_type": "ConvNextImageProcessor", "size": 224, "crop_pct": 0.875, "resample": 3}
    return Known(config, processor | _IMAGENET, "apache-2.0")


def _tower(model_type: str, size: str, patch: int, licence: str) -> Known:
    config = {"model_type": model_type, "vision_config": {**_VIT_SIZES[size], "patch_size": patch}}
    kind = "CLIP" if model_type == "clip" else "Siglip"
    return Known(config, {"image_processor_type": f"{kind}ImageProcessor"}, licence)


KNOWN: Mapping[str, Known] = {
    "facebook/convnext-base-224": _stages("convnext", [128, 256, 512, 1024], [3, 3, 27, 3]),
    "facebook/convnext-small-224": _stages("convnext", [96, 192, 384, 768], [3, 3, 27, 3]),
    "facebook/convnext-tiny-224": _stages("convnext", [96, 192, 384, 768], [3, 3, 9, 3]),
    "facebook/deit-base-patch16-224": _deit("base"),
    "facebook/deit-small-patch16-224": _deit("small"),
    "facebook/deit-tiny-patch16-224": _deit("tiny"),
    "facebook/dinov2-base": _dinov2("base"),
    "facebook/dinov2-large": _dinov2("large"),
    "facebook/dinov2-small": _dinov2("small"),
    "facebook/dinov2-with-registers-base": _dinov2("base", registers=True),
    "facebook/dinov2-with-registers-small": _dinov2("small", registers=True),
    "facebook/dinov3-vits16-pretrain-lvd1689m": Known(
        {"model_type": "dinov3_vit", **_VIT_SIZES["small"], "patch_size": 16, "num_register_tokens": 4},
        {"image_processor_type": "DINOv3ViTImageProcessorFast"},
        "dinov3-license (asks for consent)",
    ),
    "google/siglip-base-patch16-224": _tower("siglip", "base", 16, "apache-2.0"),
    "google/vit-base-patch16-224": _vit("base"),
    "google/vit-base-patch16-224-in21k": _vit("base"),
    "google/vit-base-patch16-384": _vit("base", 384),
    "google/vit-large-patch16-224": _vit("large"),
    "microsoft/beit-base-patch16-224": Known(
        {
            "model_type": "beit",
            **_VIT_SIZES["base"],
            "patch_size": 16,
            "use_relative_position_bias": True,
            "use_mean_pooling": True,
            "drop_path_rate": 0.1,
            "layer_scale_init_value": 0.1,
        },
        {"image_processor_type": "BeitImageProcessor", "size": 224, "do_center_crop": False, "resample": 2},
        "apache-2.0",
    ),
    "microsoft/resnet-18": _stages("resnet", [64, 128, 256, 512], [2, 2, 2, 2], layer_type="basic"),
    "microsoft/resnet-50": _stages("resnet", [256, 512, 1024, 2048], [3, 4, 6, 3], layer_type="bottleneck"),
    "microsoft/swin-base-patch4-window7-224": _swin(128, [2, 2, 18, 2], [4, 8, 16, 32]),
    "microsoft/swin-small-patch4-window7-224": _swin(96, [2, 2, 18, 2], [3, 6, 12, 24]),
    "microsoft/swin-tiny-patch4-window7-224": _swin(96, [2, 2, 6, 2], [3, 6, 12, 24]),
    "openai/clip-vit-base-patch16": _tower("clip", "base", 16, "not stated"),
    "openai/clip-vit-base-patch32": _tower("clip", "base", 32, "not stated"),
    "openai/clip-vit-large-patch14": _tower("clip", "large", 14, "not stated"),
}
"""Repository -> what it holds. Fetched models are opened by their own files; these only describe them beforehand."""
