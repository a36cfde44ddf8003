"""Fewer samples than there are, where a plan says so: always the same ones, classes and parts in proportion."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thawline.data import split_data, subset
from thawline.randomness import generator
from thawline.records import PARTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.fit_plan import FitPlan
    from thawline.records import Dataset


def sampled(data: Dataset, plan: FitPlan) -> Dataset:
    """Return the samples that a plan reads: all, or as many as it says, each in the part that the whole split gave it.

    Every class keeps a sample in each part where it has one, so there may be a few more than asked for.
    """
    if not 0 < plan.samples < len(data):
        return data
    split = split_data(data, fractions=plan.fractions, seed=plan.seed, validating=True)
    parts = np.full(len(data), "train", dtype="<U5")
    share = np.full(len(data), np.inf)  # rows that the split leaves out come last
    for part in PARTS:
        rows = getattr(split, part)
        parts[rows] = part
        share[rows] = _positions(data.labels[rows], generator(plan.seed, "fewer samples", part))
    most = max(plan.samples, np.count_nonzero(share == 0))
    chosen = np.sort(np.argsort(share, kind="stable")[:most])
    fewer = subset(replace(data, given=parts), chosen)
    sentence = (
        f"{len(fewer):,} of {len(data):,} samples were read, as the plan says (samples = {plan.samples}); more of them "
        "would make a better model, and a surer judgement."
    )
    return replace(fewer, warnings=(*data.warnings, sentence))


def _positions(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(n,) where each sample stands among those of its class, from 0 to 1, in an order that is drawn."""
    positions = np.empty(len(labels))
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        positions[own] = np.arange(len(own)) / len(own)
    return positions
