"""Train embeddings by pairs: samples of one class close together, those of others apart; then solve a head on them.

A step runs each of its samples once and compares every two of them. A batch of 32 gives 496 pairs, for the price of 32
samples; pairs that are drawn one by one would run 992. So the cost grows with the samples, not with their pairs.

Source:
    Few-shot fine-tuning by pairs, then a head: Tunstall et al. 2022, arXiv:2209.11055 (SetFit).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.nn import functional

from thawline.errors import DataError
from thawline.heads import fit_head, refit_head
from thawline.randomness import generator
from thawline.training.predicting import arithmetic_of
from thawline.training.ragged import cut_to_longest, parts_of
from thawline.training.schedule import Order, n_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from thawline.heads.head import LinearHead
    from thawline.training.net import Above
    from thawline.training.stage import StageSpec, TrainingSetup

LEAST_OF_CLASS = 4
"""Samples of a class in a batch, if there are as many: with fewer, there would be few pairs of one class."""


class PairOrder(Order):
    """The batches of a stage that learns from pairs: a few classes, with a few samples of each.

    Classes take turns, and so do the samples of a class: all classes are seen equally often, and no two samples meet
    again before one of their classes has been shown whole.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        labels: NDArray[np.int64],
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        stage: str,
        views: int,
        most_pairs: int,
    ) -> None:
        """Describe the order.

        Args:
            rows: (n,) samples to train on.
            labels: (N,) of all samples.
            most_pairs: The stage ends, at the latest, when it has compared so many pairs; it makes one step at least.
            batch_size, epochs, seed, stage, views: As in ``Order``.
        Raises:
            DataError: There are no two samples of one class.
        """
        super().__init__(rows, batch_size=batch_size, epochs=epochs, seed=seed, stage=stage, views=views)
        found, sizes = np.unique(labels[rows], return_counts=True)
        if sizes.max() < 2:
            raise DataError(
                "contrastive training must have a class with two samples to learn from; each class has one. "
                "Bring more samples, or leave out --set objective=contrastive."
            )
        self._classes = [rows[labels[rows] == label] for label in found]
        self._of_class = max(batch_size // len(found), LEAST_OF_CLASS)
        self._at_once = min(max(batch_size // self._of_class, 2), len(found))
        """Classes in a batch."""
        self.pairs = n_pairs(self._at_once * self._of_class)
        """In a batch, if its classes have samples enough."""
        self.per_epoch = max(len(rows) // (self._at_once * self._of_class), 1)
        self.n_steps = min(epochs * self.per_epoch, max(most_pairs // self.pairs, 1))

    def _deal(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = generator(self._seed, "pairs", self._stage, epoch)
        shuffled = [rng.permutation(rows) for rows in self._classes]
        n_turns = self.per_epoch * self._at_once
        rounds = [rng.permutation(len(shuffled)) for _ in range(math.ceil(n_turns / len(shuffled)))]
        turns = np.concatenate(rounds)[:n_turns].reshape(self.per_epoch, self._at_once)
        shown = [0] * len(shuffled)
        batches = []
        for classes in turns:
            batch = []
            for label in classes:
                taken = np.arange(shown[label], shown[label] + min(self._of_class, len(shuffled[label])))
                batch.append(shuffled[label].take(taken, mode="wrap"))
                shown[label] += len(taken)
            batches.append(np.unique(np.concatenate(batch)))
        return batches


def order_of(spec: StageSpec, setup: TrainingSetup) -> Order:
    """Return the batches of a stage, by what it learns from."""
    settings = setup.settings
    usual: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "epochs": spec.epochs,
        "seed": setup.seed,
        "stage": spec.name,
        "views": spec.views,
    }
    if settings.objective == "contrastive":
        return PairOrder(spec.rows, setup.labels, most_pairs=round(spec.share * settings.pairs), **usual)
    return Order(spec.rows, **usual)


def pairs_backward(
    above: Above, crossing: tuple[torch.Tensor, ...], labels: torch.Tensor, setup: TrainingSetup
) -> float:
    """Add the gradients of the loss of all pairs of a batch; return the loss.

    Args:
        crossing: What crosses the thaw line, each (B, ...), in order of length.
        labels: (B,)
    """
    with arithmetic_of(setup):
        parts = [tuple(tensor[part] for tensor in crossing) for part in parts_of(crossing, setup.pad)]
        found = [above.features(cut_to_longest(part, setup.pad)) for part in parts]
    features = torch.cat(found)  # (B, D): a pair may lie in two parts, so the gradient is that of all parts at once
    loss = pair_loss(features, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def pair_loss(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return how far the cosines of all pairs of a batch are from 1 within a class, and from 0 between classes.

    It is the mean square over pairs of one class, and that over pairs of two classes, weighed alike: pairs of two
    classes are many more, the more classes there are.

    Args:
        features: (B, D)
        labels: (B,)
    Source:
        The cosine loss of Sentence-BERT (Reimers & Gurevych 2019, arXiv:1908.10084), as SetFit uses it.
    """
    unit = functional.normalize(features, dim=1)
    first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    cosines = (unit @ unit.T)[first, second]  # (B, D) -> (pairs,)
    same = labels[first] == labels[second]
    apart = (cosines - same.float()).square()
    return (_mean(apart, same) + _mean(apart, ~same)) / 2


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Return the mean of some values, 0 if there are none."""
    return (values * where).sum() / where.sum().clamp(min=1)


def solve_head(head: nn.Module, features: NDArray[np.float32], rows: NDArray[np.int64], setup: TrainingSetup) -> None:
    """Put the head that is solved on features (n, D) of samples into a linear layer.

    Its strength is the one that cross-validation chose on features of the frozen backbone. The new features have seen
    the labels of these samples, so cross-validation on them would find everything told apart, and no doubt left.
    """
    labels = setup.labels[rows]
    groups = None if setup.groups is None else setup.groups[rows]
    if setup.probe is None:
        found = fit_head("logistic", features, labels, setup.n_classes, groups=groups, seed=setup.seed).head
    else:
        found = refit_head(setup.probe, features, labels, setup.n_classes, groups=groups)
    solved, linear = cast("LinearHead", found), cast("nn.Linear", head)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(solved.weight / solved.temperature))
        linear.bias.copy_(torch.from_numpy(solved.bias / solved.temperature))
