"""ONNX files as frozen backbones: the right tensor is read, and what cannot be read is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import thawline as tl
from thawline.backbones.foreign.onnx_bytes import NotOnnxError, look_through
from thawline.errors import ModelError, UsageError, WeightsError

onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")


class Small(nn.Module):
    """Pictures (B, 3, 32, 32) -> logits (B, 5)."""

    def __init__(self, *, head: bool = True, fixed: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.head, self.fixed = head, fixed

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x))).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.features(x)
        if self.fixed:
            features = features.reshape(1, 8)
        return self.fc(features).softmax(-1) if self.head else torch.relu(self.norm(self.conv(x)))


def exported(path: Path, model: nn.Module, *, shape: tuple[int, ...] = (1, 3, 32, 32), **how: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (torch.randn(shape),), path, dynamo=False, input_names=["x"], **how)
    return f"onnx/mine@{path}"


def seeded(**how: bool) -> Small:
    torch.manual_seed(0)
    return Small(**how)


def rows_of(backbone: tl.Backbone, n: int = 6) -> tuple[np.ndarray[Any, Any], torch.Tensor]:
    pictures = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return backbone.module()(pictures).numpy(), pictures


@pytest.mark.parametrize("batch", ["free", "fixed"])
def test_the_input_of_the_classifier_is_read(tmp_path: Path, batch: str) -> None:
    model = seeded(fixed=batch == "fixed")
    axes = {"x": {0: "n"}} if batch == "free" else {}
    backbone = tl.open_backbone(exported(tmp_path / "a.onnx", model, dynamic_axes=axes))
    rows, pictures = rows_of(backbone)
    assert rows == pytest.approx(model.features(pictures).detach().numpy(), abs=1e-5)
    assert backbone.n_parameters() == 3 * 8 * 9 + 8 + 8 * 5 + 5  # the exporter folds the batch norm
    assert backbone.notes[0].startswith("a.onnx is used frozen; features are '")
    assert "before its classifier" in backbone.notes[0]
    assert backbone.preparation.input_px == (32, 32)


def test_without_a_classifier_the_output_is_averaged(tmp_path: Path) -> None:
    model = seeded(head=False)
    backbone = tl.open_backbone(exported(tmp_path / "a.onnx", model, output_names=["map"]))
    rows, pictures = rows_of(backbone)
    assert rows == pytest.approx(model.features(pictures).detach().numpy(), abs=1e-5)
    assert "its output 'map'" in backbone.notes[0]


def test_a_tensor_is_read_by_its_name_and_an_open_size_is_asked_for(tmp_path: Path) -> None:
    model = seeded()
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    name = exported(tmp_path / "a.onnx", model, output_names=["p"], dynamic_axes=axes)
    backbone = tl.open_backbone(name, model_args={"features": "p"}, input_px=32)
    rows, pictures = rows_of(backbone)
    assert rows == pytest.approx(model(pictures).detach().numpy(), abs=1e-5)
    with pytest.raises(WeightsError, match=r"has no tensor 'q'"):
        tl.open_backbone(name, model_args={"features": "q"})
    with pytest.raises(UsageError, match=r"takes one argument, features=TENSOR; got width"):
        tl.open_backbone(name, model_args={"width": 3})


def test_a_fixed_size_is_kept(tmp_path: Path) -> None:
    name = exported(tmp_path / "a.onnx", seeded())
    with pytest.raises(WeightsError, match=r"takes pictures of 32 px, not of 64\. Leave --input-px out"):
        tl.open_backbone(name, input_px=64)


def test_its_ladder_has_two_rungs_and_nothing_learns(tmp_path: Path, tiny_photos: Path) -> None:
    backbone = tl.open_backbone(exported(tmp_path / "a.onnx", seeded()))
    assert [rung.name for rung in backbone.ladder.rungs] == ["input", "pooled"]
    data = tl.open_data(tiny_photos)
    for thaw in ("all", "last:1", "progressive"):
        with pytest.raises(UsageError, match=r"can only be used frozen"):
            tl.plan(data, backbone, thaw=thaw)
    assert tl.plan(data, backbone).thaw == "none"


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_fit_and_its_bundle_predict_the_same(tmp_path: Path, tiny_photos: Path, engine: str) -> None:
    model = tmp_path / "a.onnx"
    data, backbone = tl.open_data(tiny_photos), tl.open_backbone(exported(model, seeded()))
    plan = tl.plan(data, backbone, thaw="none", engine=engine, precision="f32")
    run = tl.fit(data, plan, backbone=backbone, run=tmp_path / "run")
    model.unlink()
    pictures = sorted(tiny_photos.rglob("*.png"))[:4]
    first = run.bundle.predict(pictures).probabilities
    again = tl.load_bundle(tmp_path / "run").predict(pictures).probabilities
    assert np.array_equal(np.asarray(first), np.asarray(again))


def test_both_engines_give_the_same_features(tmp_path: Path, tiny_photos: Path) -> None:
    backbone, data = tl.open_backbone(exported(tmp_path / "a.onnx", seeded())), tl.open_data(tiny_photos)
    found = [
        tl.extract_features(data, backbone, engine=engine, precision="f32").values for engine in ("openvino", "torch")
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    with pytest.raises(ModelError, match="gives features at 'pooled' alone; got graph"):
        tl.extract_features(data, backbone, rung="graph", engine="openvino")


def test_tensors_in_other_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    name = exported(path, seeded())
    loaded = onnx.load(path)
    for tensor in loaded.graph.initializer:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../etc/passwd")
        tensor.ClearField("raw_data")
    path.write_bytes(loaded.SerializeToString())
    with pytest.raises(WeightsError, match=r"keeps tensors in another file, which is not read"):
        tl.open_backbone(name)
    inner = onnx.helper.make_node("If", ["c"], ["y"], then_branch=loaded.graph, else_branch=loaded.graph)
    graph = onnx.helper.make_graph([inner], "outer", [], [])
    with pytest.raises(NotOnnxError, match="in another file"):
        look_through(onnx.helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no ONNX model"),
        (b"\x08\x07\x12\x07pytorch", "is no ONNX model"),
        (b"\x3a\x7fabc", "is cut short"),
        (b"\x3a" + b"\xff" * 12, "is damaged"),
        (b"\x0f", "is damaged"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(NotOnnxError, match=said):
        look_through(content)


@pytest.mark.parametrize(
    ("shape", "channels", "said"), [((1, 1, 32, 32), 1, "takes pictures of 1 channels, not three"),
                                    ((1, 3, 32, 48), 3, "32 x 48, which are not square")]
)  # fmt: skip
def test_models_for_something_else_are_refused(
    tmp_path: Path, shape: tuple[int, ...], channels: int, said: str
) -> None:
    name = exported(tmp_path / "a.onnx", nn.Conv2d(channels, 4, 3), shape=shape)
    with pytest.raises(WeightsError, match=said):
        tl.open_backbone(name)
