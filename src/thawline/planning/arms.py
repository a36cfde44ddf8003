"""Arms: ways to use a pre-trained model on the data, each judged on samples that it did not learn from.

All arms share one deal of the samples to three folds. An arm is judged on a fold by what it learned from the other two,
so any two arms can be compared sample by sample on the folds that both were judged on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from thawline.errors import DataError
from thawline.heads.folds import stratified_group_folds
from thawline.heads.temperature import fit_temperature, row_log_losses
from thawline.planning.ways import Way

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.heads import HeadKind
    from thawline.records import Dataset, Split

N_FOLDS = 3
MOST_ROWS = 6_000
"""Most samples that arms are measured on: 2,000 judged in each fold tell apart what matters."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Samples that arms compete on: training and validation set, dealt to folds."""

    rows: NDArray[np.int64]
    """(n,) rows of the data set, ascending."""
    labels: NDArray[np.int64]
    """(n,)"""
    groups: NDArray[np.int64]
    """(n,)"""
    fold: NDArray[np.int64]
    """(n,) 0..N_FOLDS-1; -1 for samples that are always learned from and never judged."""
    n_classes: int

    @property
    def n_folds(self) -> int:
        return int(self.fold.max()) + 1

    def inside(self, fold: int) -> NDArray[np.bool_]:
        """Return (n,) which samples are judged in this fold."""
        return np.asarray(self.fold == fold)


def mark_out(data: Dataset, split: Split, seed: int) -> Field:
    """Deal the training set and the validation set to folds, copies and groups kept together.

    The validation set lies in fold 0, so that what learned from the others can be judged by it.

    Raises:
        DataError: All of them are one group, so that nothing can be held out.
    """
    rows = np.sort(np.concatenate([split.train, split.val]))
    rows = rows[fewer(data.labels[rows], data.groups[rows], MOST_ROWS, seed)]
    labels, groups = data.labels[rows], _numbered(data.groups[rows])
    fold = _dealt(labels, groups, np.isin(rows, split.val), seed)
    if fold.max() == 0:
        raise DataError(
            f"data must have two groups to learn from, so that one can be held out; all {len(rows)} samples are one "
            "group. Say what to thaw: --thaw none, or last:2."
        )
    return Field(rows, labels, groups, fold, len(data.classes))


def _dealt(
    labels: NDArray[np.int64], groups: NDArray[np.int64], in_first: NDArray[np.bool_], seed: int
) -> NDArray[np.int64]:
    """Deal rows to folds (n,); -1 for the groups of a class that has no other.

    No arm can tell a class that it has not seen. Its log loss there is that of a probability of 0, and would drown what
    the arms make of everything else.
    """
    class_and_group = np.unique(np.stack([labels, groups]), axis=1)
    classes, n_groups = np.unique(class_and_group[0], return_counts=True)
    only = np.isin(class_and_group[0], classes[n_groups == 1])
    kept = ~np.isin(groups, class_and_group[1, only])
    if len(np.unique(groups[kept])) < 2:  # too few to be choosy
        return stratified_group_folds(labels, groups, N_FOLDS, seed)
    fold = np.full(len(labels), -1)
    first = in_first[kept] & (not in_first[kept].all())  # another fold must hold something
    fold[kept] = stratified_group_folds(labels[kept], _numbered(groups[kept]), N_FOLDS, seed, in_first=first)
    return fold


