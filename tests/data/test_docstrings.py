"""The texts that ship: what the demo learns from and is tested on."""

from __future__ import annotations

import numpy as np

from thawline.data.docstrings import N_TEST, open_docstrings


def test_the_test_set_is_always_the_same_and_nothing_of_it_is_learned_from() -> None:
    few, many = open_docstrings(10), open_docstrings(80)
    assert few.given is not None and many.given is not None
    test = [{few.source.read(row) for row in np.flatnonzero(few.given == "test")} for few in (few, many)]
    assert test[0] == test[1]
    assert np.bincount(many.labels[many.given == "test"]).tolist() == [N_TEST] * 5
    assert np.bincount(many.labels[many.given == "train"]).tolist() == [80] * 5
    assert not test[0] & {many.source.read(row) for row in np.flatnonzero(many.given == "train")}
    assert (many.kind, many.warnings, many.skipped) == ("text", (), ())
    assert many.classes == ("dates", "files", "network", "numbers", "processes")


def test_another_seed_draws_other_texts() -> None:
    first, second = (set(open_docstrings(10, seed=seed).digests) for seed in (0, 1))
    assert first != second
