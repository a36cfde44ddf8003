"""Features as a file that other programs read: NumPy's .npz, or Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thawline.errors import UsageError
from thawline.records import Dataset, Features
from thawline.scale.disk import written_whole

ENDINGS = (".npz", ".parquet")


def check_target(path: Path, *, force: bool) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Raises:
        UsageError: Another ending, a folder that is not there, or a file that is.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--out must end in {' or '.join(ENDINGS)}; got {path.name!r}.")
    if not path.parent.is_dir():
        raise UsageError(f"--out must be in a folder that is there; got {path}. Make {path.parent} first.")
    if path.exists() and not force:
        raise UsageError(f"--out must be a new file; {path} is there already. Add --force to replace it.")


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
