"""The first convolution and its batch norm, wherever a model comes from, and what happens before them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.backbones.conftest import state_dict

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.providers.timm_import import import_timm
from thawline.planning import stems
from thawline.planning.source_memory import SAME, ColourMap
from thawline.planning.stems import stem_of
from thawline.scale import cache_root


def bare(path: Path, architecture: str = "test_resnet") -> Backbone:
    save_file(state_dict(architecture), path)
    return tl.open_backbone(f"timm/{architecture}@{path}")


@pytest.mark.parametrize(
    ("architecture", "norm"),
    [("test_resnet", "conv1.1"), ("test_efficientnet", "bn1"), ("test_vit", None), ("test_convnext", None)],
)
def test_the_first_batch_norm_is_found_in_the_architecture(tmp_path: Path, architecture: str, norm: str | None) -> None:
    backbone = bare(tmp_path / "a.safetensors", architecture)
    stem = stem_of(backbone)
    if norm is None:
        assert stem is None
        return
    assert stem is not None and stem.norm == norm and stem.own.is_close(SAME)
    assert not backbone.is_built
    seen = []
    module = backbone.module()
    module.get_submodule(norm).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(2, *backbone.preparation.tensor_shape, generator=torch.Generator().manual_seed(0))
    module(images)
    own = torch.nn.functional.conv2d(images.double(), torch.from_numpy(stem.weight), stride=2, padding=1)
    assert torch.allclose(own.float(), seen[0], atol=1e-4)
    assert np.array_equal(stem.mean, module.get_submodule(norm).running_mean.double().numpy())


class Net(torch.nn.Module):
    """A stem behind something that the model does to its input itself."""

    def __init__(self, before: torch.nn.Module, channels: int = 3) -> None:
        super().__init__()
        self.before, self.conv, self.bn = before, torch.nn.Conv2d(channels, 8, 3), torch.nn.BatchNorm2d(8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.bn(self.conv(self.before(images))).mean((2, 3))
        return pooled


class Apply(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: torch.Tensor) -> Any:
        return self.function(images)


def holding(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A backbone whose module is this one."""
    built_only(monkeypatch)
    backbone = bare(tmp_path / "a.safetensors")
    backbone.tensors = type(backbone.tensors)(tmp_path / "net.safetensors")
    save_file(net.state_dict(), backbone.tensors.path)
    monkeypatch.setattr(backbone, "build", lambda: net.eval().requires_grad_(False))
    return backbone


@pytest.mark.parametrize(("before", "expected"), [
    (torch.nn.Identity(), SAME),
    (torch.nn.ZeroPad2d(3), SAME),
    (Apply(lambda x: x.flip(1)), ColourMap(np.eye(3)[::-1].copy(), np.zeros(3))),
    (torch.nn.Sequential(torch.nn.ZeroPad2d(1), Apply(lambda x: 2 * x - 1)), ColourMap(2 * np.eye(3), -np.ones(3))),
    (Apply(lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1)), ColourMap(np.full((3, 3), 1 / 3), np.zeros(3))),
], ids=["nothing", "padding", "blue first", "rescaling", "grey"])  # fmt: skip
def test_what_the_model_does_before_its_first_convolution_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: torch.nn.Module, expected: ColourMap
) -> None:
    stem = stem_of(holding(Net(before), tmp_path, monkeypatch))
    assert stem is not None and stem.norm == "bn"
    assert stem.own.matrix == pytest.approx(expected.matrix, abs=1e-5)
    assert stem.own.offset == pytest.approx(expected.offset, abs=1e-5)


def test_a_single_channel_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = stem_of(holding(Net(Apply(lambda x: x.mean(1, keepdim=True)), channels=1), tmp_path, monkeypatch))
    assert stem is not None and stem.weight.shape == (8, 1, 3, 3)
    assert stem.own.matrix == pytest.approx(np.full((1, 3), 1 / 3), abs=1e-5) and stem.own.drops_colour


@pytest.mark.parametrize(
    "before", [Apply(lambda x: x**2), Apply(lambda x: 0 * x), Apply(lambda x: x.repeat(1, 2, 1, 1)[:, :4])]
)  # fmt: skip
def test_what_is_no_affine_map_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: torch.nn.Module
) -> None:
    try:
        assert stem_of(holding(Net(before), tmp_path, monkeypatch)) is None
    except RuntimeError as error:
        pytest.fail(f"raised {error}")


