"""The embedded backbone stays what it is: its features, and what its card says of it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.golden.embedded import EXPECTED, features

import thawline as tl
from thawline.backbones.providers.embedded import EMBEDDED
from thawline.planning.similarity import read_source_head

MODEL = next(iter(EMBEDDED.values()))


@pytest.fixture(scope="module")
def expected() -> dict[str, list[float]]:
    kept = json.loads(EXPECTED.read_text("utf-8"))
    assert kept["sha256"] == MODEL.sha256, "new weights: run tests/golden/embedded.py"
    return kept["features"]


def test_its_features_are_what_they_were(expected: dict[str, list[float]]) -> None:
    found = features("f32", "torch")
    assert found.keys() == expected.keys()
    for name, row in found.items():
        np.testing.assert_allclose(row, expected[name], atol=2e-3, err_msg=name)  # rounded, in f32 on any processor


def test_the_fastest_engine_says_the_same(expected: dict[str, list[float]]) -> None:
    for name, row in features("auto", "auto").items():
        kept = np.array(expected[name])
        assert row @ kept / np.linalg.norm(row) / np.linalg.norm(kept) > 0.999, name


def test_the_card_says_what_it_reaches(real_data: Path) -> None:
    """On the first 1,000 pictures of the test file; within three standard errors."""
    said = re.search(r"test pictures.*\| ([0-9.]+) \(", MODEL.card.read_text("utf-8"))
    assert said is not None
    rows = pq.read_table(real_data / "tiny_imagenet" / "test.parquet").slice(0, 1000)
    pictures = [np.asarray(Image.open(io.BytesIO(row.as_py())).convert("RGB")) for row in rows["image"]]
    labels = rows["label"].to_numpy()
    backbone = tl.open_backbone()
    data = tl.open_data(np.stack(pictures), labels, trainable=False)
    logits = read_source_head(backbone).logits(tl.extract_features(data, backbone).values)
    assert (logits.argmax(axis=1) == labels).mean() == pytest.approx(float(said[1]), abs=0.048)
