"""Every draw has an owner: a generator made from a seed and a purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import thawline
from thawline.randomness import derived_seed, early_generator, generator

SOURCE = Path(thawline.__file__).parent


@pytest.mark.parametrize("bare", ["default_rng(", "np.random.seed", "RandomState(", "import random\n"])
def test_no_generator_is_made_elsewhere(bare: str) -> None:
    made = {path.name for path in SOURCE.rglob("*.py") if bare in path.read_text("utf-8")}
    assert made <= {"randomness.py"}


def test_equal_purposes_draw_the_same_and_others_do_not() -> None:
    assert generator(1, "order", 2).integers(2**60) == generator(1, "order", 2).integers(2**60)
    different = {derived_seed(*words) for words in ((1, "a"), (2, "a"), (1, "b"), (1, "a", 0), (1, "a", 1))}
    assert len(different) == 5 and all(0 <= seed < 2**63 for seed in different)


def test_early_draws_keep_the_streams_that_were_published() -> None:
    assert early_generator(3).integers(2**60) == np.random.default_rng(3).integers(2**60)
    expected = np.random.default_rng((3, int.from_bytes(b"FOLD", "big"))).integers(2**60)
    assert early_generator(3, "FOLD").integers(2**60) == expected
