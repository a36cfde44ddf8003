"""Samples decoded ahead, and which would be run."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from thawline.errors import DataError
from thawline.features import extract_features
from thawline.features import prepared as pixels_module
from thawline.features.extract import missing_samples
from thawline.features.prepared import PreparedSamples
from thawline.inputs.image.decode import prepare

CPU = {"precision": "f32", "device": "cpu"}


def wait_for(pixels: PreparedSamples, n: int) -> None:
    """Until so many are decoded."""
    for _ in range(500):
        if len(pixels._ahead) == n:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{len(pixels._ahead)} of {n} decoded in 5 s")


def test_what_was_decoded_ahead_is_what_would_have_been(toy: ModuleType) -> None:
    data = toy.toy_dataset(12)
    pixels = PreparedSamples(data, toy.PREPARATION)
    with pixels.preparing_ahead([3, 1, 4]):
        wait_for(pixels, 3)
    reads = list(data.source.reads)
    assert sorted(reads) == [1, 3, 4]
    for row in (3, 1, 4, 5):
        assert np.array_equal(pixels.of(row), prepare(data.source.read(row), toy.PREPARATION))
    assert not pixels._ahead  # given once, and not kept


def test_it_ends_with_the_block(toy: ModuleType) -> None:
    data = toy.toy_dataset(30)
    pixels = PreparedSamples(data, toy.PREPARATION)
    with pixels.preparing_ahead(range(30)):
        pass
    n = len(pixels._ahead)
    threading.Event().wait(0.1)
    assert len(pixels._ahead) == n
    assert not [thread for thread in threading.enumerate() if thread.name == "thawline-ahead"]


def test_memory_for_it_is_bounded(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = toy.PREPARATION.input_px
    monkeypatch.setattr(pixels_module, "AHEAD_BYTES", 4 * 3 * height * width)
    data = toy.toy_dataset(12)
    pixels = PreparedSamples(data, toy.PREPARATION)
    with pixels.preparing_ahead(range(12)):
        wait_for(pixels, 4)
        threading.Event().wait(0.1)
    assert len(pixels._ahead) == 4


def test_what_cannot_be_read_is_told_when_it_is_asked_for(toy: ModuleType) -> None:
    data = toy.toy_dataset(5)
    changed = (*data.digests[:2], "0" * 64, *data.digests[3:])
    pixels = PreparedSamples(replace(data, digests=changed), toy.PREPARATION)
    with pixels.preparing_ahead([0, 2, 4]):
        wait_for(pixels, 1)
    with pytest.raises(DataError, match="has changed since"):
        pixels.of(2)


def test_what_would_be_run_is_known_beforehand(toy: ModuleType) -> None:
    data, backbone = toy.toy_dataset(20), toy.ToyBackbone()
    rows, engine = missing_samples(data, backbone, **CPU)
    assert (rows.tolist(), engine) == (list(range(20)), extract_features(toy.toy_dataset(1), backbone, **CPU).engine)
    rows, _ = missing_samples(data, backbone, **CPU)
    assert rows.tolist() == list(range(1, 20))
    extract_features(toy.toy_dataset(20, rows=[2, 3, 5, 7]), backbone, **CPU)
    missing, _ = missing_samples(data, backbone, **CPU)
    assert missing.tolist() == sorted(set(range(1, 20)) - {2, 3, 5, 7})
    assert extract_features(data, backbone, **CPU).computed == len(missing)
    assert not len(missing_samples(data, backbone, **CPU)[0])
