"""Take some rows of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from thawline.data.sources import SubsetSource
from thawline.records import Dataset


def subset(dataset: Dataset, rows: Iterable[int] | NDArray[np.int64]) -> Dataset:
    """Return some rows of a data set, in the order asked for; classes, skipped files and warnings stay as they are."""
    chosen = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows), dtype=np.int64)
    return replace(
        dataset,
        files=tuple(dataset.files[row] for row in chosen),
        labels=dataset.labels[chosen],
        source=SubsetSource(dataset.source, np.arange(len(dataset))[chosen]),
        digests=tuple(dataset.digests[row] for row in chosen),
        sketches=dataset.sketches[chosen],
        groups=dataset.groups[chosen],
        copies=None if dataset.copies is None else dataset.copies.of(chosen),
        given=None if dataset.given is None else dataset.given[chosen],
        opened=None,
        targets=None if dataset.targets is None else dataset.targets.of(chosen),
    )
