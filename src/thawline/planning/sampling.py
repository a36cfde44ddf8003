"""Fewer samples than there are, where a plan says so: always the same ones, classes and parts in proportion."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thawline.data import split_data, subset
from thawline.data.checks import opened_remark
from thawline.data.sampling import opening_order, places
from thawline.randomness import generator
from thawline.records import PARTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.fit_plan import FitPlan
    from thawline.records import Dataset


def sampled(data: Dataset, plan: FitPlan) -> Dataset:
    """Return the samples that a plan reads: all, or as many as it says, each in the part that the whole split gave it.

    Where the plan was made with fewer opened than there are, the whole split is one of these. Every class keeps three
    samples that are opened, and one in each part where it has one, so there may be a few more than asked for.
    """
    if 0 < plan.opened < len(data) and not data.drawn:
        order, least = opening_order(data.labels, data.given, plan.seed)
        chosen = np.sort(order[: max(plan.opened, least)])
        data = replace(
            subset(data, chosen), warnings=(opened_remark(len(chosen), len(data)), *data.warnings), drawn=len(chosen)
        )
    if not 0 < plan.samples < len(data):
        return data
    parts, place = _parts_and_places(data, plan)
    most = max(plan.samples, np.count_nonzero(place == 0))
    chosen = np.sort(np.argsort(place, kind="stable")[:most])
    fewer = subset(replace(data, given=parts), chosen)
    sentence = (
        f"{len(fewer):,} of {len(data):,} samples were read, as the plan says (samples = {plan.samples}); more of them "
        "would make a better model, and a surer judgement."
    )
    return replace(fewer, warnings=(*data.warnings, sentence))


def reading_order(data: Dataset, plan: FitPlan) -> NDArray[np.int64]:
    """Row numbers, (N,), in the order in which ``sampled`` takes them."""
    return np.argsort(_parts_and_places(data, plan)[1], kind="stable")


def _parts_and_places(data: Dataset, plan: FitPlan) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """(N,) part of each sample in the whole split, and its place among those of its class in that part."""
    split = split_data(data, fractions=plan.fractions, seed=plan.seed, validating=True)
    parts = np.full(len(data), "train", dtype="<U5")
    place = np.full(len(data), np.inf)  # rows that the split leaves out come last
    for part in PARTS:
        rows = getattr(split, part)
        parts[rows] = part
        place[rows] = places(data.labels[rows], generator(plan.seed, "fewer samples", part))
    return parts, place
