"""Runs on the last map itself: flattened or on a grid, with linear heads and MLPs, and what they ship."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import thawline as tl
from thawline.errors import UsageError
from thawline.heads.modules import new_mlp
from thawline.planning import Asked


def test_a_flattened_map_is_fitted_shipped_and_predicted_from(tiny_photos: Path, tmp_path: Path) -> None:
    run = tl.fit(tiny_photos, Asked.of(thaw="none", layer="pooled:flatten"), run=tmp_path / "run")
    assert run.bundle.head.tensors()["weight"].shape == (3, 512 * 4 * 4 // 2)
    assert "4,096 for each sample, from layer4." in " ".join(run.plan.reasons)
    with (run.folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    shipped = tl.load_bundle(tmp_path / "run").predict([tiny_photos / row["file"] for row in rows])
    expected = [[float(row[f"p({label})"]) for label in run.bundle.classes] for row in rows]
    assert np.allclose(shipped.probabilities, expected, atol=1e-12)


def test_an_mlp_of_any_widths_learns_on_an_earlier_map(tiny_photos: Path, tmp_path: Path) -> None:
    asked = Asked.of(
        thaw="none",
        layer="layer3:grid:2",
        head="mlp",
        hidden=(30, 20, 10),
        training={"epochs": 2},
    )
    run = tl.fit(tiny_photos, asked, run=tmp_path / "run")
    weights = [array.shape for name, array in run.bundle.head.tensors().items() if name.endswith("weight")]
    assert weights == [(30, 128 * 2 * 2), (20, 30), (10, 20), (3, 10)]
    again = tl.load_bundle(tmp_path / "run").predict(tiny_photos / "disc" / "disc_00.png")
    assert np.isclose(again.probabilities.sum(), 1)


def test_vgg16s_flattened_mlp_has_the_parameters_of_the_guide() -> None:
    module = new_mlp(25_088, (1_000, 500, 150), 10, dropout=0.0, seed=0)
    assert [tuple(p.shape) for p in module.parameters() if p.ndim == 2] == [
        (1_000, 25_088),
        (500, 1_000),
        (150, 500),
        (10, 150),
    ]
    assert sum(p.numel() for p in module.parameters()) == 25_089_000 + 500_500 + 75_150 + 1_510


def test_fine_tuning_reads_the_pooled_output(tiny_photos: Path, tmp_path: Path) -> None:
    asked = Asked.of(thaw="last:1", layer="pooled:flatten")
    with pytest.raises(UsageError, match=r"got 'pooled:flatten' and thaw last:1. Leave --layer and --pooling out"):
        tl.fit(tiny_photos, asked, run=tmp_path / "run")