@pytest.mark.parametrize("names", [
    {"conv1": 8, "bn1": 8, "bn2": 8}, {"features.0": 8, "features.1": 8, "features.4": 8},
    {"conv_stem": 8, "bn1": 8, "bn2": 9}, {"stem.conv": 8, "stem.bn": 8, "bn": 8},
    {"features.conv0": 8, "features.norm0": 8},
])  # fmt: skip
def test_names_tell_it_without_building(names: dict[str, int]) -> None:
    (conv, n), (norm, _), *_ = names.items()
    shapes = {f"{conv}.weight": (n, 3, 3, 3)} | {f"{k}.running_mean": (v,) for k, v in list(names.items())[1:]}
    found = stems._by_names(shapes)
    assert found is not None and (found.conv, found.norm) == (conv, norm)
    assert stems._by_names(shapes | {"other.weight": (8, 3, 7, 7)}) is None, "two that take three channels"
    assert stems._by_names({f"{conv}.weight": (n, 3, 3, 3), "layer.bn.running_mean": (n,)}) is None, "none beside it"


def test_the_shipped_model_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tl.open_backbone()
    monkeypatch.setattr(backbone, "build", lambda: pytest.fail("the model was built"))
    stem = stem_of(backbone)
    assert stem is not None and (stem.conv, stem.norm) == ("conv1", "bn1")


def built_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find places by building, as for families that are not timm's."""
    monkeypatch.setattr(stems, "_PLAIN", ())


def test_the_place_is_kept_for_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_only(monkeypatch)
    first = stem_of(bare(tmp_path / "a.safetensors"))
    again = tl.open_backbone(f"timm/test_resnet@{tmp_path / 'a.safetensors'}")
    monkeypatch.setattr(again, "blueprint", lambda: pytest.fail("the model was built again"))
    found = stem_of(again)
    assert first is not None and found is not None
    assert (found.conv, found.norm) == (first.conv, first.norm) and np.array_equal(found.weight, first.weight)


@pytest.mark.parametrize("damaged", ["", "{}", "[1]", '{"conv": "a", "norm": "b", "matrix": [[1]], "offset": [1, 2]}'])
def test_a_damaged_place_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str) -> None:
    built_only(monkeypatch)
    backbone = bare(tmp_path / "a.safetensors")
    stem_of(backbone)
    (kept,) = (cache_root() / "stems").glob("*.json")
    good = json.loads(kept.read_text())
    kept.write_text(damaged)
    stem = stem_of(backbone)
    assert stem is not None and stem.norm == "conv1.1"
    assert json.loads(kept.read_text()) == good


def test_a_cache_that_cannot_be_written_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    built_only(monkeypatch)
    monkeypatch.setattr(stems, "cache_root", lambda: tmp_path / "file")
    assert stem_of(bare(tmp_path / "a.safetensors")) is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    ["resnet18", "resnet50d", "densenet121", "regnety_002", "vgg11_bn", "mobilenetv3_small_050", "dla34", "hrnet_w18",
     "inception_v3", "repvgg_a0", "resnetv2_50d_evos", "convmixer_768_32", "levit_128s", "ghostnet_050", "dpn48b"],
)  # fmt: skip
def test_the_first_batch_norm_takes_what_the_first_convolution_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    with torch.device("meta"):
        module = import_timm().create_model(architecture, num_classes=0).eval()
    save_file({name: torch.zeros(t.shape, dtype=t.dtype) for name, t in module.state_dict().items()},
              tmp_path / "a.safetensors")  # fmt: skip
    backbone = tl.open_backbone(f"timm/{architecture}@{tmp_path / 'a.safetensors'}")
    given: dict[int, torch.Tensor] = {}
    pairs = []
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.in_channels == 3:
            layer.register_forward_hook(lambda _, __, output: given.update({id(output): output}))
        if isinstance(getattr(layer, "running_mean", None), torch.Tensor):
            layer.register_forward_pre_hook(
                lambda _, inputs, name=name: pairs.append(name) if id(inputs[0]) in given else None
            )
    with torch.no_grad():
        module(torch.empty(1, *backbone.preparation.tensor_shape, device="meta"))
    monkeypatch.setattr(type(backbone), "weights_sha256", architecture)  # weights of zeros are refused
    by_names = stems.place_of(backbone)
    built_only(monkeypatch)
    for place in (by_names, stems.place_of(backbone)):
        assert place is None or place.norm == "" if not pairs else place is not None and place.norm in pairs
