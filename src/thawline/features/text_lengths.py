"""The lengths of texts in tokens: counted once, and kept in the feature store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from thawline.features.job import first_of_each
from thawline.features.prepared import PreparedSamples
from thawline.inputs.lengths import lengths_of, rounded_length
from thawline.scale import executor
from thawline.store.keys import FeatureKey, preparation_sha256
from thawline.store.store import FeatureStore
from thawline.store.writer import Writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.features.prepared import Samples
    from thawline.records import Preparation

RUNG = "length"
"""Under which lengths are stored."""
_BATCH = 256


def rounded_lengths(
    samples: Samples,
    preparation: Preparation,
    rows: Sequence[int] | NDArray[np.int64],
    store: FeatureStore | None = None,
) -> NDArray[np.int64]:
    """Return the length to which each of some samples (n,) is filled up; those not stored are tokenised.

    Args:
        preparation: Of samples that may be shorter than its spec.
        store: Where lengths are found and kept; by default the one in the cache folder.
    Raises:
        DataError: A sample can no longer be read, or has changed; names the file.
        StorageError: The cache cannot be read or written.
    """
    store, rows = store or FeatureStore(), np.asarray(rows, np.int64)
    pad, longest = preparation.spec.pad, preparation.spec.shape[0]
    assert pad is not None
    key = FeatureKey(
        weights_sha256="",
        preparation_sha256=preparation_sha256(preparation),
        rung=RUNG,
        precision="f32",
        engine="tokens",
        dtype="int32",
    )
    digests = [samples.digests[row] for row in rows]
    missing = np.flatnonzero(~store.lookup(key, digests).found)
    if len(missing):
        store.prepare(key)
        wanted = [int(rows[missing[place]]) for place in first_of_each([digests[i] for i in missing]).values()]
        prepared = executor().pipelined(wanted, PreparedSamples(samples, preparation).of, np.stack, batch_size=_BATCH)
        with closing(prepared), Writer(store) as writer:
            for done, ids in prepared:
                values = lengths_of(ids.astype(np.int32), pad).astype(np.int32)[:, None]
                writer.add(key, [samples.digests[row] for row in done], values)
    counted = store.gather(key, digests)[:, 0] if len(rows) else np.empty(0, np.int32)
    return np.array([rounded_length(int(n), longest) for n in counted], np.int64)
