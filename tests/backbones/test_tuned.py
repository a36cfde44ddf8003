"""A tuned backbone is its source with the weights that training left, and nobody takes one for the other."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from thawline.backbones import Backbone, open_backbone
from thawline.backbones.providers.timm import build
from thawline.errors import ModelError, StorageError, WeightsError


def trained(backbone: Backbone, seed: int = 0) -> nn.Module:
    """A module of the backbone's architecture with other weights and statistics, as a training might leave it."""
    module = build(backbone.architecture, backbone.model_args, backbone.preparation)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=draws) * 0.2 + 0.01)
            else:
                tensor.fill_(7)
    return module


@pytest.fixture
def source(weights_file: Path) -> Backbone:
    return open_backbone(f"timm/test_resnet@{weights_file}", model_args={"act_layer": "gelu"}, input_px=96)


def images(px: int = 96) -> torch.Tensor:
    return torch.randn(3, 3, px, px, generator=torch.Generator().manual_seed(0))


def test_it_runs_as_the_trained_module_does(source: Backbone, tmp_path: Path) -> None:
    module = trained(source)
    tuned = source.tuned(module, tmp_path / "tuned.safetensors")
    assert not tuned.is_built
    with torch.no_grad():
        assert torch.equal(tuned.module()(images()), module(images()))
        assert not torch.equal(tuned.module()(images()), source.module()(images()))
    assert not tuned.module().training
    assert not any(parameter.requires_grad for parameter in tuned.module().parameters())


def test_it_is_its_source_in_all_but_its_weights(source: Backbone, tmp_path: Path) -> None:
    tuned = source.tuned(trained(source), tmp_path / "tuned.safetensors")
    for name in ("name", "title", "architecture", "model_args", "preparation", "settings"):
        assert getattr(tuned, name) == getattr(source, name), name
    assert tuned.tensors.path == tmp_path / "tuned.safetensors"
    assert tuned.n_parameters() == source.n_parameters()


def test_its_digest_follows_its_weights(source: Backbone, tmp_path: Path) -> None:
    one, same, other = (
        source.tuned(trained(source, seed), tmp_path / f"{number}.safetensors") for number, seed in enumerate((1, 1, 2))
    )
    assert one.weights_sha256 == same.weights_sha256
    assert len({source.weights_sha256, one.weights_sha256, other.weights_sha256}) == 3


@pytest.mark.parametrize("as_trained", ["float64", "bfloat16", "channels_last", "gradients"])
def test_every_float_is_stored_as_float32_row_by_row(source: Backbone, tmp_path: Path, as_trained: str) -> None:
    module = trained(source)
    if as_trained == "channels_last":
        module.to(memory_format=torch.channels_last)
    elif as_trained == "gradients":
        module.train().requires_grad_(True)
    else:
        module.to(getattr(torch, as_trained))
    expected = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    source.tuned(module, tmp_path / "tuned.safetensors")
    with safe_open(tmp_path / "tuned.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(expected)
        for name, tensor in expected.items():
            kind = "I64" if name.endswith("num_batches_tracked") else "F32"
            assert file.get_slice(name).get_dtype() == kind, name
            assert torch.equal(file.get_tensor(name), tensor.float() if kind == "F32" else tensor), name
    for name, tensor in module.state_dict().items():
        assert (tensor.dtype, tensor.stride()) == (expected[name].dtype, expected[name].stride()), "left as it was"


def test_training_on_does_not_reach_it(source: Backbone, tmp_path: Path) -> None:
    module = trained(source)
    tuned = source.tuned(module, tmp_path / "tuned.safetensors")
    with torch.no_grad():
        before = module(images())
        for parameter in module.parameters():
            parameter.mul_(1.5)
        assert torch.equal(tuned.module()(images()), before)


def test_it_can_be_tuned_again(source: Backbone, tmp_path: Path) -> None:
    once = source.tuned(trained(source, 1), tmp_path / "once.safetensors")
    twice = once.tuned(trained(source, 2), tmp_path / "twice.safetensors")
    unchanged = once.tuned(once.module(), tmp_path / "unchanged.safetensors")
    assert unchanged.weights_sha256 == once.weights_sha256 != twice.weights_sha256


@pytest.mark.parametrize(
    ("architecture", "px"), [("test_efficientnet", 160), ("test_vit", 160), ("test_convnext", 160), ("resnet10t", 64)]
)
def test_a_backbone_that_never_had_weights_gets_them(architecture: str, px: int, tmp_path: Path) -> None:
    described = open_backbone(f"timm/{architecture}", architecture_only=True)
    module = trained(described)
    tuned = described.tuned(module, tmp_path / "scratch.safetensors")
    with torch.no_grad():
        assert torch.equal(tuned.module()(images(px)), module(images(px)))
    assert tuned.receipt("head").status == "clean"
    assert len(tuned.weights_sha256) == 64
    with pytest.raises(ModelError, match="opened for its architecture only"):
        described.module()


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


def test_a_module_of_another_make_is_refused_before_anything_is_written(source: Backbone, tmp_path: Path) -> None:
    resnet10t = open_backbone("timm/resnet10t", architecture_only=True)
    with_classifier = trained(source)
    with_classifier.fc = nn.Linear(with_classifier.num_features, 2)
    folder = tmp_path / "new"
    folder.mkdir()
    for module in (Wrapped(trained(source)), trained(resnet10t), with_classifier):
        with pytest.raises(WeightsError, match=r"fit the architecture test_resnet; .*\(the trained module\): "):
            source.tuned(module, folder / "tuned.safetensors")
    assert not list(folder.iterdir())


def test_a_disk_that_is_full_leaves_what_was_there(
    source: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tuned.safetensors"
    source.tuned(trained(source, 1), path)
    before, files = path.read_bytes(), sorted(tmp_path.iterdir())

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="cannot be written: the disk is full"):
        source.tuned(trained(source, 2), path)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == files


def test_the_file_can_be_opened_by_hand(source: Backbone, tmp_path: Path) -> None:
    """It says nothing of itself, so architecture, arguments and input are given; nothing is excluded from it."""
    tuned = source.tuned(trained(source), tmp_path / "tuned.safetensors")
    again = open_backbone(
        f"timm/test_resnet@{tmp_path / 'tuned.safetensors'}", model_args={"act_layer": "gelu"}, input_px=96
    )
    assert again.weights_sha256 == tuned.weights_sha256
    header = (tmp_path / "tuned.safetensors").read_bytes()
    length = int.from_bytes(header[:8], "little")
    assert json.loads(header[8 : 8 + length])["__metadata__"] == {"format": "pt"}
