"""Features with known structure, and scikit-learn's answers to compare with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Blobs = Callable[..., tuple[NDArray[np.float32], NDArray[np.int64]]]


@pytest.fixture
def blobs() -> Blobs:
    """Overlapping clouds whose directions have very different spread, as pooled features do."""

    def make(n: int, d: int, classes: int, *, seed: int = 0, apart: float = 1.0):
        rng = np.random.default_rng(seed)
        labels = np.arange(n) % classes
        spread = 3.0 / np.sqrt(1 + np.arange(d))
        values = rng.standard_normal((n, d)) * spread + apart * rng.standard_normal((classes, d))[labels] * spread
        return (values + rng.standard_normal(d)).astype(np.float32), labels.astype(np.int64)

    return make
