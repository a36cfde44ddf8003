"""A baseline of texts: the vectors of their word pieces, averaged, and logistic regression on them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from thawline.backbones import Backbone, open_backbone
from thawline.backbones.names import DEFAULT_TEXT_MODEL
from thawline.data import subset
from thawline.evaluation import MeasuredBaseline, score
from thawline.evaluation.baselines import METHODS
from thawline.features import extract_features
from thawline.heads import fit_head

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
    n_classes, labels = len(data.classes), data.labels[learned]
    fitted = fit_head("logistic", values[: len(learned)], labels, n_classes, groups=data.groups[learned], seed=seed)
    probabilities = fitted.head.predict_proba(values[len(learned) :])
    scores = score(data.labels[asked], probabilities, n_classes, seed=seed)
    seconds = time.perf_counter() - started
    return (MeasuredBaseline("words", METHODS["words"], scores, seconds, probabilities, uses_backbone=False),)
