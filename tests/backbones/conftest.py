"""A real timm architecture, small enough to build in milliseconds, with weights on disk in the two usual forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from thawline.backbones import Backbone, LoadReceipt

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


def check_sum(receipt: LoadReceipt, backbone: Backbone, *files: Path) -> None:
    """Compare with the file as its library reads it, and with the module that was built."""
    in_model = [tensor.name for tensor in receipt.tensors if tensor.fate != "unused"]
    assert sorted(in_model) == sorted(backbone.module().state_dict())
    in_file = [name for tensor in receipt.tensors for name in tensor.sources]
    from safetensors import safe_open

    names = []
    for path in files:
        with safe_open(path, "pt") as opened:
            names += list(opened.keys())
    assert sorted(in_file) == sorted(names)
    assert sum(receipt.counts().values()) == len(receipt.tensors)
    stored = sum(tensor.numel() for tensor in backbone.module().state_dict().values())
    assert sum(n for fate, n in receipt.numbers().items() if fate != "unused") == stored


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
