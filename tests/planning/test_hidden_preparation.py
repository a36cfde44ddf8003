"""A preparation that a library's model does itself is seen, and found if it is left out or done twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.planning.stem_fixtures import HALF, SOURCE, convolved, pictures

import thawline as tl
from thawline.planning.notes import notes_on
from thawline.planning.preparation_check import colours_of
from thawline.planning.source_memory import IMAGENET, Normalisation, Stem
from thawline.planning.stems import stem_of


def taught(architecture: str, path: Path, conv: str, norm: str, trained: Normalisation) -> str:
    """Random weights of an architecture whose first batch norm has seen pictures prepared as said."""
    blank = tl.open_backbone(f"torchvision/{architecture}", model_args={"weights": "none"})
    state = blank.module().state_dict()
    weight = state[f"{conv}.weight"].double().numpy()
    stem = Stem(conv, norm, weight, np.zeros(len(weight)), np.zeros(len(weight)), np.ones(len(weight)))
    mean, variance = convolved(stem, pictures(64, seed=9), trained)
    state |= {f"{norm}.running_mean": torch.from_numpy(mean), f"{norm}.running_var": torch.from_numpy(variance)}
    save_file({name: tensor.float().contiguous() for name, tensor in state.items()}, path)
    return f"torchvision/{architecture}@{path}"


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "conv", "norm"), [
    ("googlenet", "conv1.conv", "conv1.bn"), ("inception_v3", "Conv2d_1a_3x3.conv", "Conv2d_1a_3x3.bn"),
])  # fmt: skip
@pytest.mark.parametrize("trained", [True, False], ids=["trained with it", "trained without"])
def test_the_normalisation_that_googlenet_hides_is_found(
    tmp_path: Path, architecture: str, conv: str, norm: str, trained: bool
) -> None:
    """``transform_input`` takes pictures of ImageNet's mean and standard deviation to -1..1."""
    name = taught(architecture, tmp_path / "a.safetensors", conv, norm, HALF if trained else SOURCE)
    data = tl.open_data(pictures(24, seed=3), ["a", "b"] * 12)
    for asked in (True, False):
        backbone = tl.open_backbone(name, model_args={"transform_input": asked}, mean=IMAGENET[0], std=IMAGENET[1])
        stem = stem_of(backbone)
        assert stem is not None and stem.norm == norm
        reaching = HALF if asked else SOURCE
        assert colours_of(backbone, stem).matrix == pytest.approx(reaching.colours.matrix, rel=1e-3)
        wrong = [note for note in notes_on(data, backbone) if "do not seem to suit" in note]
        assert bool(wrong) == (asked != trained)
        if trained and not asked:
            assert "Of the usual ones, --mean 0.5 --std 0.5 fits best" in wrong[0]
        if asked and not trained:
            assert "The model changes its input itself once more" in wrong[0]
            assert "--model-arg transform_input=false" in wrong[0]
