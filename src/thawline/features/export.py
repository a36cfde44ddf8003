"""Features as a file that other programs read: NumPy's .npz, or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thawline.records import Dataset, Features
from thawline.scale.disk import written_whole

ENDINGS = (".npz", ".parquet")


def write_features(features: Features, dataset: Dataset, path: Path) -> None:
    """Write ``values`` float32 (N, D), ``files`` and ``labels`` in the format of the file's ending.

    ``labels`` (N,) are names of classes, or the labels of each sample as ``red|round``; numbers are (N, C) in an npz,
    and a column under each one's name in Parquet.

    Raises:
        StorageError: The disk is full, or the place cannot be written.
    """
    labels = _labels(dataset)
    with written_whole(path, "wb") as file:
        if path.suffix.lower() == ".npz":
            np.savez(file, values=features.values, files=np.array(dataset.files, dtype=np.str_), labels=labels)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        n, dim = features.values.shape
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.values.reshape(n * dim)), dim)
        of_each = {"labels": labels} if labels.ndim == 1 else dict(zip(dataset.outputs, labels.T, strict=True))
        columns = {"files": pa.array(dataset.files), **{k: pa.array(v) for k, v in of_each.items()}, "values": values}
        pq.write_table(pa.table(columns), file)


def _labels(dataset: Dataset) -> NDArray[Any]:
    if dataset.target == "number":
        return dataset.truth
    if dataset.target == "labels":
        names = np.array(dataset.outputs, dtype=object)
        return np.array(["|".join(names[row]) for row in dataset.truth], dtype=np.str_)
    return np.array([dataset.classes[label] for label in dataset.labels], dtype=np.str_)
