"""A real timm architecture, small enough to build in milliseconds, with weights on disk in the two usual forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFIG = {
    "input_size": [3, 64, 64],
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.25, 0.3],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "first_conv": "conv1",
    "classifier": "fc",
}


def state_dict(architecture: str = "test_resnet", seed: int = 0, **model_args):
    import torch

    from thawline.backbones.providers.timm_import import import_timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = import_timm().create_model(architecture, num_classes=7, **model_args)
        for name, buffer in model.named_buffers():  # statistics that a default would not have
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape))
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    from safetensors.torch import save_file

    path = tmp_path / "small.safetensors"
    metadata = {"architecture": "test_resnet", "model_args": "{}", "pretrained_cfg": json.dumps(CONFIG)}
    save_file(state_dict(), path, metadata)
    return path


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    """A folder as timm's hub repositories are: model.safetensors and config.json."""
    from safetensors.torch import save_file

    folder = tmp_path / "hub"
    folder.mkdir()
    save_file(state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": CONFIG}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
