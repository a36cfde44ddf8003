"""Open data that ship with scikit-learn, for a first look without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thawline.records import Dataset

N_TEST = 600


def open_digits(per_class: int, *, seed: int = 0) -> Dataset:
    """Open handwritten digits, 8 x 8 grey: ``per_class`` of each for training, and always the same 600 for the test.

    Source:
        E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository 1998 (CC BY 4.0).
    """
    import numpy as np
    from sklearn.datasets import load_digits

    from thawline.data import open_data
    from thawline.randomness import early_generator

    pixels, labels = load_digits(return_X_y=True)
    order = early_generator(seed).permutation(len(labels))
    test, rest = order[:N_TEST], order[N_TEST:]
    train = np.concatenate([rest[labels[rest] == digit][:per_class] for digit in range(10)])
    rows = np.concatenate([train, test])
    pictures = np.rint(pixels[rows].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    given = ["train"] * len(train) + ["test"] * len(test)
    return open_data(pictures, labels[rows], given=given, name=f"digits, {per_class} per class")
