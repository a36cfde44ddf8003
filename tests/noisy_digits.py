"""Digits of which some labels were drawn anew: enough errors to go on measuring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import thawline as tl


def noisy_digits(n_train: int, n_test: int, share: float) -> tl.Dataset:
    """Return digits of three classes, the given share of their labels drawn anew; each is a group of its own."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(n_class=3, return_X_y=True)
    n, rng = n_train + n_test, np.random.default_rng(0)
    rows = rng.permutation(len(labels))[:n]
    noisy = np.where(rng.random(n) < share, rng.integers(0, 3, n), labels[rows])
    pictures = np.rint(pixels[rows].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    data = tl.open_data(pictures, noisy, given=["train"] * n_train + ["test"] * n_test)
    return replace(data, groups=np.arange(len(data)))
