"""How many samples a budget of seconds lets be read, from a few that are timed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from thawline.data import split_data
from thawline.planning.timing import head_seconds, time_features

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.planning.budget import Budget
    from thawline.planning.fit_plan import FitPlan
    from thawline.records import Dataset

FOR_READING = 0.9
"""Share of the time left that features and heads may take together, where nothing else can be had for it."""
HEADS = 4.5
"""Times that a head is solved: in each of three folds, on two thirds of the samples, and on all; and some to spare."""
FEWEST_OF_A_CLASS = 10


def samples_within(data: Dataset, backbone: Backbone, plan: FitPlan, budget: Budget) -> int:
    """Return how many samples can be read, a head be chosen and solved on them, and all be over in time; 0 for all.

    However little time is left, it is ten of each class: with fewer there would be nothing to say about the model.
    """
    if budget.seconds is None:
        return 0
    features_s, picture_s, width = time_features(data, backbone, plan)
    split = split_data(data, fractions=plan.fractions, seed=plan.seed)
    left = FOR_READING * (budget.left() - budget.spare())
    head_s = HEADS * head_seconds(split, data, plan, width) / len(data)
    if features_s + head_s * len(data) <= left:
        return 0
    fewest = FEWEST_OF_A_CLASS * len(data.classes)
    affordable = max(math.floor(left / max(picture_s + head_s, 1e-9)), fewest)
    return affordable if affordable < len(data) else 0
