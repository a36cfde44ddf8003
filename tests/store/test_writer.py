"""Rows on their way into the store."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from thawline.store import writer as writer_module
from thawline.store.keys import FeatureKey
from thawline.store.store import FeatureStore
from thawline.store.writer import Writer


def test_a_writer_holds_no_more_than_it_says(
    tmp_path: Any, key: FeatureKey, sample_digests: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the rows of all samples, nor copies of those that are being written."""
    limit, batch = 2**20, np.ones((16, 1024), np.float32)
    monkeypatch.setattr(writer_module, "FLUSH_BYTES", limit)
    digests = sample_digests(16 * 100)
    tracemalloc.start()
    try:
        with Writer(FeatureStore(tmp_path)) as writer:
            for start in range(0, len(digests), 16):
                writer.add(key, digests[start : start + 16], batch)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * limit
    finally:
        tracemalloc.stop()
    assert FeatureStore(tmp_path).gather(key, digests).shape == (1600, 1024)


def test_a_writer_takes_rows_of_several_keys_in_pieces_of_any_length(
    tmp_path: Any, key: FeatureKey, sample_digests: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "FLUSH_BYTES", 5 * 12)  # five rows of three float32
    keys = [key, replace(key, rung="blocks.1")]
    digests, values = sample_digests(60), np.arange(180, dtype=np.float32).reshape(60, 3)
    with Writer(FeatureStore(tmp_path)) as writer:
        start = 0
        for length in (1, 3, 20, 2, 2, 1, 11, 20):
            for one in keys:
                writer.add(one, digests[start : start + length], values[start : start + length])
            start += length
    for one in keys:
        np.testing.assert_array_equal(FeatureStore(tmp_path).gather(one, digests), values)
