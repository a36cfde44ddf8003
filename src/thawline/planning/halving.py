"""Rank by halving: few pictures for every model, more for the models in front."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.lines import depth_rungs
from thawline.data import subset
from thawline.errors import ModelError
from thawline.heads.head import softmax
from thawline.listening import Watcher
from thawline.planning.contenders import RANDOM
from thawline.planning.scores import LeftOut, h_score, knn_left_out, leep, log_evidence, nleep, ridge_left_out
from thawline.planning.source_head import SourceHead, read_source_head
from thawline.randomness import generator
from thawline.records import Dataset

if TYPE_CHECKING:
    from thawline.backbones import Backbone

POOLED = "pooled"
ETA = 3
"""One model in so many goes on to the next round."""
FINALISTS = 3
"""So few models are measured in one last round."""
LEAST_PICTURES, LEAST_PER_CLASS = 20, 3
"""Pictures of the first round, whatever the budget; round k has at least k times as many."""


def probe_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Order rows (N,) so that each beginning holds the classes in proportion, and two of each first."""
    rng = generator(seed, "rank")
    drawn = rng.permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = drawn[labels[drawn] == label]
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
        place[own[:2]] = -1
    return drawn[np.argsort(place[drawn], kind="stable")]


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """Answers of the two heads on the pictures of one round."""

    ridge: LeftOut
    knn: LeftOut

    @property
    def losses(self) -> NDArray[np.float64]:
        """(n,) mean of the two heads' log losses, nats."""
        return (self.ridge.losses + self.knn.losses) / 2


@dataclass(slots=True, eq=False)
class Contender:
    """A model while it is being ranked."""

    name: str
    backbone: Backbone
    multiply_adds: int
    """Of one picture."""
    seconds: float
    rounds: list[Round] = field(default_factory=list)
    """Of each round."""
    values: tuple[NDArray[np.float32], ...] = ()
    """(n, D) features of the last round, of each depth; the pooled ones last."""

    @property
    def loss(self) -> float:
        return float(self.rounds[-1].losses.mean())

    @property
    def is_pretrained(self) -> bool:
        return not self.name.startswith(RANDOM)


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Pictures that models are shown, and how they are run."""

    data: Dataset
    rows: NDArray[np.int64]
    """Of the training set, in the order in which they are shown."""
    depths: bool
    run: Mapping[str, Any]
    watcher: Watcher
    seed: int

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.data.labels[self.rows]

    def show(self, contender: Contender, n: int, phase: str, done: int, total: int) -> None:
        """Run a model on the first ``n`` pictures, and judge it.

        Args:
            phase, done, total: Of the progress that is reported.
        """
        from thawline.features import extract_rungs

        started = time.perf_counter()
        pictures = subset(self.data, self.rows[:n])
        rungs = depth_rungs(contender.backbone.ladder) if self.depths else [POOLED]

        def report(run: int, to_run: int) -> None:
            self.watcher.progress(phase, done + n - to_run + run, total)

        extracted = extract_rungs(pictures, contender.backbone, rungs, progress=report, **self.run)
        contender.values = tuple(features.values for features in extracted)
        labels, groups = pictures.labels, pictures.groups
        n_classes = len(self.data.classes)
        contender.rounds.append(
            Round(
                ridge=ridge_left_out(contender.values, labels, n_classes, groups=groups),
                knn=knn_left_out(contender.values[-1], labels, n_classes, groups=groups),
            )
        )
        contender.seconds += time.perf_counter() - started
        self.watcher.progress(phase, done + n, total)

    def beside(self, contender: Contender) -> dict[str, float | None]:
        """Return the scores that decide nothing."""
        started = time.perf_counter()
        pooled = contender.values[-1]
        labels = self.labels[: len(pooled)]
        scores = {
            "knn": contender.rounds[-1].knn.accuracy,
            "log_evidence": log_evidence(pooled, labels),
            "h_score": h_score(pooled, labels),
            "leep": _leep(contender.backbone, pooled, labels),
            "nleep": nleep(pooled, labels, seed=self.seed),
        }
        contender.seconds += time.perf_counter() - started
        return scores


def _leep(backbone: Backbone, pooled: NDArray[np.float32], labels: NDArray[np.int64]) -> float | None:
    """Return LEEP, if the weights hold the classifier that they were trained with; else None."""
    head = read_source_head(backbone)
    if not isinstance(head, SourceHead) or head.weight.shape[1] != pooled.shape[1]:
        return None
    return leep(softmax(head.logits(pooled.astype(np.float64))), labels)


def round_sizes(n_models: int) -> list[int]:
    """Return the models of each round, without the largest pre-trained one that comes along."""
    sizes = [n_models]
    while sizes[-1] > FINALISTS:
        sizes.append(max(2, -(-sizes[-1] // ETA)))
    return sizes


def halve(
    contenders: Sequence[Contender],
    probe: Probe,
    n_probe: int,
    budget_pictures: float,
    leave_out: Callable[[str, Exception], None],
) -> tuple[list[tuple[int, int]], float]:
    """Show pictures to models, round by round.

    Args:
        n_probe: Most pictures of the last round.
        budget_pictures: What may be spent, in units of one picture run through all models.
        leave_out: Told the name of a model that cannot be run, and why.
    Returns:
        (models, pictures) of each round, and the multiply-adds spent.
    """
    alive = list(contenders)
    budget = budget_pictures * sum(contender.multiply_adds for contender in contenders)
    least = max(LEAST_PICTURES, LEAST_PER_CLASS * len(probe.data.classes))
    sizes, rounds, spent, n = round_sizes(len(alive)), list[tuple[int, int]](), 0.0, 0
    for number, size in enumerate(sizes, start=1):
        if rounds:
            alive = _going_on(alive, size)
        per_picture = sum(contender.multiply_adds for contender in alive)
        affordable = n + int((budget - spent) / (len(sizes) + 1 - number) / max(per_picture, 1))
        before, n = n, min(max(affordable, least * number), n_probe, len(probe.rows))
        if n == before or not alive:
            break
        for place, contender in enumerate(alive):
            try:
                probe.show(contender, n, f"round {number}", place * n, len(alive) * n)
            except ModelError as error:
                leave_out(contender.name, error)
                contender.rounds.clear()
                continue
            spent += (n - before) * contender.multiply_adds
        alive = sorted((c for c in alive if c.rounds), key=lambda contender: contender.loss)
        rounds.append((len(alive), n))
    return rounds, spent


def _going_on(alive: Sequence[Contender], size: int) -> list[Contender]:
    """Return the best as measured, and the pre-trained one that computes most: the best guess without measuring."""
    largest = max(
        (contender for contender in alive if contender.is_pretrained),
        key=lambda contender: contender.multiply_adds,
        default=None,
    )
    return [*alive[:size], *(contender for contender in alive[size:] if contender is largest)]
