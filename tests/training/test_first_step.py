"""The backbone's rate follows from what its first step would do, whatever the size of its weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from thawline.backbones import Backbone, open_backbone
from thawline.backbones.thaw import resolve_thaw
from thawline.data.digits import open_digits
from thawline.engines.torch_engine import TorchEngine
from thawline.features.prepared import PreparedSamples
from thawline.heads import fit_head
from thawline.heads.head import LinearHead
from thawline.heads.modules import to_module
from thawline.records import Dataset
from thawline.training.first_step import safe_share
from thawline.training.net import Above, Net
from thawline.training.settings import TrainPlan

PLAN = TrainPlan.model_validate({})


@cache
def digits() -> Dataset:
    return open_digits(10)


def shrunk(folder: Path, factor: float) -> Backbone:
    """The embedded backbone with smaller convolutions, and batch norms that make up for it: the same function."""
    source = open_backbone(input_px=32)
    tensors = load_file(source.tensors.path)
    for name, tensor in tensors.items():
        if tensor.ndim == 4:
            tensors[name] = tensor.float() * factor
        elif name.endswith("running_mean"):
            tensors[name] = tensor.float() * factor
        elif name.endswith("running_var"):
            tensors[name] = tensor.float() * factor**2
    path = folder / f"{factor}.safetensors"
    save_file(tensors, path, {"architecture": source.architecture})
    p = source.preparation
    return open_backbone(
        f"timm/{source.architecture}@{path}", model_args=source.model_args, input_px=32, mean=p.mean, std=p.std
    )


def share_of(backbone: Backbone, settings: TrainPlan = PLAN) -> float:
    data = digits()
    rows = np.flatnonzero(data.given == "train")
    prepared = PreparedSamples(data, backbone.preparation)
    features = TorchEngine(backbone, precision="f32", device="cpu").run(np.stack([prepared.of(int(r)) for r in rows]))
    head = fit_head("logistic", features, data.labels[rows], len(data.classes)).head
    assert isinstance(head, LinearHead)
    thaw = resolve_thaw(backbone.ladder, "stage:layer4", backbone.blueprint())
    above = Above(Net(backbone.build(), to_module(head)), thaw, backbone.signature, moving_statistics=False)
    above.net.backbone.load_state_dict(backbone.module().state_dict())
    before = {name: tensor.clone() for name, tensor in above.net.state_dict().items()}
    share = safe_share(above, data, rows, backbone, len(data.classes), settings)
    assert all(torch.equal(before[name], tensor) for name, tensor in above.net.state_dict().items())
    return share


def test_small_weights_learn_more_slowly(tmp_path: Path) -> None:
    usual, small = share_of(shrunk(tmp_path, 1.0)), share_of(shrunk(tmp_path, 1 / 64))
    assert usual == 1.0 and small <= 0.25


def test_a_rate_that_is_small_enough_is_taken_whole(tmp_path: Path) -> None:
    assert share_of(open_backbone(input_px=32), PLAN.changed(lr=1e-5)) == 1.0


@pytest.mark.parametrize("lr", [1e-3, 1.0])
def test_the_share_is_a_power_of_two_with_a_least_one(lr: float) -> None:
    share = share_of(open_backbone(input_px=32), PLAN.changed(lr=lr))
    assert share in [2.0**-n for n in range(7)]
    assert lr < 1 or share == 2.0**-6
