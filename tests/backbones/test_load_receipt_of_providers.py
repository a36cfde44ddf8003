"""The load receipt of each kind of file and library: compare with what the library itself lists in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.hf_models import library_model, processor_of, save
from tests.keras_models import built, keras_or_skip, saved

import thawline as tl
from thawline.backbones import Backbone, LoadReceipt
from thawline.backbones.matching import COUNTER
from thawline.backbones.providers.timm_import import import_timm


def check(backbone: Backbone, in_file: list[str]) -> LoadReceipt:
    """Every tensor of the module stands there once, and so does every tensor of the file."""
    receipt = backbone.load_receipt()
    assert sorted(t.name for t in receipt.tensors if t.fate != "unused") == sorted(backbone.module().state_dict())
    assert sorted(name for tensor in receipt.tensors for name in tensor.sources) == sorted(in_file)
    return receipt


def resnet18() -> dict[str, torch.Tensor]:
    import_timm()
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state: dict[str, torch.Tensor] = torchvision.models.resnet18(num_classes=5).state_dict()
    return state


def test_a_checkpoint_of_pytorch(tmp_path: Path) -> None:
    state = resnet18()
    path = tmp_path / "checkpoint.pth"
    training = {"state": {0: {"exp_avg": torch.ones(3)}}}
    torch.save({"model": {f"module.{name}": held for name, held in state.items()}, "optimizer": training}, path)
    in_file = [*(f"model.module.{name}" for name in state), "optimizer.state.0.exp_avg"]
    receipt = check(tl.open_backbone(f"torchvision/resnet18@{path}"), in_file)
    assert (receipt.file, receipt.counts()["loaded"]) == ("checkpoint.pth", len(state) - 2)
    assert {tensor.sources[0]: tensor.how for tensor in receipt.of("unused")} == {
        "model.module.fc.weight": "classifier",
        "model.module.fc.bias": "classifier",
        "optimizer.state.0.exp_avg": "state of a training",
    }
    deeper = check(tl.open_backbone(f"torchvision/resnet34@{path}", weights_by_name=True), in_file)
    assert {tensor.how for tensor in deeper.of("random")} == {"not in the file"}
    assert deeper.counts()["loaded"] == len(state) - 2
    assert {tensor.name.rsplit(".", 1)[0].rsplit(".", 1)[0] for tensor in deeper.of("random")} == {
        *(f"layer1.{n}" for n in (2,)), *(f"layer2.{n}" for n in (2, 3)), *(f"layer3.{n}" for n in (2, 3, 4, 5)),
        "layer4.2",
    }  # fmt: skip


@pytest.mark.slow
def test_positions_of_torchvision_are_interpolated(tmp_path: Path) -> None:
    import_timm()
    from safetensors.torch import save_file
    from torchvision.models import VisionTransformer

    small = VisionTransformer(32, 16, 12, 3, 768, 3072, num_classes=5)
    wanted = tl.open_backbone("torchvision/vit_b_16", model_args={"weights": "none"}, input_px=64).shapes()
    assert wanted["encoder.pos_embedding"] == (1, 17, 768)
    path = tmp_path / "w.safetensors"
    save_file({name: held.contiguous() for name, held in small.state_dict().items()}, path)
    backbone = tl.open_backbone(f"torchvision/vit_b_16@{path}", input_px=64)
    receipt = check(backbone, list(small.state_dict()))
    (adapted,) = receipt.of("adapted")
    assert (adapted.name, adapted.how) == ("encoder.pos_embedding", "position embedding interpolated 2x2 -> 4x4")
    class_token = backbone.module().state_dict()["encoder.pos_embedding"][:, :1]
    assert torch.equal(class_token, small.state_dict()["encoder.pos_embedding"][:, :1])


def test_random_weights_are_told_as_random() -> None:
    receipt = tl.open_backbone("torchvision/resnet18", model_args={"weights": "none"}).load_receipt()
    counters = sum(name.endswith(COUNTER) for name in resnet18())
    assert receipt.counts() == {"loaded": 0, "adapted": 0, "random": 100, "initial": counters, "unused": 0}
    assert receipt.summary == "none loaded; all 100 tensors begin random."


def datasets(path: Path) -> list[str]:
    """Names of all arrays in a file of Keras, as h5py lists them."""
    import io
    import zipfile

    import h5py

    content: Any = path
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            content = io.BytesIO(archive.read("model.weights.h5"))
    found: list[str] = []
    with h5py.File(content) as file:
        file.visititems(lambda name, held: found.append(name) if isinstance(held, h5py.Dataset) and held.size else None)
    return found


@pytest.mark.parametrize("kind", [".weights.h5", *(pytest.param(k, marks=pytest.mark.slow) for k in (".h5", ".keras"))])
def test_a_file_of_keras(tmp_path: Path, kind: str) -> None:
    keras_or_skip()
    model = built("MobileNet", 32, alpha=0.25, include_top=True, classes=5)
    path = saved(model, tmp_path / f"m{kind}")
    backbone = tl.open_backbone(f"keras/MobileNet@{path}", input_px=32, model_args={"alpha": 0.25})
    receipt = check(backbone, datasets(path))
    assert receipt.file == f"m{kind}"
    assert receipt.counts()["random"] == receipt.counts()["adapted"] == 0
    classifier = 2  # kernel and bias
    assert receipt.counts()["unused"] == classifier
    stored = sum(variable.value.numel() for variable in model.variables if "seed" not in variable.path)
    numbers = receipt.numbers()
    assert (
        numbers["loaded"] + sum(w.value.numel() for w in model.layers[-2].weights + model.layers[-3].weights) == stored
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".weights.h5", ".h5", ".keras"])
def test_a_file_of_keras_by_name(tmp_path: Path, kind: str) -> None:
    """The next larger EfficientNet has every layer of the smaller, and more: as Keras's ``by_name`` fills it."""
    keras_or_skip()
    model = built("EfficientNetV2B0", 64, include_top=True, classes=5)
    path = saved(model, tmp_path / f"m{kind}")
    backbone = tl.open_backbone(f"keras/EfficientNetV2B1@{path}", input_px=64, weights_by_name=True)
    receipt = check(backbone, datasets(path))
    larger = built("EfficientNetV2B1", 64)
    theirs, ours = ({layer.name for layer in held.layers if layer.weights} for held in (model, larger))
    layers = {tensor.name.partition(".")[0] for tensor in receipt.of("loaded")}
    assert layers == theirs & ours
    assert {tensor.name.partition(".")[0] for tensor in receipt.of("random")} == ours - theirs
    assert "by name, " in backbone.notes[-1]


@pytest.mark.parametrize("model_type", ["vit", "swin", "convnext"])
def test_a_folder_of_transformers(tmp_path: Path, model_type: str) -> None:
    from safetensors import safe_open

    folder = save(library_model(model_type), tmp_path / "model", processor_of(model_type))
    with safe_open(folder / "model.safetensors", "pt") as opened:
        names = list(opened.keys())
    assert check(tl.open_backbone(f"hf/{model_type}@{folder}"), names).counts()["random"] == 0
