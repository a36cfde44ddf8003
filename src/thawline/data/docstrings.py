"""Open texts that ship inside, for a first look without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thawline.records import Dataset

FILE = Path(__file__).with_name("demo_texts.tsv")
N_TEST = 50
"""Of each class."""


def open_docstrings(per_class: int, *, seed: int = 0) -> Dataset:
    """Open sentences on functions of Python; the class says what the function is for.

    Classes are dates, files, network, numbers and processes: ``per_class`` of each for training, at most 80, and always
    the same 50 of each for the test. ``tools/demo_texts.py`` collected them.

    Source:
        Documentation strings of Python 3.11, Copyright 2001-2023 Python Software Foundation (PSF License 2).
    """
    import csv

    import numpy as np

    from thawline.data import open_data
    from thawline.randomness import early_generator

    with FILE.open(encoding="utf-8", newline="") as file:
        texts, labels = map(np.array, zip(*list(csv.reader(file, delimiter="\t"))[1:], strict=True))
    order = early_generator(seed).permutation(len(texts))
    of_class = [order[labels[order] == label] for label in np.unique(labels)]
    test = np.concatenate([rows[:N_TEST] for rows in of_class])
    train = np.concatenate([rows[N_TEST : N_TEST + per_class] for rows in of_class])
    rows = np.concatenate([train, test])
    given = ["train"] * len(train) + ["test"] * len(test)
    name = f"Python's functions, {per_class} per class"
    return open_data(texts[rows].tolist(), labels[rows].tolist(), kind="texts", given=given, name=name)
