"""Runs that earlier versions wrote are still read, and still predict the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import thawline as tl
from thawline.runs import open_run

HERE = Path(__file__).parent
RELEASES = sorted(path.name for path in HERE.iterdir() if (path / "bundle.json").is_file())


@pytest.mark.parametrize("release", RELEASES)
def test_a_bundle_of_an_earlier_release_predicts_the_same(release: str) -> None:
    expected = json.loads((HERE / release / "expected.json").read_text())["predictions"]
    pictures = [HERE / "pictures" / row["file"] for row in expected]
    answer = tl.load_bundle(HERE / release).predict(pictures).to_json(n_top=3)["predictions"]
    for got, wanted in zip(answer, expected, strict=True):
        assert got["label"] == wanted["label"]
        assert got["top"] == pytest.approx(wanted["top"], abs=1e-4)  # another machine rounds differently


@pytest.mark.parametrize("release", RELEASES)
def test_a_run_of_an_earlier_release_can_be_read(release: str) -> None:
    run = open_run(HERE / release)
    assert 0 <= run.report.accuracy.value <= 1
    assert run.plan.thaw == "none"
    assert run.to_json()["receipt"] == "clean"


def test_this_release_has_its_golden_run() -> None:
    assert tl.__version__ in RELEASES
