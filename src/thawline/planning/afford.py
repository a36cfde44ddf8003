"""Find out how many samples a budget of seconds lets be read: time a few, then follow the clock."""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from thawline.data.sampling import FEWEST_OF_A_CLASS
from thawline.planning.timing import time_features, time_head

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.planning.budget import Budget
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.ground import Ground

FOR_READING = 0.9
"""Features and heads together may take this share of the time left."""
HEADS = 2.5
"""Heads to solve, in units of one on all samples: one on all, and judging it on three folds, which takes 0.5 to 0.9 of
that; with some to spare."""
TIMED_FIRST = 64
"""Samples that are timed first."""
MOST_STEPS, AT_ONCE, CLOSE = 4, 0.6, 0.15
"""Samples are read in at most so many steps, each of that share of what seems to fit, because the pace may change. The
last share is read without being timed."""


class Affordable(NamedTuple):
    """Number of samples that can be read, and what finding it out took."""

    samples: int = 0
    """0 for all."""
    computed: int = 0
    """Samples whose features were computed and stored as a side effect."""
    seconds: float = 0.0
    """Seconds that these features took."""


def samples_within(whole: Ground, backbone: Backbone, plan: FitPlan, budget: Budget) -> Affordable:
    """Find out for how many samples there is time to read them and to choose and solve a head on them.

    At least ten of each class, however little time is left: fewer would say nothing about the model.

    Args:
        whole: All samples that were opened.
    """
    if budget.seconds is None:
        return Affordable()
    data, split, order = whole.data, whole.split, whole.order  # times those that will be read first

    def left() -> float:
        return FOR_READING * (budget.left() - budget.spare())

    timed = time_features(data, backbone, plan, order, TIMED_FIRST)
    computed, took_s = timed.computed, timed.took_s
    learned = (len(split.train) + len(split.val)) / len(data)
    most = learned * left() / max(timed.picture_s, 1e-9)  # samples to learn from, if heads took no time
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
