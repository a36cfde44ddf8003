"""Batches of samples of various lengths."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thawline.inputs.lengths import by_length, lengths_of, rounded_length


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_length_is_rounded_up_and_never_beyond_the_longest(n: int, longest: int) -> None:
    rounded = rounded_length(min(n, longest), longest)
    assert min(n, longest) <= rounded <= longest
    assert rounded == longest or rounded % 8 == 0
    assert rounded_length(rounded, longest) == rounded


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 200))
def test_parts_hold_each_sample_once_at_its_own_length(lengths: list[int], most: int) -> None:
    samples = np.zeros((len(lengths), 40), np.int32)
    for row, length in zip(samples, lengths, strict=True):
        row[:length] = 7
    assert lengths_of(samples, 0).tolist() == lengths
    seen: list[int] = []
    for rows, part in by_length(samples, 0, most):
        assert len(part) == 1 or part.size <= most
        for row, sample in zip(rows, part, strict=True):
            assert len(sample) == rounded_length(lengths[row], 40)
            assert (sample == 7).sum() == lengths[row]
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_padding_may_also_stand_inside_a_sample() -> None:
    assert lengths_of(np.array([[5, 0, 6, 0, 0]], np.int32), 0).tolist() == [3]
