"""How many samples a budget of seconds lets be read, by the clock and from a few that are timed."""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from thawline.data import split_data
from thawline.data.sampling import FEWEST_OF_A_CLASS
from thawline.planning.sampling import reading_order
from thawline.planning.timing import time_features, time_head

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.planning.budget import Budget
    from thawline.planning.fit_plan import FitPlan
    from thawline.records import Dataset

FOR_READING = 0.9
"""Share of the time left that features and heads may take together, where nothing else can be had for it."""
HEADS = 4.5
"""Times that a head is solved: in each of three folds, on two thirds of the samples, and on all; and some to spare."""
TIMED_FIRST = 64
"""Pictures that are timed before it is known whether there is time for more."""
MOST_STEPS, AT_ONCE, CLOSE = 4, 0.6, 0.15
"""Reading goes on in steps, each of that share of what seems to fit, so that the end is met although the pace may
change; the last share of it is read without being timed."""


class Affordable(NamedTuple):
    """How many samples can be read, and what it took to find out."""

    samples: int = 0
    """0 for all."""
    computed: int = 0
    """Samples whose features were computed and stored by the way."""
    seconds: float = 0.0
    """That those took."""


def samples_within(data: Dataset, backbone: Backbone, plan: FitPlan, budget: Budget) -> Affordable:
    """Find out how many samples can be read, a head be chosen and solved on them, and all be over in time.

    However little time is left, it is ten of each class: with fewer there would be nothing to say about the model.
    """
    if budget.seconds is None:
        return Affordable()
    order = reading_order(data, plan)  # so that what is timed is of what will be read

    def left() -> float:
        return FOR_READING * (budget.left() - budget.spare())

    timed = time_features(data, backbone, plan, order, TIMED_FIRST)
    computed, took_s = timed.computed, timed.took_s
    split = split_data(data, fractions=plan.fractions, seed=plan.seed)
    learned = (len(split.train) + len(split.val)) / len(data)
    most = learned * left() / max(timed.picture_s, 1e-9)  # could learn, if heads took no time
    head = time_head(split, data, plan, timed.width, max(math.ceil(most), TIMED_FIRST))

    def cost(n: int, stored: float, picture_s: float) -> float:
        return max(n - stored, 0.0) * picture_s + HEADS * head.of(round(learned * n))

    for _ in range(MOST_STEPS):
        stored = len(data) - timed.left_s / max(timed.picture_s, 1e-9)
        so_far = partial(cost, stored=stored, picture_s=timed.picture_s)
        affordable = bisect_right(range(1, len(data) + 1), left(), key=so_far)
        if affordable == len(data):
            return Affordable(0, computed, took_s)
        more = affordable - stored
        if more < CLOSE * affordable:
            break
        timed = time_features(data, backbone, plan, order, math.ceil(AT_ONCE * more))
        computed, took_s = computed + timed.computed, took_s + timed.took_s
    samples = max(affordable, FEWEST_OF_A_CLASS * len(data.classes))
    return Affordable(samples if samples < len(data) else 0, computed, took_s)
