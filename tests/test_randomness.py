"""Owned draws: apart by purpose, and the older streams as they always were."""

from __future__ import annotations

import numpy as np

from thawline.randomness import early_generator, generator


def test_purposes_and_indexes_have_streams_of_their_own() -> None:
    firsts = [generator(0, *purpose).integers(2**60) for purpose in (("order", 3), ("order", 4), ("views", 3))]
    assert len(set(firsts)) == 3
    assert firsts[0] == generator(0, "order", 3).integers(2**60)


def test_older_streams_are_those_of_the_published_figures() -> None:
    assert early_generator(3).integers(2**60) == np.random.default_rng(3).integers(2**60)
    folds = np.random.default_rng((3, 0x464F4C44)).integers(2**60)
    assert early_generator(3, "FOLD").integers(2**60) == folds
