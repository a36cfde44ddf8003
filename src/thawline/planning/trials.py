"""Try a thaw line by a short fine-tuning, on the folds that every other arm is judged on."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from thawline.backbones.names import INPUT
from thawline.evaluation.intervals import Z_95_ONE_SIDED
from thawline.listening import ProgressOnly
from thawline.planning.arms import Arm, fewer, usual_head
from thawline.planning.asking import ask_for
from thawline.planning.budget import Budget
from thawline.planning.timing import CACHING, Paces, Stopwatch, paces_of, rung_of, stage_cost, time_stage, training_s
from thawline.planning.ways import Way
from thawline.records import Split

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.backbones.ladder import Rung
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.ground import Ground
    from thawline.training import Fitted
    from thawline.training.settings import StagePlan


class OutOfTimeError(Exception):
    """A trial was given up: it would take more of the budget than it may."""


LEAST_OF_ALL = 0.5
"""After a trial, a budget must leave time for this share of what follows it. With less, a quarter of an epoch on 3,000
pictures ended behind the head that it started from."""
WHOLE = 1_500
"""Up to so many samples to learn from, a trial is the first part of the training itself, which goes on from there."""
MOST_TO_LEARN, MOST_TO_JUDGE = 600, 1_000
"""Most samples of a trial of larger data with few classes. 1,000 tell apart what matters, and the gain of 600 over a
head on the same 600 is what fine-tuning small sets was measured to gain (benchmarks/thaw_lines.md). More would make the
trial cost as much as the training that it may save."""
OF_CLASS = 20
"""Samples a class that a trial learns from at least, in the mean, if there are as many."""
FEWEST_EPOCHS = 5
"""A trial on a part of the samples shows each so often, if the whole training does."""
FUTILE = 0.2
"""A trial stops if it surely made the log loss worse, by more than this share of it times the share of steps left."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trials:
    """Runs trials, and keeps what they share: the heads that they start from, and the paces that they showed."""

    ground: Ground
    backbone: Backbone
    values: NDArray[np.float32]
    """(N, D) features of all samples; only rows of the field are read."""
    planned: Callable[[str], FitPlan]
    """From a way, which may be a thaw setting alone, to the whole plan of a fit with it."""
    progress: Callable[[str, int, int], None]
    """Called with (what, done, total)."""
    budget: Budget
    folder: Path
    """Where trials keep their checkpoints, from which the training of the chosen line goes on."""
    _starts: dict[int, Fitted] = dataclasses.field(default_factory=dict)
    _paces: dict[Way, Paces] = dataclasses.field(default_factory=dict)
    """Of a stage with a thaw setting, by what it learns from."""
    _rows: dict[str, int] = dataclasses.field(default_factory=dict)
    """Rows of the boundary cache that were computed for a line."""
    _hopeless: set[Way] = dataclasses.field(default_factory=set)
    """Lines whose trials were stopped before their end."""
    _begun: dict[Way, Path] = dataclasses.field(default_factory=dict)
    """Checkpoints of trials that are the first part of their training."""

    def begun(self, plan: FitPlan) -> Path | None:
        """Return the folder with the first part of this very training, if its trial was that and was not given up."""
        return self._begun.get(Way.of(plan)) if plan.stages and self._is_first_part(plan) else None

    def _is_first_part(self, plan: FitPlan) -> bool:
        """Whether the first part of a plan is the same as that of the whole plan of its line."""
        ours, whole = plan.stages[0], self.planned(str(Way.of(plan))).stages[0]
        return (ours.thaw, ours.epochs, ours.views) == (whole.thaw, whole.epochs, whole.views)

    def thawed_share(self, setting: str) -> float:
        """Return the share of the backbone's FLOPs that learn at a line."""
        (stage,) = self.planned(setting).stages
        return 1.0 if stage.joint_thaw else 1 - self._rung(setting).flops_below_frac

    def cost(self, setting: str, plan: FitPlan | None = None) -> tuple[float, int]:
        """Return seconds and bytes on disk of a training after the trials; 0 if none was timed.

        Args:
            plan: A shortened plan in place of the whole one.
        """
        plan = plan or self.planned(setting)
        (stage,) = plan.stages
        if Way.of(plan).at(stage.thaw) not in self._paces:
            return 0.0, 0
        return self._cost(plan, chosen=self.begun(plan) is not None, n_stored=self._rows.get(stage.thaw, 0))

    def _cost(self, plan: FitPlan, *, chosen: bool, n_stored: int = 0) -> tuple[float, int]:
        (stage,) = plan.stages
        way = Way.of(plan)
        paces, joint = self._paces[way.at(stage.thaw)], self._paces.get(way.at(stage.goal))
        split, rung = self.ground.held_out(plan), self._rung(str(way))
        return stage_cost(stage, paces, split, rung, plan, joint=joint, n_stored=n_stored, chosen=chosen)

    def has_paces(self, setting: str) -> bool:
        """Whether training at a line was timed."""
        plan = self.planned(setting)
        return Way.of(plan).at(plan.stages[0].thaw) in self._paces

    def _check_time(self, plan: FitPlan, folds: range) -> None:
        """Refuse a trial that leaves no time for the training it is for, by a few timed batches."""
        assert plan.training is not None
        (stage,) = plan.stages
        needed = 0.0
        for fold in folds:
            split = self._split(fold)
            short = self._short(stage, split)
            way = Way.of(plan).at(short.thaw)
            if way not in self._paces:
                self._paces[way] = time_stage(self.ground.data, self.backbone, plan, short, self.values.shape[1])
            paces = self._paces[way]
            n_rows = len(split.train) * short.views + len(split.val) if short.views else 0
            needed += training_s(short.epochs, paces, len(split.train), len(split.val), plan.training)
            needed += n_rows * paces.row_s
        least = LEAST_OF_ALL * self._cost(plan, chosen=not self.are_parts)[0]
        left = self.budget.left() - self.budget.spare()
        if needed + least > left:
            raise OutOfTimeError(
                f"would take {needed:.0f} s to try, then at least {least:.0f} s to do, of the {max(left, 0):.0f} s left"
            )

    def judge(self, setting: str, folds: range, before: Arm | None = None, *, over: str = "") -> Arm:
        """Judge a line on some folds by a short fine-tuning on the others, and add the folds of ``before``.

        Args:
            over: Name of the arm to compare with; by default the head that the trial starts from, or as ``before``.
        Raises:
            OutOfTimeError: It would take too much of the budget.
        """
        started = time.perf_counter()
        nothing = np.full((len(self.ground.field.rows), self.ground.field.n_classes), np.nan)
        logits, of_start = nothing, nothing.copy()
        if before is not None:
            assert before.start is not None
            logits, of_start, over = before.logits.copy(), before.start.logits.copy(), before.over
        plan = self.planned(setting)
        way = Way.of(plan)
        if self.budget.seconds is not None:
            self._check_time(plan, folds)
        for fold in folds:
            judged = np.searchsorted(self.ground.field.rows, self._split(fold).val)
            logits[judged] = self._trained(plan, fold)
            of_start[judged] = self._logits(self._start(fold))
            if way in self._hopeless:
                break
        rest = int(np.count_nonzero(~self.ground.field.inside(folds[0])))
        learned = len(self._split(folds[0]).train)
        seconds = time.perf_counter() - started + (before.seconds if before else 0.0)
        trial = Arm(
            name=_in_words(way),
            thaw=way.thaw,
            layer="pooled",
            head=usual_head(self.ground.field.truth),
            logits=logits,
            seconds=seconds,
            thawed=self.thawed_share(setting),
            over=over,
            is_number=self.ground.field.task.target == "number",
            learned=learned if learned < rest else 0,
            by_pairs=way.by_pairs,
        )
        start = dataclasses.replace(
            trial, name="the head that it starts from", thaw="none", by_pairs=False, logits=of_start, over=""
        )
        return dataclasses.replace(trial, start=start)

    def _trained(self, plan: FitPlan, fold: int) -> NDArray[np.float64]:
        """Return (n_fold, C) logits of the samples of a fold, from a backbone and head fine-tuned on the others."""
        from thawline.training.finetune import fine_tune

        assert plan.training is not None
        split = self._split(fold)
        (stage,) = plan.stages
        stopped = Futility(len(split.val))
        short = self._short(stage, split)
        ask = ask_for(plan, stages=(short,), choose_only=True, give_up=stopped.is_futile)
        way = Way.of(plan)
        what = f"trying {way}, fold {fold + 1}"
        watch = Stopwatch()

        def heard(phase: str, done: int, total: int) -> None:
            self.progress("caching the frozen part" if phase == CACHING else what, done, total)
            watch.hear(phase, done)
            stopped.at(done / max(total, 1))
            if self.budget.left() < self.budget.spare():
                raise OutOfTimeError("took longer than it was timed to take")

        state = self.folder / f"{str(way).replace('/', '_')}-{fold}"
        state.mkdir(parents=True, exist_ok=True)
        start, listener = self._start(fold), ProgressOnly(heard)
        fitted = fine_tune(ask, self.ground.data, split, self.backbone, self.values, start, state, listener)
        if stopped.was:
            self._hopeless.add(way)
        elif fold == 0 and not self.are_parts:
            self._begun[way] = state
        self._paces[way.at(short.thaw)] = paces_of(watch)
        self._rows[short.thaw] = self._rows.get(short.thaw, 0) + watch.units(CACHING)
        return self._logits(fitted)

    def _logits(self, fitted: Fitted) -> NDArray[np.float64]:
        """Return (n, C) logits of the samples that judged a training."""
        assert fitted.validation_probabilities is not None
        return self.ground.field.task.logits(fitted.validation_probabilities)

    @property
    def are_parts(self) -> bool:
        """Whether trials learn from a part of the samples, and not as the first part of the training does."""
        split = self.ground.held_out(self.planned("all"))
        return split is self.ground.split or len(split.train) > WHOLE

    def _short(self, stage: StagePlan, split: Split) -> StagePlan:
        """Return a stage as it is tried on the training set of a split."""
        if not self.are_parts:
            return stage
        if stage.joint_thaw:  # a trial that is no part of the training shows all that is to learn
            stage = stage.changed(thaw=stage.joint_thaw, rung=INPUT, joint_thaw="", views=0)
        whole = self.ground.held_out(self.planned("all")).train
        epochs = min(round(stage.epochs * len(whole) / max(len(split.train), 1)), max(FEWEST_EPOCHS, stage.epochs))
        return stage.changed(epochs=epochs, views=min(stage.views, epochs))

    def _split(self, fold: int) -> Split:
        """Return the samples of a trial: some of the fold to judge it, some of the others to learn from."""
        if not self.are_parts and fold == 0:
            return self.ground.held_out(self.planned("all"))
        inside, enough = self.ground.field.inside(fold), OF_CLASS * self.ground.field.n_classes
        most = WHOLE if not self.are_parts else max(MOST_TO_LEARN, enough)
        learned, judged = self._fewer(~inside, most), self._fewer(inside, MOST_TO_JUDGE)
        return Split(learned, judged, learned[:0], "a fold", learned[:0])

    def _fewer(self, among: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
        taken = fewer(self.ground.field.labels[among], self.ground.field.groups[among], most, self.ground.seed)
        return self.ground.field.rows[among][taken]

    def _start(self, fold: int) -> Fitted:
        if fold not in self._starts:
            from thawline.training import fit_probe

            self._starts[fold] = fit_probe(
                usual_head(self.ground.field.truth),
                self.values,
                self.ground.data.truth,
                self._split(fold),
                self.ground.field.n_classes,
                groups=self.ground.data.groups,
                seed=self.ground.seed,
                backbone_parameters=self.backbone.n_parameters(),
            )
        return self._starts[fold]

    def _rung(self, setting: str) -> Rung:
        (stage,) = self.planned(setting).stages
        return rung_of(self.backbone, stage, self.ground.data)


@dataclasses.dataclass(slots=True)
class Futility:
    """Stops a trial that cannot win any more."""

    n: int
    """Samples that it is judged by."""
    was: bool = False
    """Whether it was stopped."""
    _done: float = 0.0

    def at(self, share: float) -> None:
        """Note the share of the steps that are done."""
        self._done = share

    def is_futile(self, start: NDArray[np.float64], now: NDArray[np.float64]) -> bool:
        """Say whether the log losses (n,) of now are so far above those of the start that the rest cannot make up."""
        worse = now - start
        surely = worse.mean() - Z_95_ONE_SIDED * worse.std(ddof=1) / math.sqrt(self.n) if self.n > 1 else 0.0
        self.was = bool(self._done < 1 and surely > FUTILE * (1 - self._done) * start.mean())
        return self.was


def _in_words(way: Way) -> str:
    what = "everything" if way.thaw == "all" else way.thaw
    return f"fine-tuning by pairs, {what}" if way.by_pairs else f"fine-tuning, {what}"
