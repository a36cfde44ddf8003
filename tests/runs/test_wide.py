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
from thawline.runs import Run


def test_a_flattened_map_is_fitted_shipped_and_predicted_from(tiny_photos: Path, tmp_path: Path) -> None:
    run = tl.fit(tiny_photos, Asked.of(thaw="none", layer="pooled:flatten"), run=tmp_path / "run")
    assert run.bundle.head.tensors()["weight"].shape == (3, 512 * 4 * 4 // 2)
    assert "4,096 for each sample, from layer4." in " ".join(run.plan.reasons)
    shipped = tl.load_bundle(tmp_path / "run").predict(of_the_test(run, tiny_photos))
    assert np.allclose(shipped.probabilities, given(run), atol=1e-12)


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


def test_fine_tuning_goes_on_from_a_flattened_map(tiny_photos: Path, tmp_path: Path) -> None:
    asked = Asked.of(thaw="last:1", layer="pooled:flatten", training={"epochs": 2, "views": 0})
    run = tl.fit(tiny_photos, asked, run=tmp_path / "run")
    assert run.report.content["receipt"] == "clean"
    source, tuned = tl.open_backbone().module().state_dict(), run.bundle.backbone.module().state_dict()
    moved = {name for name, tensor in tuned.items() if not tensor.equal(source[name])}
    assert moved == {name for name, _ in tl.open_backbone().module().layer4[1].named_parameters("layer4.1")}
    assert run.bundle.head.tensors()["weight"].shape == (3, 4_096)
    assert np.allclose(
        tl.load_bundle(tmp_path / "run").predict(of_the_test(run, tiny_photos)).probabilities, given(run)
    )


def test_fine_tuning_reads_one_layer(tiny_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"layer must be one layer if something is thawed; got 'layer1,layer2'"):
        tl.fit(tiny_photos, Asked.of(thaw="last:1", layer="layer1,layer2"), run=tmp_path / "run")


@pytest.mark.slow
def test_what_lies_above_the_layer_never_learns(tiny_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"from:LAYER must name a layer of embedded/resnet18_half; got 'layer4'"):
        tl.fit(tiny_photos, Asked.of(thaw="from:layer4", layer="layer3:max"), run=tmp_path / "run")
    asked = Asked.of(thaw="all", layer="layer2:max", training={"epochs": 2, "views": 0})
    run = tl.fit(tiny_photos, asked, run=tmp_path / "run")
    source, tuned = tl.open_backbone().module().state_dict(), run.bundle.backbone.module().state_dict()
    assert not tuned["layer2.1.conv2.weight"].equal(source["layer2.1.conv2.weight"])
    assert all(tensor.equal(source[name]) for name, tensor in tuned.items() if name.startswith(("layer3", "layer4")))


def of_the_test(run: Run, photos: Path) -> list[Path]:
    return [photos / row["file"] for row in rows(run)]


def given(run: Run) -> list[list[float]]:
    return [[float(row[f"p({label})"]) for label in run.bundle.classes] for row in rows(run)]


def rows(run: Run) -> list[dict[str, str]]:
    with (run.folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
