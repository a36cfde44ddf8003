"""Real weights: the right preparation is left alone, and wrong ones are noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.planning.stem_fixtures import pictures

import thawline as tl
from thawline.planning.preparation_check import checked_on, colours_of, of_colours
from thawline.planning.source_memory import ColourMap, recall
from thawline.planning.stem_check import judge
from thawline.planning.stems import stem_of

pytestmark = pytest.mark.slow
NAMES = {
    "imagenet": "timm/mobilenetv2_100@mobilenetv2_100.imagenet.safetensors",
    "lite0": "timm/tf_efficientnet_lite0@tf_efficientnet_lite0.imagenet.safetensors",
    "torchvision": "torchvision/mobilenet_v2@torchvision/mobilenet_v2-b0353104.pth",
    "embedded": "embedded/resnet18_half",
}
WRONG: dict[str, dict[str, Any]] = {
    "0..255": {"mean": 0.0, "std": 1 / 255}, "mean 0": {"mean": 0.0}, "0..1": {"mean": 0.0, "std": 1.0},
    "twice": {"mean": 0.75, "std": 0.25},
}  # fmt: skip


def opened(kind: str, real_weights: Path, **settings: Any) -> tl.Backbone:
    model, at, file = NAMES[kind].partition("@")
    return tl.open_backbone(f"{model}{at}{real_weights / file}" if at else model, **settings)


@pytest.mark.parametrize("kind", NAMES)
def test_the_right_preparation_is_left_alone_and_wrong_ones_are_noticed(kind: str, real_weights: Path) -> None:
    data = tl.open_data(pictures(24, px=64), ["a", "b"] * 12)
    right = opened(kind, real_weights)
    assert checked_on(data, right) == ()
    for fault, settings in WRONG.items():
        said = checked_on(data, opened(kind, real_weights, **settings))
        assert any("do not seem to suit" in one for one in said), fault
    half = opened(kind, real_weights, input_px=right.preparation.input_px[0] // 2)
    assert any(" is 0.5 of the " in one for one in checked_on(data, half))
    stem = stem_of(right)
    assert stem is not None
    given = colours_of(right, stem)
    for matrix in (np.eye(3)[::-1].copy(), np.full((3, 3), 1 / 3)):
        finding = judge(stem, given.after(ColourMap(matrix, np.zeros(3))))
        assert finding is not None and finding.verdict == "wrong" and finding.best is not None
        assert finding.best.colours.is_close(given)


@pytest.mark.parametrize("kind", NAMES)
def test_the_mean_pixel_of_the_source_is_that_of_imagenet(kind: str, real_weights: Path) -> None:
    backbone = opened(kind, real_weights)
    stem = stem_of(backbone)
    memory = None if stem is None else recall(stem)
    assert stem is not None and memory is not None
    reading = memory.read(colours_of(backbone, stem))
    assert reading.colour == pytest.approx((124, 116, 104), abs=8)
    assert reading.contrast == pytest.approx(1, abs=0.25)


def test_a_model_that_makes_its_input_grey_is_told_so_on_coloured_pictures(real_weights: Path) -> None:
    backbone = opened("imagenet", real_weights)
    stem = stem_of(backbone)
    assert stem is not None
    grey = replace(stem, own=ColourMap(np.full((3, 3), 1 / 3), np.zeros(3)))
    shown = pictures(24, px=64)
    assert "have colours" in of_colours(tl.open_data(shown, ["a", "b"] * 12), backbone, grey)
    without = np.repeat(shown.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    assert of_colours(tl.open_data(without, ["a", "b"] * 12), backbone, grey) == ""
