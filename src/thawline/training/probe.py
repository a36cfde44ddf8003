"""Solve a new head on frozen features: the first stage of every training, and the only one if nothing is thawed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from thawline.records import HeadSearch, StageReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.heads import FittedHead, Head
    from thawline.records import Split


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A trained head, a trained backbone if layers were thawed, and the reports of their stages."""

    head: Head
    """The head that ships; fitted on the training and validation sets together if the plan says so."""
    probe: FittedHead | None
    """The choice of strength, on the training set only; None if no head was solved."""
    validation_probabilities: NDArray[np.float64] | None
    """(n_val, C) what the model says that saw the training set only: probabilities, or numbers; None without a
    validation set."""
    stages: tuple[StageReport, ...]
    backbone: Backbone | None = None
    """The trained backbone; None if the pre-trained one is used as it is."""
    receipts: tuple[Mapping[str, Any], ...] = ()
    """One per stage of training."""
    kept: str = "none"
    """Thaw setting of the last stage that was kept."""
    solved: Head | None = None
    """The solved head that training began from, on training and validation sets: the result without thawing."""


def fit_probe(
    kind: Literal["logistic", "ridge", "svm"],
    values: NDArray[np.float32],
    labels: NDArray[Any],
    split: Split,
    n_classes: int,
    *,
    groups: NDArray[np.int64],
    seed: int,
    widths: Sequence[int] = (),
    backbone_parameters: int,
) -> Fitted:
    """Fit a head on frozen features.

    Cross-validation within the training set chooses the strength of regularisation, and the validation set measures
    that head. There is nothing else to choose, so the head that ships is fitted once more on both sets at that
    strength: no labelled sample outside the test set goes unused.

    Args:
        values: (N, D) features of all samples.
        labels: (N,) classes, or (N, C) labels or numbers; see ``Dataset.truth``.
        groups: (N,) samples with equal numbers share a fold.
        widths: Columns of each layer, if features of several layers stand side by side.
        backbone_parameters: Frozen parameters, for the record.
    """
    import numpy as np

    from thawline.heads import fit_head, refit_head, task_of

    train, val = split.train, split.val
    started = time.perf_counter()
    probe = fit_head(kind, values[train], labels[train], n_classes, groups=groups[train], widths=widths, seed=seed)
    head, validation_probabilities = probe.head, None
    if len(val):
        validation_probabilities = probe.head.predict_proba(values[val])
        both = np.sort(np.concatenate([train, val]))
        head = refit_head(probe, values[both], labels[both], n_classes, groups=groups[both])
    stage = StageReport(
        name="head",
        trainable=head.n_parameters,
        frozen=backbone_parameters,
        score=probe.cv_log_loss,
        score_name=f"cross-validated {task_of(labels).loss_name} on the training set",
        seconds=time.perf_counter() - started,
        details=HeadSearch(kind=kind, chosen=probe.chosen, path=probe.path),
    )
    return Fitted(head=head, probe=probe, validation_probabilities=validation_probabilities, stages=(stage,))
