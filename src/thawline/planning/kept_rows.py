"""The size of what the boundary cache keeps of the samples of a data set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.backbones.ladder import Ladder
    from thawline.features.prepared import Samples

SAMPLED = 512
"""Texts whose length tells that of all."""


def ladder_for(backbone: Backbone, samples: Samples) -> Ladder:
    """Return the ladder of a backbone, with the bytes that these samples take on each rung, in the mean.

    Pictures have one size. Rows of texts are as long as their tokens; the backbone's own ladder is that of texts as
    long as its examples.

    Raises:
        DataError: A text can no longer be read, or has changed.
        StorageError: The cache cannot be read or written.
    """
    ladder, n = backbone.ladder, len(samples.digests)
    if backbone.preparation.spec.pad is None or not n:
        return ladder
    from thawline.features.text_lengths import rounded_lengths

    rows = np.unique(np.linspace(0, n - 1, min(n, SAMPLED)).round().astype(np.int64))
    mean = float(rounded_lengths(samples, backbone.preparation, rows).mean())
    (counted,) = ladder.rungs[0].shape
    rungs = (
        replace(rung, bytes_per_sample=round(rung.bytes_per_sample * mean / counted))
        if rung.shape[0] == counted and (len(rung.shape) > 1 or rung is ladder.rungs[0])
        else rung
        for rung in ladder.rungs
    )
    return replace(ladder, rungs=tuple(rungs))
