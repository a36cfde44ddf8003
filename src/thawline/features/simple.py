"""What the baseline without a backbone learns from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thawline.features.prepared import read_sample
from thawline.inputs import kind_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.inputs.simple import SimpleFeatures
    from thawline.records import Dataset

_NOTHING = np.zeros(0, np.int64)


def simple_features(data: Dataset, learned: NDArray[np.int64], asked: NDArray[np.int64] = _NOTHING) -> SimpleFeatures:
    """Return the simple features of some rows; see ``InputKind.simple_features``.

    Raises:
        DataError: A sample can no longer be read, or has changed, since the data was opened.
    """
    return kind_of(data.kind).simple_features(
        data.sketches,
        lambda row: read_sample(data, row, lambda payload: payload),
        learned,
        asked,
        len(data.outputs),
    )
