"""Rows are cut into the same blocks, however they come."""

from __future__ import annotations

import numpy as np
import pytest

from thawline.bundles.batches import in_blocks


@pytest.mark.parametrize("lengths", [[], [1], [4], [3, 3, 3], [9, 1], [1] * 8, [12]])
def test_blocks_are_full_but_the_last(lengths: list[int]) -> None:
    n = sum(lengths)
    rows = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    parts = np.split(rows, np.cumsum(lengths)[:-1]) if lengths else []
    blocks = list(in_blocks(parts, 4))
    assert [len(block) for block in blocks] == [4] * (n // 4) + ([n % 4] if n % 4 else [])
    assert np.array_equal(np.concatenate([*blocks, rows[:0]]), rows)
