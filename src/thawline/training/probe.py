"""The first stage of every training, and the only one while the line stands above the whole backbone: a new head."""

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
    """A trained head and, where something was thawed, a trained backbone; and how they came to be."""

    head: Head
    """What ships; fitted on the training and validation parts together wherever the plan says so."""
    probe: FittedHead | None
    """The choice of strength: fitted and cross-validated on the training part only. None where no head was solved."""
    validation_probabilities: NDArray[np.float64] | None
    """(n_val, C) from the model that saw the training part only; None without a validation part."""
    stages: tuple[StageReport, ...]
    backbone: Backbone | None = None
    """The trained one; None where the pre-trained one is used as it is."""
    receipts: tuple[Mapping[str, Any], ...] = ()
    """One per stage of training."""
    kept: str = "none"
    """Thaw setting that was kept in the end."""
    solved: Head | None = None
    """The solved head that training began from, on training and validation parts: what thawing nothing would give."""


def fit_probe(
    kind: Literal["logistic", "ridge", "svm"],
    values: NDArray[np.float32],
    labels: NDArray[np.int64],
    split: Split,
    n_classes: int,
    *,
    groups: NDArray[np.int64],
    seed: int,
    widths: Sequence[int] = (),
    backbone_parameters: int,
) -> Fitted:
    """Fit a head on frozen features.

    Its strength of regularisation is chosen by cross-validation inside the training part. The validation part then
    measures that head; as a linear probe has nothing else to choose, the head that ships is fitted once more on both
    parts at that strength: no labelled sample outside the test part goes unused.

    Args:
        values: (N, D) features of all samples.
        labels: (N,)
        groups: (N,) samples with equal numbers share a fold.
        widths: Columns of each layer, where features of several stand side by side.
        backbone_parameters: Frozen parameters, for the record.
    """
    import numpy as np

    from thawline.heads import fit_head, refit_head

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
        score_name="cross-validated log loss on the training part",
        seconds=time.perf_counter() - started,
        details=HeadSearch(kind=kind, chosen=probe.chosen, path=probe.path),
    )
    return Fitted(head=head, probe=probe, validation_probabilities=validation_probabilities, stages=(stage,))
