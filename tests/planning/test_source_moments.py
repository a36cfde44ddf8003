"""Models without batch norm: what their first convolution gives on the source is kept beside the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.backbones.conftest import state_dict
from tests.planning.stem_fixtures import pictures

import thawline as tl
from thawline.backbones import Backbone
from thawline.errors import DataError, ModelError
from thawline.planning import keep_source
from thawline.planning.notes import notes_on
from thawline.planning.stems import source_path, stem_of


def data_of(shown: np.ndarray) -> tl.Dataset:
    return tl.open_data(shown, ["a", "b"] * (len(shown) // 2))


def opened(path: Path, architecture: str = "test_vit", mean: float = 0.5, **changed: torch.Tensor) -> Backbone:
    if not path.exists():
        save_file(state_dict(architecture) | changed, path)
    return tl.open_backbone(f"timm/{architecture}@{path}", mean=mean, std=0.5, interpolation="bicubic", crop_pct=1.0)


@pytest.mark.parametrize("architecture", ["test_vit", "test_convnext"])
def test_a_wrong_preparation_is_noticed_without_batch_norm(tmp_path: Path, architecture: str) -> None:
    right = opened(tmp_path / "a.safetensors", architecture)
    assert stem_of(right) is None
    path = keep_source(data_of(pictures(48, seed=9)), right)
    assert path == tmp_path / "a.source.safetensors"
    data = data_of(pictures(24, seed=3))
    wrong = [note for note in notes_on(data, opened(tmp_path / "a.safetensors", architecture, 0.0)) if "suit" in note]
    assert wrong[0].startswith(
        "Mean 0 and std 0.5 do not seem to suit these weights: by what a.source.safetensors keeps"
    )
    assert "--mean 0.5 --std 0.5 fits best" in wrong[0]
    again = opened(tmp_path / "a.safetensors", architecture)
    assert not any("do not seem" in note for note in notes_on(data, again))


def test_what_is_kept_is_what_the_first_convolution_gives(tmp_path: Path) -> None:
    backbone, shown = opened(tmp_path / "a.safetensors"), pictures(32, seed=9, px=160)
    keep_source(data_of(shown), backbone)
    stem = stem_of(backbone)
    assert stem is not None
    images = torch.from_numpy(shown).permute(0, 3, 1, 2).double() / 255
    weight, bias = torch.from_numpy(stem.weight), torch.from_numpy(stem.bias)
    given = torch.nn.functional.conv2d((images - 0.5) / 0.5, weight, bias, stride=13)
    scale = given.std((0, 2, 3)).numpy()
    assert np.abs(stem.mean - given.mean((0, 2, 3)).numpy()).max() < 0.05 * scale.max()
    assert np.sqrt(stem.variance) == pytest.approx(scale, rel=0.1)


def test_what_was_kept_of_other_weights_is_not_taken(tmp_path: Path) -> None:
    kept = keep_source(data_of(pictures(48, seed=9)), opened(tmp_path / "a.safetensors"))
    other = opened(tmp_path / "b.safetensors", **{"norm.bias": torch.ones(64)})
    kept.rename(source_path(tmp_path / "b.safetensors"))
    assert stem_of(other) is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    backbone = opened(tmp_path / "a.safetensors")
    kept = keep_source(data_of(pictures(48, seed=9)), backbone)
    kept.write_bytes(kept.read_bytes()[:-8])
    with pytest.raises(ModelError, match=r"a\.source\.safetensors must be as keep_source leaves it.*Delete the file"):
        stem_of(backbone)
    assert notes_on(data_of(pictures(24)), backbone) == backbone.notes


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 12 different pictures; got 8"):
        keep_source(data_of(pictures(8)), opened(tmp_path / "a.safetensors"))
