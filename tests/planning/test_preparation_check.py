"""Preparations that the weights do not state, or that do not suit them: what is said of them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.backbones.conftest import CONFIG, state_dict
from tests.planning.stem_fixtures import HALF, convolved, pictures

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm
from thawline.planning import stems
from thawline.planning.notes import noted, notes_on
from thawline.planning.preparation_check import colours_of, examine
from thawline.planning.source_memory import Normalisation, Stem
from thawline.planning.stems import stem_of


def data_of(shown: np.ndarray, given: list[str] | None = None) -> tl.Dataset:
    return tl.open_data(shown, ["a", "b"] * (len(shown) // 2), given=given)


def bare(path: Path, architecture: str = "test_resnet", **tensors: torch.Tensor) -> str:
    save_file(state_dict(architecture) | tensors, path)
    return f"timm/{architecture}@{path}"


def trained_on(path: Path, trained: Normalisation, seen: np.ndarray | None = None) -> str:
    """Weights whose first batch norm has seen pictures that were prepared as said; the file does not say how."""
    weight = state_dict()["conv1.0.weight"]
    stem = Stem("", "", weight.double().numpy(), np.zeros(len(weight)), np.zeros(len(weight)), np.ones(len(weight)))
    shown = pictures(64, seed=9) if seen is None else seen
    mean, variance = (torch.from_numpy(values).float() for values in convolved(stem, shown, trained))
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


def test_a_wrong_scale_is_blamed(tmp_path: Path) -> None:
    name = trained_on(tmp_path / "a.safetensors", HALF)
    data = data_of(pictures(24, seed=3, px=160))
    (_, finding) = notes_on(data, tl.open_backbone(name, mean=0.0, std=1 / 255))
    assert finding.startswith(
        "Mean 0 and std 0.00392157 do not seem to suit these weights: by what conv1.1 keeps, they would then have been "
        "trained on pictures with a mean pixel of ("
    )
    assert "Of the usual ones, --mean 0.5 --std 0.5 fits best, and leads to a mean pixel of (12" in finding
    (_, finding) = notes_on(data, tl.open_backbone(name, mean=0.5, std=0.5))
    assert finding.startswith(
        "Mean 0.5 and std 0.5 suit these weights: by what conv1.1 keeps, they were trained on pictures with a mean "
    )


def test_weights_that_state_their_preparation_are_held_to_it(tmp_path: Path) -> None:
    trained_on(tmp_path / "bare.safetensors", HALF)
    state = load_file(tmp_path / "bare.safetensors")
    data = data_of(pictures(24))
    for mean, wrong in ((0.5, False), (0.0, True)):
        said = {"architecture": "test_resnet", "pretrained_cfg": json.dumps(CONFIG | {"mean": mean, "std": 0.5})}
        save_file(state, tmp_path / "a.safetensors", said)
        backbone = tl.open_backbone(f"timm/test_resnet@{tmp_path / 'a.safetensors'}")
        notes = notes_on(data, backbone)
        assert [note.startswith("Mean 0 and std 0.5 do not seem") for note in notes] == [True] * wrong
        assert (noted(data, backbone) is data) != wrong
        assert not backbone.is_built


def test_statistics_of_chance_say_nothing(tmp_path: Path) -> None:
    said = {"architecture": "test_resnet", "pretrained_cfg": json.dumps(CONFIG)}
    save_file(state_dict(), tmp_path / "a.safetensors", said)
    assert notes_on(data_of(pictures(24)), tl.open_backbone(f"timm/test_resnet@{tmp_path / 'a.safetensors'}")) == ()


def test_pictures_of_a_given_test_set_are_not_looked_at(tmp_path: Path) -> None:
    """Weights of a dark source: whether they are judged by the pictures shows whether these were looked at."""
    dark = (0.25 * pictures(24, seed=3)).astype(np.uint8)
    name = trained_on(tmp_path / "a.safetensors", HALF, (0.25 * pictures(64, seed=9)).astype(np.uint8))
    backbone = tl.open_backbone(name, mean=0.0, std=1 / 255, input_px=48)
    stem = stem_of(backbone)
    assert stem is not None
    shown = np.concatenate([dark, np.zeros((24, 48, 48, 3), np.uint8)])
    shown[24:, :3, :3, 0] = np.arange(24)[:, None, None]
    finding = examine(data_of(shown, given=["train"] * 24 + ["test"] * 24), backbone, stem)
    assert finding == examine(data_of(dark), backbone, stem)
    assert finding is not None and finding.verdict == "wrong"
    (*_, note) = notes_on(data_of(dark), backbone)
    assert "on your pictures, the statistics of conv1.1 are far from those that it keeps" in note


def test_arrays_with_blue_first_are_noticed(tmp_path: Path) -> None:
    backbone = tl.open_backbone(trained_on(tmp_path / "a.safetensors", HALF), mean=0.5, std=0.5)
    shown = pictures(24, seed=3)
    (*_, note) = notes_on(data_of(shown[..., ::-1].copy()), backbone)
    assert note.startswith("Your arrays may have blue first, as OpenCV reads them")
    assert "give pictures[..., ::-1]" in note
    assert not any("blue first" in note for note in notes_on(data_of(shown), backbone))


def test_an_input_far_smaller_than_in_training_is_noticed(tmp_path: Path) -> None:
    data, name = data_of(pictures(24)), "embedded/resnet18_half"
    (note,) = notes_on(data, tl.open_backbone(name, input_px=64))
    assert note.startswith("64 px is 0.5 of the 128 px that resnet18_half takes")
    assert notes_on(data, tl.open_backbone(name, input_px=96)) == ()


def test_colours_that_the_model_drops_are_missed_only_if_the_pictures_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tl.open_backbone(trained_on(tmp_path / "a.safetensors", HALF), mean=0.5, std=0.5)
    in_grey(backbone, monkeypatch)
    shown = pictures(24, seed=3)
    stem = stem_of(backbone)
    assert stem is not None and colours_of(backbone, stem).drops_colour
    (*_, note) = notes_on(data_of(shown), backbone)
    assert note.startswith("Your pictures have colours, and so had those that the weights were trained on")
    grey = np.repeat(shown.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    assert not any("colours" in note for note in notes_on(data_of(grey), backbone))


def in_grey(backbone: tl.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the backbone a layer of its own before the first convolution, which leaves no colour."""
    monkeypatch.setattr(stems, "_PLAIN", ())  # as of another library
    build = backbone.build

    def built() -> torch.nn.Module:
        module = build()
        module.register_forward_pre_hook(lambda _, given: given[0].mean(1, keepdim=True).expand(-1, 3, -1, -1))
        return module

    monkeypatch.setattr(backbone, "build", built)


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