def fewer(labels: NDArray[np.int64], groups: NDArray[np.int64], most: int, seed: int) -> NDArray[np.bool_]:
    """Return (n,) which samples to take: about ``most`` of them, in whole groups; all if there are no more.

    Args:
        labels: (n,) whose shares are kept.
        groups: (n,)
    """
    if len(labels) <= most:
        return np.ones(len(labels), dtype=np.bool_)
    # folds of a finer deal keep the shares of classes
    pieces = math.ceil(len(labels) / (most / 4))
    return np.asarray(stratified_group_folds(labels, _numbered(groups), pieces, seed) < 4)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arm:
    """One way, and its answers on samples that it did not learn from."""

    name: str
    """Shown to people: ``last layer, logistic``."""
    thaw: str
    """Thaw setting; ``none`` if nothing of the backbone learns."""
    layer: str
    """Where features are read: ``pooled``, a layer, or several with commas."""
    head: Literal["logistic", "ridge", "svm", "knn"]
    logits: NDArray[np.float64]
    """(n, C) of the samples of the field; rows of nan for those not judged."""
    seconds: float
    """Taken by judging."""
    thawed: float = 0.0
    """Share of the backbone's FLOPs that learn."""
    over: str = ""
    """Name of the arm that it is compared with; by default its start or, without one, the first arm."""
    start: Arm | None = None
    """The head that a training started from; it learned from the same samples."""
    learned: int = 0
    """Samples that a trial learned from, if fewer than heads learned from; else 0."""
    by_pairs: bool = False
    """Whether what was thawed learned from pairs of samples."""

    @property
    def way(self) -> str:
        """How the backbone is fine-tuned, as ``Way`` writes it."""
        return str(Way(self.thaw, self.by_pairs))

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Return (n,) whether a sample was judged."""
        return np.asarray(np.isfinite(self.logits).all(axis=1))

    def losses(self, labels: NDArray[np.int64], among: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return (n,) log loss of each sample after one temperature for all; nan for those not judged.

        Args:
            among: (n,) the samples that the temperature is fitted on and the losses are of; by default all.
        """
        seen = self.judged if among is None else self.judged & among
        temperature, _ = fit_temperature(self.logits[seen], labels[seen])
        losses = np.full(len(labels), np.nan)
        losses[seen] = row_log_losses(self.logits[seen] / temperature, labels[seen])
        return losses

    def correct(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (n,) 1 for a right answer, 0 for a wrong one; nan for samples not judged."""
        return np.where(self.judged, self.logits.argmax(axis=1) == labels, np.nan)


def judge_head(
    field: Field,
    values: NDArray[np.float32],
    *,
    name: str,
    layer: str,
    head: HeadKind = "logistic",
    widths: Sequence[int] = (),
    seed: int,
) -> Arm:
    """Judge a head on frozen features: fit it on two folds, ask about the third, its strength chosen without that.

    Args:
        values: (n, D) features of the samples of the field.
        widths: Columns of each depth, if there are several.
    """
    from thawline.heads import held_out_logits

    started = time.perf_counter()
    if head in ("logistic", "svm"):
        logits = held_out_logits(
            head, values, field.labels, field.n_classes, field.fold, groups=field.groups, widths=widths
        )
    else:
        logits = _fold_by_fold(field, values, head, widths, seed)
    return Arm(
        name=name,
        thaw="none",
        layer=layer,
        head=head,
        logits=logits,
        seconds=time.perf_counter() - started,
    )


def _fold_by_fold(
    field: Field, values: NDArray[np.float32], head: HeadKind, widths: Sequence[int], seed: int
) -> NDArray[np.float64]:
    """Return logits (n, C) of a head whose strength is chosen in closed form, or that has none."""
    from thawline.heads import fit_head

    logits = np.full((len(field.rows), field.n_classes), np.nan)
    for fold in range(field.n_folds):
        inside = field.inside(fold)
        if len(np.unique(field.labels[~inside])) < 2:
            continue
        fitted = fit_head(
            head,
            values[~inside],
            field.labels[~inside],
            field.n_classes,
            groups=field.groups[~inside],
            widths=widths,
            seed=seed,
        )
        logits[inside] = np.maximum(fitted.head.logits(values[inside]), _LOWEST_LOGIT)
    return logits


_LOWEST_LOGIT = -1e4
"""A class that the folds to learn from lack gets next to no probability, and a finite loss."""


def _numbered(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)
