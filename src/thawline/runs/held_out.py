"""What samples that were held out tell of a model's answers: thresholds of labels, and how sure numbers are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from thawline.bundles.answers import CLASSES, Answers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.records import Dataset, Split
    from thawline.training import Fitted

LEAST = 39
"""Fewer residuals do not tell where 95 of 100 end."""
SURE = 0.95


def held_out_answers(data: Dataset, held_out: Split, fitted: Fitted) -> Answers:
    """Return what the head that ships puts out.

    The validation set tells and, where a solved head ships, also the training set, of which each sample was asked of a
    fit that had not seen it. The head that ships has learned from these samples too, so it is rather surer.

    Args:
        held_out: What training was judged by.
    Source:
        Intervals: split conformal prediction, Lei et al. 2018, JASA 113:1094.
    """
    if data.targets is None:
        return CLASSES
    truth, outputs = _held_out(data, held_out, fitted)
    if outputs is None:
        return Answers(data.target)
    if data.target == "labels":
        from thawline.evaluation.label_scores import best_thresholds

        return Answers("labels", thresholds=tuple(best_thresholds(truth, outputs).tolist()))
    import numpy as np

    n = len(outputs)
    if n < LEAST:
        return Answers("number")
    residuals = np.sort(np.abs(truth - outputs), axis=0)
    return Answers("number", half_widths=tuple(residuals[min(math.ceil((n + 1) * SURE), n) - 1].tolist()))


def _held_out(data: Dataset, held_out: Split, fitted: Fitted) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Return what is true of samples that were held out, and what was said of them; None if none were."""
    import numpy as np

    from thawline.heads import task_for

    rows, outputs = [], []
    if fitted.validation_probabilities is not None and len(held_out.val):
        rows.append(held_out.val)
        outputs.append(fitted.validation_probabilities)
    solved = fitted.backbone is None and fitted.kept == "none" and fitted.probe is not None
    if solved and fitted.probe is not None and fitted.probe.held_out_logits is not None:
        known = np.isfinite(fitted.probe.held_out_logits).all(axis=1)
        rows.append(held_out.train[known])
        outputs.append(task_for(data.target).outputs(fitted.probe.held_out_logits[known]))
    if not rows or not sum(map(len, rows)):
        return data.truth[:0], None
    return data.truth[np.concatenate(rows)], np.concatenate(outputs)
