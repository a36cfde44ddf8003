"""Measure frozen head and fine-tuning with few samples and with more, each judged on the same others."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thawline.backbones.lines import thaw_lines
from thawline.errors import DataError, UsageError
from thawline.heads.temperature import fit_temperature, row_log_losses
from thawline.listening import ProgressOnly
from thawline.planning.arms import fewer
from thawline.planning.asking import ask_for
from thawline.planning.few_samples import worth_pairs
from thawline.planning.pays_from import PaysFrom, Size, Trained, pays_from
from thawline.planning.stage_plans import settle, whole_epochs
from thawline.planning.ways import Way
from thawline.randomness import generator
from thawline.records import Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.ground import Ground
    from thawline.training.settings import TrainAsk

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the samples that are learned from."""
DRAWS = 2
"""Draws of each share but the whole: which samples are drawn decides much where there are few."""
MOST_TO_LEARN, OF_CLASS, MOST_TO_JUDGE = 2_000, 20, 1_000
"""Most samples of the largest share, but so many a class at least; and most that are judged."""
LEAST_OF_CLASS = 2.0
"""Smaller shares are left out: one sample a class makes no pair, and no doubt can be measured with it."""


def fine_tuning_curve(ground: Ground, backbone: Backbone, plan: FitPlan, asked: TrainAsk, watcher: Watcher) -> PaysFrom:
    """Measure from how many samples a class fine-tuning pays.

    A third of the samples that are not for testing judges; of the others an eighth, a quarter, a half and all are
    learned from. Fine-tuning is what a plan would try with so many: at the line of the plan or, if that thaws nothing,
    at the middle one; by pairs where classes have few samples.

    Args:
        plan: Says how features are read, and the thaw setting.
        asked: Settings of training that were asked for.
        watcher: Hears of progress.
    Raises:
        UsageError: Nothing of the model can learn, or the samples have no classes.
        DataError: There are too few samples.
    """
    if backbone.frozen_only or plan.from_scratch:
        what = "random weights" if plan.from_scratch else f"{backbone.title}, which can only be used frozen"
        raise UsageError(
            f"--curve must have a pre-trained model whose layers can learn; got {what}. Leave --curve out."
        )
    if ground.data.target != "class":
        raise UsageError(
            f"--curve must have one class for each sample; {ground.data.name} has {ground.data.target}. Leave it out."
        )
    return _Measuring(ground, backbone, plan, asked, watcher).curve()


class _Measuring:
    """What the trainings of a curve share."""

    def __init__(self, ground: Ground, backbone: Backbone, plan: FitPlan, asked: TrainAsk, watcher: Watcher) -> None:
        from thawline.features import extract_features

        self._ground, self._backbone, self._asked, self._watcher = ground, backbone, asked, watcher
        lines = thaw_lines(backbone.ladder)
        thaw = plan.thaw if plan.fine_tunes_once else lines[-2 if len(lines) > 1 else -1]
        self._bare = plan.changed(thaw=thaw, layer="pooled", head="logistic", training=None, stages=())
        self._values = extract_features(
            ground.data,
            backbone,
            engine=plan.engine,
            precision=plan.precision,
            device=plan.device,
            progress=lambda done, total: watcher.progress("features", done, total),
        ).values
        field = ground.field
        inside, enough = field.inside(0), max(MOST_TO_LEARN, OF_CLASS * field.n_classes)
        self._learn, self._judge = self._fewer(~inside, enough), self._fewer(inside, MOST_TO_JUDGE)

    def _fewer(self, among: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
        field = self._ground.field
        return field.rows[among][fewer(field.labels[among], field.groups[among], most, self._ground.seed)]

    def curve(self) -> PaysFrom:
        n_classes = self._ground.field.n_classes
        shares = [share for share in SHARES if share * len(self._learn) / n_classes >= LEAST_OF_CLASS]
        if len(shares) < 2:
            raise DataError(
                f"data must leave {2 * LEAST_OF_CLASS:g} samples a class to learn from beside those that judge, for a "
                f"curve; {self._ground.data.name} leaves {len(self._learn)} in {n_classes} classes. Bring more samples."
            )
        n_draws = [1 if share == 1 else DRAWS for share in shares]
        total = sum(n_draws)
        sizes: list[Size] = []
        for share, draws in zip(shares, n_draws, strict=True):
            drawn = [self._drawn(share, draw) for draw in range(draws)]
            n = len(drawn[0])
            way = self._way(n / n_classes)
            done = sum(n_draws[: len(sizes)])
            trained = [self._trained(rows, way, done + i, total) for i, rows in enumerate(drawn)]
            sizes.append(Size(n=n, of_class=n / n_classes, way=str(way), draws=trained))
        return pays_from(sizes, self._ground.data.groups[self._judge], self._ground.seed)

    def _way(self, of_class: float) -> Way:
        return Way(self._bare.thaw, worth_pairs(self._ground.data.kind, of_class, self._asked))

    def _drawn(self, share: float, draw: int) -> NDArray[np.int64]:
        """Return a share of the samples of each class, one at least; a larger share of the same draw holds it."""
        return np.sort(np.concatenate(list(self._of_classes(share, draw))))

    def _of_classes(self, share: float, draw: int) -> Iterator[NDArray[np.int64]]:
        labels = self._ground.data.labels[self._learn]
        rng = generator(self._ground.seed, "curve", draw)
        for label in np.unique(labels):
            rows = rng.permutation(self._learn[labels == label])
            yield rows[: max(round(share * len(rows)), 1)]

    def _trained(self, rows: NDArray[np.int64], way: Way, done: int, total: int) -> Trained:
        """Solve a head on some samples, fine-tune from there, and judge both."""
        from thawline.training import fit_probe
        from thawline.training.finetune import fine_tune

        ground, nothing = self._ground, rows[:0]
        split = Split(rows, self._judge, nothing, "a share of the samples", nothing)
        probe = fit_probe(
            "logistic",
            self._values,
            ground.data.labels,
            split,
            ground.field.n_classes,
            groups=ground.data.groups,
            seed=ground.seed,
            backbone_parameters=self._backbone.n_parameters(),
        )
        plan = settle(self._bare, ground, self._backbone, way.training(self._asked))
        assert plan.training is not None
        (stage,) = plan.stages
        epochs = self._asked.epochs or whole_epochs(len(rows), plan.training, of_texts=ground.data.kind == "text")
        short = stage.changed(epochs=epochs, joint_epochs=0, joint_thaw="", views=min(stage.views, epochs))
        ask = ask_for(plan, stages=(short,), settings=plan.training.changed(refit=False))
        listener = ProgressOnly(self._telling(f"training {done + 1} of {total}, {len(rows):,} samples"))
        with tempfile.TemporaryDirectory(prefix="thawline-curve-") as state:
            tuned = fine_tune(
                ask, ground.data, split, self._backbone, self._values, probe, Path(state), listener
            ).validation_probabilities
        frozen = probe.validation_probabilities
        assert frozen is not None and tuned is not None
        labels = ground.data.labels[self._judge]
        return Trained(
            frozen=_losses(frozen, labels),
            tuned=_losses(tuned, labels),
            frozen_right=frozen.argmax(axis=1) == labels,
            tuned_right=tuned.argmax(axis=1) == labels,
        )

    def _telling(self, what: str) -> Callable[[str, int, int], None]:
        return lambda phase, done, of: self._watcher.progress(what, done, of)


def _losses(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return log losses (m,), after one temperature for all, as arms of a plan are judged."""
    logits = np.log(np.maximum(probabilities, 1e-30))
    return row_log_losses(logits / fit_temperature(logits, labels)[0], labels)
