"""The truncation receipt: what of the texts of a data set a backbone does not see."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from thawline.features.prepared import Samples, read_sample
from thawline.inputs import kind_of
from thawline.inputs.text.truncation import Truncation
from thawline.records import TextPreparation
from thawline.scale import executor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thawline.records import Preparation

_BATCH = 256
_counted: dict[tuple[str, str, int, str, int], Truncation] = {}
"""What decides it -> what was counted in this process: planning and the run that follows ask for the same."""


def truncation_of(samples: Samples, preparation: Preparation) -> Truncation | None:
    """Count the tokens of all texts that a backbone sees, and those that it does not; None if samples are no texts.

    Raises:
        DataError: A text can no longer be read, or has changed, since the data was opened.
        WeightsError: The tokenizer cannot be read.
    """
    if not isinstance(preparation, TextPreparation):
        return None
    what = (preparation.tokenizer_sha256, preparation.long, preparation.length, preparation.prompt)
    key = (*what, hash(samples.digests))
    if key not in _counted:
        _counted[key] = _count(samples, preparation)
    return _counted[key]


def _count(samples: Samples, preparation: TextPreparation) -> Truncation:
    found, prepare = Truncation(), kind_of(preparation.kind).prepare

    def count(rows: Sequence[int]) -> int:
        for row in rows:
            read_sample(samples, row, lambda payload: prepare(payload, preparation, found))
        return len(rows)

    n = len(samples.files)
    batches = [range(start, min(start + _BATCH, n)) for start in range(0, n, _BATCH)]
    with closing(executor().pipelined(batches, count, len, batch_size=1)) as counted:
        for _ in counted:
            pass
    return found
