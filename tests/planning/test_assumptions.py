"""Weights that do not say how pictures must be prepared: the note, and what the first batch norm tells."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.backbones.conftest import CONFIG, state_dict

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm
from thawline.planning.assumptions import examine, stem_of
from thawline.planning.notes import noted, notes_on
from thawline.planning.stem_check import IMAGENET, USUAL, Normalisation, Stem, distance, judge, patches_of

HALF = Normalisation((0.5,) * 3, (0.5,) * 3)
BYTES = Normalisation((0.0,) * 3, (1 / 255,) * 3)
SOURCE = Normalisation(*IMAGENET)


def pictures(n: int = 16, *, seed: int = 0, px: int = 40) -> np.ndarray:
    """Smooth coloured noise around ImageNet's moments, red brighter than blue: uint8 (n, px, px, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (n, px // 8, px // 8, 3))
    mixed = coarse @ np.array([[1.0, 0.8, 0.6], [0.0, 0.5, 0.5], [0.0, 0.0, 0.5]])
    smooth = np.kron(mixed, np.ones((1, 8, 8, 1))) + rng.normal(0, 0.2, (n, px, px, 3))
    values = np.array([0.55, 0.45, 0.35]) + 0.22 * smooth
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def stem_for(trained: Normalisation, *, bias: bool = False) -> Stem:
    """A first layer whose batch norm has seen pictures of the same kind, prepared as said."""
    rng = np.random.default_rng(5)
    weight = rng.normal(0, 0.3, (24, 3, 3, 3))
    blank = Stem("conv", "bn1", weight, rng.normal(0, 1, 24) if bias else np.zeros(24), np.zeros(24), np.ones(24))
    mean, variance = convolved(blank, pictures(64, seed=9), trained)
    return replace(blank, mean=mean, variance=variance)


