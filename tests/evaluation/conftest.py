"""Predictions of a middling classifier, right more often than not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Predictions = Callable[..., tuple[NDArray[np.int64], NDArray[np.float64]]]


@pytest.fixture
def predictions() -> Predictions:
    def make(n: int, classes: int, *, seed: int = 0, skill: float = 1.5):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, classes, n)
        powers = np.exp(rng.standard_normal((n, classes)) + skill * np.eye(classes)[labels])
        return labels, powers / powers.sum(axis=1, keepdims=True)

    return make
