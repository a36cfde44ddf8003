"""The figures that guides to transfer learning give, and their recipes as a user types them."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import thawline as tl
from thawline.cli import main


@pytest.fixture
def keras() -> None:
    if find_spec("keras") is None:  # importing it here would choose its backend
        pytest.skip("keras is not installed: pip install 'thawline[keras]'")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs a command line and returns the object that it prints with ``--json``."""

    def run(*words: object) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["thawline", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code in (None, 0), err
        printed: dict[str, Any] = json.loads(out)
        return printed

    return run


def folder_of(photos: Path, n_classes: int, px: int, mode: str = "RGB") -> Path:
    """Write three pictures of each class; class c is brighter than class c - 1."""
    rng = np.random.default_rng(0)
    for label in range(n_classes):
        (photos / f"c{label}").mkdir(parents=True)
        for number in range(3):
            grey = rng.integers(0, 40, (px, px), dtype=np.uint8) + np.uint8(label * 25)
            Image.fromarray(grey).convert(mode).save(photos / f"c{label}" / f"{number}.png")
    return photos


@pytest.mark.usefixtures("keras")
def test_the_heads_of_resnet50_have_the_parameters_of_the_guides(typed: Any) -> None:
    linear = typed("ladder", "keras/ResNet50", "--head", 4, "--model-arg", "weights=none")
    assert linear["head"]["parameters"] == 8_196
    assert linear["library"]["layers"] == 175
    assert linear["library"]["parameters"] == 23_587_712
    dense = typed("ladder", "keras/ResNet50", "--head", 4, "--hidden", 256, "--model-arg", "weights=none")
    assert dense["head"]["parameters"] == 525_572


@pytest.mark.usefixtures("keras")
def test_maps_of_keras_models_have_the_sizes_of_the_guides() -> None:
    args: dict[str, Any] = {"model_args": {"weights": "none"}, "architecture_only": True}
    vgg16 = tl.open_backbone("keras/VGG16", input_px=224, **args)
    assert vgg16.last_map == "block5_pool"
    assert vgg16.width("pooled:flatten") == 25_088
    vgg19 = tl.open_backbone("keras/VGG19", input_px=256, **args)
    assert vgg19.width("block2_pool:flatten") == 64 * 64 * 128
    assert vgg19.width("block2_pool:grid:4") == 4 * 4 * 128
    assert vgg19.width("block2_pool") == 128


def test_maps_of_torchvision_models_have_the_sizes_of_the_guides() -> None:
    args: dict[str, Any] = {"model_args": {"weights": "none"}, "architecture_only": True}
    assert tl.open_backbone("torchvision/vgg16", input_px=224, **args).width("pooled:flatten") == 25_088
    assert tl.open_backbone("torchvision/vgg19", input_px=256, **args).width("features.9:flatten") == 64 * 64 * 128


@pytest.mark.slow
@pytest.mark.usefixtures("keras")
def test_vgg19_at_150_pixels_frozen_with_eight_classes(typed: Any, tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "photos", 8, 150)
    words = ("--model", "keras/VGG19", "--input-px", 150, "--thaw", "none", "--model-arg", "weights=none")
    fitted = typed("fit", photos, *words, "--run", tmp_path / "run")
    assert fitted["receipt"] == "clean"
    bundle = tl.load_bundle(tmp_path / "run")
    assert bundle.head.tensors()["weight"].shape == (8, 512)
    assert bundle.predict(photos).probabilities.shape == (24, 8)


@pytest.mark.slow
@pytest.mark.usefixtures("keras")
def test_vgg16s_flattened_mlp_is_fitted_and_predicts(typed: Any, tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "photos", 10, 224)
    words = ("--model", "keras/VGG16", "--pooling", "flatten", "--head", "mlp", "--hidden", "1000,500,150")
    more = ("--input-px", 224, "--thaw", "none", "--epochs", 1, "--model-arg", "weights=none")
    typed("fit", photos, *words, *more, "--run", tmp_path / "run")
    bundle = tl.load_bundle(tmp_path / "run")
    assert bundle.head.n_parameters == 25_666_160
    assert bundle.predict(photos / "c0").probabilities.shape == (3, 10)


def test_grey_pictures_are_read_as_three_equal_channels(typed: Any, tmp_path: Path) -> None:
    values = []
    for mode in ("L", "RGB"):
        photos, out = folder_of(tmp_path / mode, 3, 40, mode), tmp_path / f"{mode}.npz"
        typed("features", photos, "--input-px", 48, "--out", out)
        values.append(np.load(out)["values"])
    assert np.array_equal(*values)
    fitted = typed("fit", tmp_path / "L", "--input-px", 48, "--thaw", "none", "--run", tmp_path / "run")
    assert fitted["n"]["train"] > 0
    answer = typed("predict", tmp_path / "run", tmp_path / "L" / "c0" / "0.png")
    assert answer["predictions"][0]["label"] in ("c0", "c1", "c2")