def convolved(stem: Stem, shown: np.ndarray, given: Normalisation) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel, by running the layer."""
    images = torch.from_numpy(shown[..., ::-1].copy() if given.swapped else shown).permute(0, 3, 1, 2).double() / 255
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (given.mean, given.std))
    out = torch.nn.functional.conv2d((images - mean) / std, torch.from_numpy(stem.weight), torch.from_numpy(stem.bias))
    return out.mean((0, 2, 3)).numpy(), out.var((0, 2, 3)).numpy()


@pytest.mark.parametrize("given", [SOURCE, HALF, BYTES, replace(SOURCE, swapped=True)])
def test_the_distance_is_that_of_running_the_layer(given: Normalisation) -> None:
    stem = stem_for(SOURCE, bias=True)
    shown = pictures(24, seed=3)
    mean, variance = convolved(stem, shown, given)
    shift = np.minimum((mean - stem.mean) ** 2 / stem.variance, 9)
    scale = np.minimum((0.5 * np.log(variance / stem.variance)) ** 2, 9)
    assert distance(stem, patches_of(shown, 3, 3), given) == pytest.approx(np.mean(shift + scale), rel=0.05, abs=0.01)


@pytest.mark.parametrize("trained", [one for one in USUAL if not one.swapped])
def test_the_right_preparation_agrees_and_a_wrong_scale_is_blamed(trained: Normalisation) -> None:
    stem, patches = stem_for(trained), patches_of(pictures(24, seed=3), 3, 3)
    right = judge(stem, patches, trained)
    assert right is not None and right.agrees
    for taken in USUAL:
        ratio = max(taken.std[0] / trained.std[0], trained.std[0] / taken.std[0])
        if not taken.swapped and ratio > 2:
            finding = judge(stem, patches, taken)
            assert finding is not None and finding.better is not None, taken
            assert not finding.agrees
            assert finding.better.std[0] == pytest.approx(trained.std[0])


def test_channels_in_another_order_are_blamed() -> None:
    stem, patches = stem_for(replace(SOURCE, swapped=True)), patches_of(pictures(24, seed=3), 3, 3)
    finding = judge(stem, patches, SOURCE)
    assert finding is not None and finding.better == replace(SOURCE, swapped=True)


@pytest.mark.parametrize(
    "changed",
    [
        lambda p: 255 - p,
        lambda p: np.repeat(p.mean(-1, keepdims=True), 3, -1).astype(np.uint8),
        lambda p: np.clip(p + np.random.default_rng(0).normal(0, 40, p.shape), 0, 255).astype(np.uint8),
        lambda p: (p * 0.3).astype(np.uint8),
    ],
    ids=["inverted", "grey", "noisy", "dark"],
)
def test_pictures_unlike_the_source_blame_nothing(changed: Callable[[np.ndarray], np.ndarray]) -> None:
    for trained in (SOURCE, HALF, BYTES):
        finding = judge(stem_for(trained), patches_of(changed(pictures(24, seed=3)), 3, 3), trained)
        assert finding is None or finding.better is None


@pytest.mark.parametrize("shown", [pictures(8), np.full((24, 40, 40, 3), 2, np.uint8)], ids=["few", "plain"])
def test_too_few_or_too_plain_pictures_say_nothing(shown: np.ndarray) -> None:
    assert judge(stem_for(SOURCE), patches_of(shown, 3, 3), HALF) is None


def data_of(shown: np.ndarray, given: list[str] | None = None) -> tl.Dataset:
    return tl.open_data(shown, ["a", "b"] * (len(shown) // 2), given=given)


def bare(path: Path, architecture: str = "test_resnet", **tensors: torch.Tensor) -> str:
    save_file(state_dict(architecture) | tensors, path)
    return f"timm/{architecture}@{path}"


@pytest.mark.parametrize(
    ("architecture", "norm"),
    [("test_resnet", "conv1.1"), ("test_efficientnet", "bn1"), ("test_vit", None), ("test_convnext", None)],
)
def test_the_first_batch_norm_is_found_in_the_architecture(tmp_path: Path, architecture: str, norm: str | None) -> None:
    backbone = tl.open_backbone(bare(tmp_path / "a.safetensors", architecture))
    stem = stem_of(backbone)
    if norm is None:
        assert stem is None
        assert notes_on(data_of(pictures(24)), backbone) == backbone.notes
        return
    assert stem is not None and stem.norm == norm
    seen = []
    module = backbone.module()
    module.get_submodule(norm).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(2, *backbone.preparation.tensor_shape, generator=torch.Generator().manual_seed(0))
    module(images)
    own = torch.nn.functional.conv2d(images.double(), torch.from_numpy(stem.weight), stride=2, padding=1)
    assert torch.allclose(own.float(), seen[0], atol=1e-4)
    assert np.array_equal(stem.mean, module.get_submodule(norm).running_mean.double().numpy())


def trained_on(path: Path, trained: Normalisation) -> str:
    """Weights whose first batch norm has seen ``pictures``, prepared as said; the file does not say how."""
    weight = state_dict()["conv1.0.weight"]
    stem = Stem("", "", weight.double().numpy(), np.zeros(len(weight)), np.zeros(len(weight)), np.ones(len(weight)))
    mean, variance = (torch.from_numpy(values).float() for values in convolved(stem, pictures(64, seed=9), trained))
    return bare(path, **{"conv1.1.running_mean": mean, "conv1.1.running_var": variance})


def test_the_note_names_what_was_taken_and_the_options(tmp_path: Path) -> None:
    backbone = tl.open_backbone(bare(tmp_path / "bare.safetensors"))
    assert backbone.notes == (
        "bare.safetensors does not say how its pictures were prepared. Taken from timm's test_resnet: mean 0.5, "
        "std 0.5, bilinear interpolation, 160 px input, crop 0.95. If it was "
        "trained otherwise, set --mean, --std, --interpolation, --input-px or --crop-pct.",
    )


@pytest.mark.parametrize(("architecture", "padding", "option"), [
    ("test_efficientnet", "padding as PyTorch does", "--model-arg pad_type=same"),
    ("tf_mobilenetv3_small_minimal_100", "padding as TensorFlow does", '--model-arg pad_type=""'),
])  # fmt: skip
def test_the_note_names_the_padding_of_architectures_that_have_one(
    tmp_path: Path, architecture: str, padding: str, option: str
) -> None:
    name = bare(tmp_path / "a.safetensors", architecture)
    (note,) = tl.open_backbone(name).notes
    assert padding in note and option in note
    (note,) = tl.open_backbone(name, model_args={"pad_type": "same"}).notes
    assert "padding" not in note


def test_what_the_user_gives_or_the_file_says_is_not_assumed(tmp_path: Path) -> None:
    name = bare(tmp_path / "a.safetensors")
    (note,) = tl.open_backbone(name, mean=0.5, std=0.5, input_px=96).notes
    assert "Taken from timm's test_resnet: bilinear interpolation, crop 0.95." in note
    assert "set --interpolation or --crop-pct." in note
    every = {"mean": 0.5, "std": 0.5, "input_px": 96, "interpolation": "bilinear", "crop_pct": 1.0}
    assert tl.open_backbone(name, **every).notes == ()
    half = {key: value for key, value in CONFIG.items() if key not in ("mean", "crop_pct")}
    save_file(state_dict(), tmp_path / "half.safetensors",
              {"architecture": "test_resnet", "pretrained_cfg": json.dumps(half)})  # fmt: skip
    (note,) = tl.open_backbone(f"timm/test_resnet@{tmp_path / 'half.safetensors'}").notes
    assert "mean 0.5," in note and "std" not in note.partition("otherwise")[0]
    assert tl.open_backbone().notes == ()


def test_a_wrong_scale_is_blamed_on_the_users_pictures(tmp_path: Path) -> None:
    name = trained_on(tmp_path / "a.safetensors", HALF)
    data = data_of(pictures(24, seed=3, px=160))
    (_, finding) = notes_on(data, tl.open_backbone(name, mean=0.0, std=1 / 255))
    assert finding.startswith("Mean 0 and std 0.00392157 do not seem to suit these weights: on 24 of your pictures")
    assert "--mean 0.5 --std 0.5 fits best" in finding
    (_, finding) = notes_on(data, tl.open_backbone(name, mean=0.5, std=0.5))
    assert finding.startswith(
        "Mean 0.5 and std 0.5 suit these weights: on 24 of your pictures the statistics of conv1.1"
    )


def test_weights_that_say_all_are_not_looked_at(tmp_path: Path) -> None:
    data = data_of(pictures(24))
    said = {"architecture": "test_resnet", "pretrained_cfg": json.dumps(CONFIG)}
    save_file(state_dict(), tmp_path / "a.safetensors", said)
    backbone = tl.open_backbone(f"timm/test_resnet@{tmp_path / 'a.safetensors'}")
    assert notes_on(data, backbone) == ()
    assert noted(data, backbone) is data
    assert not backbone.is_built


def test_pictures_of_a_given_test_set_are_not_looked_at(tmp_path: Path) -> None:
    shown = np.concatenate([pictures(24, seed=3), np.zeros((24, 40, 40, 3), np.uint8)])
    shown[24:, :3, :3, 0] = np.arange(24)[:, None, None]
    data = data_of(shown, given=["train"] * 24 + ["test"] * 24)
    backbone = tl.open_backbone(bare(tmp_path / "a.safetensors"))
    stem = stem_of(backbone)
    assert stem is not None
    alone = data_of(shown[:24])
    assert examine(data, backbone, stem) == examine(alone, backbone, stem)


def test_notes_come_first_and_once(tmp_path: Path) -> None:
    backbone = tl.open_backbone(bare(tmp_path / "a.safetensors"))
    data = replace(data_of(pictures(24)), warnings=("of the data",))
    once = noted(data, backbone)
    assert once.warnings == (*notes_on(data, backbone), "of the data")
    assert noted(once, backbone) is once


def test_python_sees_them_in_plan_rank_and_run(tmp_path: Path) -> None:
    backbone = tl.open_backbone(f"{bare(tmp_path / 'a.safetensors')}", input_px=32)
    data = data_of(pictures(24, px=32))
    (note, *_) = backbone.notes
    assert note in tl.plan(data, backbone, thaw="none").reasons
    ranking = tl.rank(data, [backbone, tl.open_backbone(input_px=32)])
    assert f"{backbone.title}: {note}" in ranking.warnings
    run = tl.fit(data, backbone=backbone, run=tmp_path / "run", plan=tl.plan(data, backbone, thaw="none"))
    assert note in run.report.content["warnings"]
    assert "does not say how its pictures were prepared" in run.report_path.read_text()


def test_architectures_are_timms() -> None:
    assert import_timm().is_model("tf_mobilenetv3_small_minimal_100")


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    ["resnet18", "resnet50d", "densenet121", "regnety_002", "vgg11_bn", "mobilenetv3_small_050", "dla34", "hrnet_w18",
     "inception_v3", "repvgg_a0", "resnetv2_50d_evos", "convmixer_768_32", "levit_128s", "ghostnet_050", "dpn48b"],
)  # fmt: skip
def test_the_first_batch_norm_takes_what_the_first_convolution_gives(tmp_path: Path, architecture: str) -> None:
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
    stem = stem_of(backbone)
    assert stem is None if not pairs else stem is not None and stem.norm in pairs


@pytest.mark.slow
def test_weights_with_blue_first_are_turned_as_the_note_says(tmp_path: Path) -> None:
    name = trained_on(tmp_path / "it's.safetensors", replace(HALF, swapped=True))
    data = data_of(pictures(24, seed=3, px=160))
    (_, finding) = notes_on(data, tl.open_backbone(name, mean=0.5, std=0.5))
    assert "Pictures with blue first (BGR) and --mean 0.5 --std 0.5 fit best" in finding
    assert str(tmp_path) not in finding
    _, command, code = shlex.split(finding[finding.index("python -c") :])
    assert command == "-c"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=60)
    turned = tl.open_backbone(f"timm/test_resnet@{tmp_path / chr(105)}t's-rgb.safetensors", mean=0.5, std=0.5)
    assert notes_on(data, turned)[1].startswith("Mean 0.5 and std 0.5 suit these weights")
