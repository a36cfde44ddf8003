"""Features as a file that other programs read: NumPy's .npz, or Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thawline.records import Dataset, Features
from thawline.scale.disk import written_whole

ENDINGS = (".npz", ".parquet")


def write_features(features: Features, dataset: Dataset, path: Path) -> None:
    """Write ``values`` float32 (N, D), ``files`` and ``labels`` (class names) in the format of the file's ending.

    Raises:
        StorageError: The disk is full, or the place cannot be written.
    """
    labels = np.array([dataset.classes[label] for label in dataset.labels], dtype=np.str_)
    with written_whole(path, "wb") as file:
        if path.suffix.lower() == ".npz":
            np.savez(file, values=features.values, files=np.array(dataset.files, dtype=np.str_), labels=labels)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        n, dim = features.values.shape
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.values.reshape(n * dim)), dim)
        columns = {"files": pa.array(dataset.files), "labels": pa.array(labels), "values": values}
        pq.write_table(pa.table(columns), file)
