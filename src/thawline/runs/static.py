"""A baseline of texts: the vectors of their word pieces, averaged, and a linear head on them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from thawline.backbones import Backbone, open_backbone
from thawline.backbones.names import DEFAULT_TEXT_MODEL
from thawline.data import subset
from thawline.evaluation import MeasuredBaseline, evaluator_for
from thawline.evaluation.baselines import METHODS, OF_TARGETS
from thawline.features import extract_features
from thawline.heads import fit_head
from thawline.planning.arms import usual_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import Dataset


def static_baselines(
    data: Dataset, learned: NDArray[np.int64], asked: NDArray[np.int64], backbone: Backbone, *, seed: int
) -> tuple[MeasuredBaseline, ...]:
    """Fit on the vectors that ship inside; nothing for pictures, and where the backbone is made of those very vectors.

    Args:
        learned, asked: Rows of the training set and of the test set.
        backbone: Of the run.
    """
    if data.kind != "text" or backbone.name == DEFAULT_TEXT_MODEL:
        return ()
    started = time.perf_counter()
    both = np.concatenate([learned, asked])
    values = extract_features(subset(data, both), open_backbone(DEFAULT_TEXT_MODEL)).values
    truth, n = data.truth[learned], len(data.outputs)
    head = usual_head(truth)
    fitted = fit_head(head, values[: len(learned)], truth, n, groups=data.groups[learned], seed=seed)
    probabilities = fitted.head.predict_proba(values[len(learned) :])
    scores = evaluator_for(data.target).score(data.truth[asked], probabilities, seed=seed)
    seconds = time.perf_counter() - started
    title = OF_TARGETS[data.target].get("words", METHODS["words"])
    return (MeasuredBaseline("words", title, scores, seconds, probabilities, uses_backbone=False),)
