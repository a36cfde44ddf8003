"""Arms: ways to use a pre-trained model on the data, each judged on samples that it did not learn from.

All arms share one deal of the samples to three folds. An arm is judged on a fold by what it learned from the other two,
so any two arms can be compared sample by sample on the folds that both were judged on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thawline.errors import DataError
from thawline.heads.folds import stratified_group_folds
from thawline.heads.tasks import Task, task_of
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
    """(n,) classes or, with ``targets``, strata."""
    groups: NDArray[np.int64]
    """(n,)"""
    fold: NDArray[np.int64]
    """(n,) 0..N_FOLDS-1; -1 for samples that are always learned from and never judged."""
    n_classes: int
    """C, of classes, labels or numbers."""
    targets: NDArray[Any] | None = None
    """(n, C) labels or numbers; None where classes are learned."""

    @property
    def truth(self) -> NDArray[Any]:
        """What arms are judged by; see ``Dataset.truth``."""
        return self.labels if self.targets is None else self.targets

    @property
    def task(self) -> Task:
        """What the target means."""
        return task_of(self.truth)

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
    targets = None if data.targets is None else data.truth[rows]
    return Field(rows, labels, groups, fold, len(data.outputs), targets)


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
    is_number: bool = False
    """Whether its logits are numbers."""
    learned: int = 0
    """Samples that a trial learned from, if fewer than heads learned from; else 0."""
    by_pairs: bool = False
    """Whether what was thawed learned from pairs of samples."""

    @property
    def way(self) -> str:
        """How the backbone is fine-tuned, as ``Way`` writes it."""
        return str(Way(self.thaw, self.by_pairs))

    @property
    def is_usual(self) -> bool:
        """Whether its head is of the kind that ships."""
        return self.head == ("ridge" if self.is_number else "logistic")

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Return (n,) whether a sample was judged."""
        return np.asarray(np.isfinite(self.logits).all(axis=1))

    def losses(self, labels: NDArray[Any], among: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return (n,) loss of each sample after one temperature for all; nan for those not judged.

        Args:
            among: (n,) the samples that the temperature is fitted on and the losses are of; by default all.
        """
        seen = self.judged if among is None else self.judged & among
        task = task_of(labels)
        temperature = task.temperature(self.logits[seen], labels[seen])
        losses = np.full(len(labels), np.nan)
        losses[seen] = task.row_losses(self.logits[seen] / temperature, labels[seen])
        return losses

    def correct(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """Return (n,) 1 for a right answer, 0 for a wrong one, of numbers what adds up to R2; nan if not judged."""
        seen, right = self.judged, np.full(len(labels), np.nan)
        right[seen] = task_of(labels).right(self.logits[seen], labels[seen])
        return right


def usual_head(truth: NDArray[Any]) -> Literal["logistic", "ridge"]:
    """Return the head that ships if no other is asked for: ridge of numbers, else logistic."""
    return "ridge" if task_of(truth).target == "number" else "logistic"


def judge_head(
    field: Field,
    values: NDArray[np.float32],
    *,
    name: str,
    layer: str,
    head: HeadKind | None = None,
    widths: Sequence[int] = (),
    seed: int,
) -> Arm:
    """Judge a head on frozen features: fit it on two folds, ask about the third, its strength chosen without that.

    Args:
        values: (n, D) features of the samples of the field.
        head: By default the usual one of the target.
        widths: Columns of each depth, if there are several.
    """
    from thawline.heads import held_out_logits

    started = time.perf_counter()
    head = head or usual_head(field.truth)
    if head in ("logistic", "svm"):
        logits = held_out_logits(
            head, values, field.truth, field.n_classes, field.fold, groups=field.groups, widths=widths
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
        is_number=field.task.target == "number",
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
            field.truth[~inside],
            field.n_classes,
            groups=field.groups[~inside],
            widths=widths,
            seed=seed,
        )
        answers = fitted.head.logits(values[inside])
        logits[inside] = answers if field.task.target == "number" else np.maximum(answers, _LOWEST_LOGIT)
    return logits


_LOWEST_LOGIT = -1e4
"""A class that the folds to learn from lack gets next to no probability, and a finite loss."""


def _numbered(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)
