"""The scale of deep pictures is part of what a model is saved with: predictions read as the fit did."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import thawline as tl
from thawline.bundles import load_bundle
from thawline.features import ThawlineFeatures, extract_features
from thawline.records import ImagePreparation, ValueScale
from thawline.runs import ThawlineClassifier, evaluate
from thawline.store.keys import preparation_sha256

TWELVE = (ValueScale("uint16", 0, 4095),)


def written(source: Path, target: Path, kind: str) -> Path:
    """Copy class folders of pictures as grey of 8 bits, of 12 in 16, or of floats from 0 to 3."""
    for path in sorted(source.rglob("*.png")):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        grey = np.array(Image.open(path).convert("L"))
        grey[0, 0] = 255
        if kind == "8":
            Image.fromarray(grey).save(place)
        elif kind == "12":
            Image.fromarray(np.rint(grey * (4095 / 255)).astype(np.uint16)).save(place)
        else:
            tifffile.imwrite(place.with_suffix(".tif"), grey * np.float32(3 / 255))
    return target


@pytest.fixture
def shallow(_tiny_photos: Path, tmp_path: Path, shared_cache: Path) -> Path:
    return written(_tiny_photos, tmp_path / "8", "8")


@pytest.fixture
def deep(_tiny_photos: Path, tmp_path: Path, shared_cache: Path) -> Path:
    return written(_tiny_photos, tmp_path / "12", "12")


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """The least cosine of two rows."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


@pytest.mark.parametrize("kind", ["12", pytest.param("float", marks=pytest.mark.slow)])
def test_features_fit_and_predictions_are_those_of_8_bits(shallow: Path, tmp_path: Path, kind: str) -> None:
    place = written(shallow, tmp_path / kind, kind)
    plain, data = tl.open_data(shallow), tl.open_data(place)
    backbone = tl.open_backbone()
    features = [extract_features(one, backbone).values for one in (plain, data)]
    assert alike(*features) >= 0.999
    run = tl.fit(data, run=tmp_path / "run", backbone=backbone)
    assert backbone.preparation.scales == ()  # the user's own is left as it was
    assert run.bundle.backbone.preparation.scales == data.scales != ()
    warnings = json.loads((run.folder / "metrics.json").read_text())["warnings"]
    assert any("pictures hold" in warning for warning in warnings)

    loaded = load_bundle(run.folder)
    one = sorted(place.rglob("*.*"))[0]  # alone, it could be of any scale
    together = loaded.predict(place)
    np.testing.assert_array_equal(loaded.predict(one).probabilities[0], together.probabilities[0])
    assert together.warnings == ()
    plain_run = tl.fit(plain, run=tmp_path / "plain", backbone=backbone)
    gap = np.abs(plain_run.bundle.predict(shallow).probabilities - together.probabilities).max()
    assert gap < 0.05
    judged = evaluate(run, data)
    assert judged.scores["accuracy"].value == evaluate(plain_run, plain).scores["accuracy"].value


def test_every_way_to_hand_over_a_deep_picture_gives_the_same(deep: Path, tmp_path: Path) -> None:
    run = tl.fit(deep, run=tmp_path / "run")
    path = sorted(deep.rglob("*.png"))[0]
    wanted = run.bundle.predict(path).probabilities
    for given in (path.read_bytes(), Image.open(path), np.asarray(Image.open(path)), [np.asarray(Image.open(path))]):
        np.testing.assert_array_equal(run.bundle.predict(given).probabilities, wanted)


def test_pictures_that_do_not_fit_the_model_are_said(deep: Path, shallow: Path, tmp_path: Path) -> None:
    run = tl.fit(deep, run=tmp_path / "run")
    path = sorted(deep.rglob("*.png"))[0]
    values = np.asarray(Image.open(path))
    [said] = run.bundle.predict(values * np.uint16(8)).warnings
    assert "goes beyond the scale that the model was fitted with, 0 to 4,095" in said
    assert run.bundle.predict(shallow).warnings == ()
    plain = tl.fit(shallow, run=tmp_path / "plain")
    answer = plain.bundle.predict(deep)
    assert len(answer.warnings) == 1 and "white is 65,535" in answer.warnings[0]
    assert answer.to_json()["warnings"] == list(answer.warnings)
    assert "warnings" not in plain.bundle.predict(shallow).to_json()


def test_without_deep_pictures_files_and_keys_are_what_they_were(shallow: Path, tmp_path: Path) -> None:
    run = tl.fit(shallow, run=tmp_path / "run")
    assert "scales" not in json.loads((run.folder / "bundle.json").read_text())["preparation"]
    plain = ImagePreparation(input_px=(224, 224), resize_px=256, mean=(0.5,) * 3, std=(0.5,) * 3)
    before_there_were_scales = "e51589e4fc5b694aceccc77b87e6ef7a34a814bb5258874d2785540646586a7f"
    assert preparation_sha256(plain) == before_there_were_scales
    assert preparation_sha256(replace(plain, scales=TWELVE)) != before_there_were_scales


def test_a_resumed_run_reads_as_it_began(deep: Path, tmp_path: Path) -> None:
    from thawline.runs import walk

    wanted = tl.fit(deep, run=tmp_path / "whole")

    def stopped(
        data: object, plan: object, backbone: object, clock: object, listener: object, state: Path, *, planned: object
    ) -> object:
        (state / "step.safetensors").write_text("weights")  # as if a checkpoint had been reached
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "measure", stopped)
        with pytest.raises(KeyboardInterrupt):
            tl.fit(deep, run=tmp_path / "run")
    resumed = tl.resume(tmp_path / "run")
    assert resumed.bundle.backbone.preparation.scales == TWELVE
    np.testing.assert_array_equal(resumed.bundle.predict(deep).probabilities, wanted.bundle.predict(deep).probabilities)


def test_estimators_learn_the_scale_where_they_are_fitted(deep: Path, shallow: Path, shared_cache: Path) -> None:
    files = [str(path) for path in sorted(deep.rglob("*.png"))]
    labels = [Path(file).parent.name for file in files]
    plain = [str(path) for path in sorted(shallow.rglob("*.png"))]
    features = ThawlineFeatures().fit(files)
    assert features.scales_ == TWELVE
    one = features.transform(files[:1])  # no more is seen than one
    assert alike(one, ThawlineFeatures().fit(plain).transform(plain[:1])) >= 0.999
    arrays = [np.asarray(Image.open(file)) for file in files]
    np.testing.assert_array_equal(ThawlineFeatures().fit(arrays).transform(arrays[:1]), one)
    classifier = ThawlineClassifier().fit(files, labels)
    np.testing.assert_array_equal(
        classifier.predict_proba(files[:1]), ThawlineClassifier().fit(arrays, labels).predict_proba(arrays[:1])
    )
    assert classifier.score(files, labels) > 0.5


def test_the_sketches_of_pixel_baselines_and_thumbnails_follow_the_scale(deep: Path) -> None:
    from thawline.inputs import kind_of
    from thawline.training.pixel_nets import read_pixels

    data = tl.open_data(deep)
    assert read_pixels(data).max() > 128
    shown = kind_of("image").show(data.source.read(0), 64, data.scales)
    assert np.asarray(Image.open(io.BytesIO(shown))).max() > 128
