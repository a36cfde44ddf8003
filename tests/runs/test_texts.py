"""The whole path on texts: fit, predict, evaluate, resume, report, with a toy encoder."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests import toy_text

import thawline as tl
from thawline.errors import ModelError
from thawline.planning import Asked
from thawline.runs import folder as run_folder


def write_table(path: Path, n: int = 240) -> Path:
    """Write ``text,label`` with texts of toy words; one of them is far longer than the encoder reads."""
    held, labels = toy_text.texts(n)
    held[0] = " ".join([toy_text.GOOD[0], *toy_text.WORDS[12:] * 3])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((text, ("good", "bad")[label]) for text, label in zip(held, labels, strict=True))
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAWLINE_CACHE", str(folder / "cache"))
        backbone = toy_text.toy_encoder()
        tl.fit(write_table(folder / "reviews.csv"), Asked.of(thaw="none"), backbone=backbone, run=folder / "run")
    return folder


def test_a_run_says_that_its_samples_are_texts_and_what_was_not_seen(fitted: Path) -> None:
    metrics = json.loads((fitted / "run" / run_folder.METRICS).read_text())
    cut = metrics["truncation"]
    assert cut["texts"] == 240 and cut["cut"] == 1 and cut["lost"] > 50
    assert any("1 of 240 texts are longer than the model reads" in note for note in metrics["warnings"])
    assert metrics["test"]["accuracy"]["value"] > 0.6
    assert {"majority", "knn"} < metrics["baselines"].keys()
    spec = json.loads((fitted / "run" / "bundle.json").read_text())
    assert spec["input_kind"] == "text" and spec["preparation"]["length"] == toy_text.LENGTH


def test_a_bundle_predicts_the_bits_of_its_run_elsewhere(fitted: Path, tmp_path: Path) -> None:
    bundle = tl.load_bundle(shutil.copytree(fitted / "run", tmp_path / "moved"))
    with (fitted / "run" / run_folder.PREDICTIONS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    data = tl.open_data(fitted / "reviews.csv")
    place = {name: row for row, name in enumerate(data.files)}
    texts = [data.source.read(place[row["file"]]) for row in rows]
    found = bundle.predict(texts)
    probabilities = np.array([[float(row[f"p({name})"]) for name in bundle.classes] for row in rows])
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-6)
    alone = bundle.predict(texts[3])
    assert (alone.probabilities[0] == found.probabilities[3]).all()


def test_predicting_says_what_was_not_seen_and_what_is_empty(fitted: Path) -> None:
    bundle = tl.load_bundle(fitted / "run")
    found = bundle.predict(["ba be bi", "", " ".join(toy_text.WORDS * 4)])
    assert len(found) == 2 and len(found.failed) == 1
    assert any("1 of 2 texts are longer than the model reads" in said for said in found.warnings)


def test_data_and_model_must_be_of_one_kind(fitted: Path, tiny_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the data are texts, and embedded/resnet18_half takes pictures"):
        tl.fit(fitted / "reviews.csv", backbone=tl.open_backbone("embedded/resnet18_half"), run=tmp_path / "a")
    with pytest.raises(ModelError, match=r"the data are pictures, and toytext/small takes texts"):
        tl.fit(tiny_photos, backbone=toy_text.toy_encoder(), run=tmp_path / "b")


def test_a_run_on_texts_imports_no_pillow_and_one_on_pictures_no_tokenizers(fitted: Path, tiny_photos: Path) -> None:
    source = (
        "import sys, thawline as tl; from thawline.planning import Asked; from tests import toy_text; {backbone}"
        "tl.fit(sys.argv[1], Asked.of(thaw='none'), backbone=b, run=sys.argv[2]);"
        "print('PIL' in sys.modules, 'tokenizers' in sys.modules)"
    )
    for data, backbone, expected in (
        (fitted / "reviews.csv", "b = toy_text.toy_encoder();", "False True"),
        (tiny_photos, "b = tl.open_backbone();", "True False"),
    ):
        code = source.format(backbone=backbone)
        run = [sys.executable, "-c", code, str(data), str(data.parent / f"child-{data.name}")]
        found = subprocess.run(run, capture_output=True, text=True)
        assert found.stdout.strip() == expected, found.stderr
