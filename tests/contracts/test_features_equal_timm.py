"""From picture files to features: Thawline's preprocessing and engine against timm's own, in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm


def plain_timm(model: torch.nn.Module, preparation: dict[str, object], paths: list[Path]) -> np.ndarray:
    """What a careful script does."""
    timm = import_timm()
    transform = timm.data.create_transform(**preparation, is_training=False)
    with torch.inference_mode():
        batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
        return model.forward_head(model.forward_features(batch), pre_logits=True).numpy()


def same(features: np.ndarray, expected: np.ndarray) -> bool:
    """Pixels may be a level or two off where a picture is cropped before it is resized; nothing else may differ."""
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(expected, axis=1)
    return bool(((features * expected).sum(1) / lengths).min() > 0.99999)


def test_real_photos_and_weights(real_data: Path, real_weights: Path) -> None:
    weights = real_weights / "mobilenetv2_100.imagenet.safetensors"
    data = tl.open_data(real_data / "hymenoptera")
    rows = [row for row, file in enumerate(data.files) if file.endswith(".jpg")][::12]
    paths = [data.root / data.files[row] for row in rows]
    features = tl.extract_features(data, tl.open_backbone(f"timm/mobilenetv2_100@{weights}"), precision="f32")
    model = import_timm().create_model("mobilenetv2_100", pad_type="same", checkpoint_path=str(weights)).eval()
    settings = {"input_size": (3, 224, 224), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 0.875}
    expected = plain_timm(model, settings | {"interpolation": "bicubic"}, paths)
    assert len(rows) > 30
    assert same(features.values[rows], expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_tiny_pictures_and_the_embedded_model(tiny_photos: Path, interpolation: str, crop_pct: float) -> None:
    backbone = tl.open_backbone(interpolation=interpolation, crop_pct=crop_pct, mean=(0.4, 0.5, 0.6), std=0.25)
    data = tl.open_data(tiny_photos)
    features = tl.extract_features(data, backbone, precision="f32")
    model = import_timm().create_model(backbone.architecture, num_classes=0, **backbone.model_args)
    model.load_state_dict(backbone.tensors.load())
    size = backbone.preparation.input_px[0]
    settings = {"input_size": (3, size, size), "mean": (0.4, 0.5, 0.6), "std": (0.25,) * 3, "crop_pct": crop_pct}
    paths = [data.root / file for file in data.files]
    expected = plain_timm(model.eval(), settings | {"interpolation": interpolation}, paths)
    assert same(features.values, expected)
    assert np.abs(expected).max() > 0.1
