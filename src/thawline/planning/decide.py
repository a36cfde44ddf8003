"""Decide by measuring what to retrain: frozen heads first, then thaw lines by short trials, while they promise more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.backbones.lines import depth_rungs
from thawline.data import split_data
from thawline.evaluation.intervals import cross_validated
from thawline.inputs import kind_of
from thawline.listening import Watcher
from thawline.planning.afford import Affordable
from thawline.planning.arms import Arm, Field, judge_head, mark_out
from thawline.planning.budget import Budget
from thawline.planning.choice import Choice, gain, more_than_middle
from thawline.planning.explain import Evidence, against_guides, untried, verdict_of, why_not
from thawline.planning.fit_plan import Candidate, FitPlan
from thawline.planning.planned import Planned
from thawline.planning.shortening import within_bytes, within_seconds
from thawline.planning.timing import TUNED_S, peak_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.planning.depth_profile import DepthProfile
    from thawline.planning.trials import Trials
    from thawline.records import Dataset

FEW_ERRORS, FEW_WRONG = 20, 0.05
"""Where the first head makes fewer errors than that, and gets fewer wrong than that share, nothing else is tried: had
another arm a third fewer errors, these samples could not tell, and a quarter fewer would be one point of accuracy."""
FEW_ROWS = 150
"""Up to here every trial runs on every fold: it costs seconds, and one fold says too little."""
UNCLEAR = 0.1
"""Where a line and the best of the frozen features are believed to differ by less than this share of the log loss, more
folds may tell."""
MOST_OF_EPOCHS = 0.4
"""Share of the usual epochs that there must be time for where a line is trained that could not be tried."""
FOR_COMPARISON = 4
"""What is measured for comparison only takes about so many times what judging the first head took."""


PIXELS = "pixels"
"""Stands for the layer where no backbone is used."""


def decide(
    data: Dataset,
    backbone: Backbone,
    asked: FitPlan,
    planned: Callable[[str], FitPlan],
    watcher: Watcher,
    *,
    explain: bool = False,
    budget: Budget | None = None,
    read: Affordable | None = None,
) -> Planned:
    """Measure, and return the plan of what came out best, with everything that was measured in it.

    The test part is never read. What the chosen arm reaches is given as an estimate that corrects for having been
    chosen; the run that follows measures it on the test part.

    Args:
        asked: A plan that thaws nothing; everything but thaw, layer and head stays as it is.
        planned: From a thaw setting to the whole plan of a fit with it.
        watcher: Hears of progress.
        explain: Measure size, likeness to the source and pixels also where the first head leaves nothing to decide.
        budget: What measuring and the fit that follows may take together.
        read: What was read at the last layer to find out how many samples the budget allows.
    """
    started = time.perf_counter()
    read = read or Affordable()
    measuring = _Measuring(data, backbone, asked, planned, watcher, budget or Budget(), read)
    measuring.measure(explain=explain)
    plan = measuring.plan()
    return Planned(
        plan=plan,
        budget=budget,
        computed=measuring.computed.get(plan.layer, 0),
        evidence=measuring.evidence,
        features_s=measuring.features_s,
        seconds=time.perf_counter() - started - (measuring.features_s - read.seconds),
    )


class _Measuring:
    def __init__(
        self,
        data: Dataset,
        backbone: Backbone,
        asked: FitPlan,
        planned: Callable[[str], FitPlan],
        watcher: Watcher,
        budget: Budget,
        read: Affordable,
    ) -> None:
        self.data, self.backbone, self.asked, self.planned, self.watcher = data, backbone, asked, planned, watcher
        self.budget = budget
        self.split = split_data(data, fractions=asked.fractions, seed=asked.seed, validating=True)
        self.field: Field = mark_out(data, self.split, asked.seed)
        self.labels = self.field.labels
        self.arms: list[Arm] = []
        self.forecasts: dict[str, tuple[float, int, int]] = {}
        """Thaw setting -> seconds, bytes on disk, bytes of memory."""
        self.reasons: list[str] = []
        self.computed = {asked.layer: read.computed}
        """Layers -> samples whose features were computed."""
        self.features_s, self.picture_s = read.seconds, read.seconds / max(read.computed, 1)
        self.evidence: Evidence | None = None
        self.trials: Trials | None = None
        self.untried = ""
        """Thaw setting that is trained in the time left, with no time to try it before."""

    def measure(self, *, explain: bool) -> None:
        values = self._features("pooled")
        self.first = self._judge("last layer, logistic", values, "pooled")
        wrong = int((self.first.correct(self.labels) == 0).sum())
        n = int(self.first.judged.sum())
        enough = wrong < FEW_ERRORS and wrong <= FEW_WRONG * n
        if enough:
            self.reasons.append(
                f"A new linear head on the frozen model gets {n - wrong} of {n} right that it had not seen; with "
                f"{wrong} errors left, no other way could be told from it on these samples."
            )
        if enough and not explain:
            return
        if self._is_tight():
            self._leave_out("other ways")
            return
        profile = self._depths()
        hurries = self.budget.seconds is not None
        if not hurries:
            self._for_comparison(values, profile, explain=explain)
        if not enough:
            self._lines(values)
        if hurries and self._left() - self._training_s() > FOR_COMPARISON * self.first.seconds:
            self._for_comparison(values, profile, explain=explain)
        elif hurries:
            self._leave_out("what is for comparison only")

    def _for_comparison(
        self, values: NDArray[np.float32], profile: Callable[[], DepthProfile | None], *, explain: bool
    ) -> None:
        """What decides nothing: no backbone at all, other kinds of head, how much data, and how like the source."""
        self._pixels()
        for name, head in (("ridge", "ridge"), ("svm", "svm"), ("five neighbours", "knn")):
            self._judge(f"last layer, {name}", values, "pooled", head=head)
        if explain or not self._is_tight():
            self._explain(values, profile())

    def _training_s(self) -> float:
        """Seconds of the training that will be chosen, as far as is known; 0 where that is none."""
        worths = self._worths()
        thaw = self.untried or max(worths, key=worths.__getitem__).thaw
        return self.forecasts[thaw][0] if thaw in self.forecasts else 0.0

    def _is_tight(self) -> bool:
        """Whether what is left of the budget is next to what the features took: no time for more of the kind."""
        return self.budget.left() < self.budget.spare() + 2 * self.features_s

    def _leave_out(self, what: str) -> None:
        self.reasons.append(f"The budget leaves no time to try {what}.")

    def _pixels(self) -> None:
        """What does without any pre-trained model."""
        pixels = kind_of(self.data.kind).simple_features(self.data.sketches)
        self._judge("no backbone: 16 x 16 pixels, logistic", pixels, PIXELS)

    def _explain(self, pooled: NDArray[np.float32], profile: DepthProfile | None) -> None:
        """Measure how much data there is, and how like the source; neither decides anything."""
        from thawline.planning.scenarios import scenario
        from thawline.planning.similarity import measure_similarity
        from thawline.planning.size import measure_size

        self.watcher.progress("measuring size and likeness", 0, 2)
        rows = self.field.rows
        size = measure_size(
            pooled[rows], self.labels, self.field.n_classes, groups=self.field.groups, seed=self.asked.seed
        )
        self.watcher.progress("measuring size and likeness", 1, 2)
        likeness = measure_similarity(self.backbone, self.data, rows, profile=profile, seed=self.asked.seed)
        self.watcher.progress("measuring size and likeness", 2, 2)
        self.evidence = Evidence(size, likeness, scenario(size, likeness))

    def _judge(self, name: str, values: NDArray[np.float32], layer: str, **options: Any) -> Arm:
        rows = values[self.field.rows]
        arm = judge_head(self.field, rows, name=name, layer=layer, seed=self.asked.seed, **options)
        self.arms.append(arm)
        self.watcher.progress("measuring heads", len(self.arms), max(len(self.arms), 6))
        return arm

    def _depths(self) -> Callable[[], DepthProfile | None]:
        """Heads on what several depths say; returns what tells how well each of them does."""
        from thawline.heads import fit_depths
        from thawline.planning.depth_profile import depth_profile

        names = depth_rungs(self.backbone.ladder)
        values, widths = self._several(names)
        rows = values[self.field.rows]
        parts = np.split(rows, np.cumsum(widths)[:-1], axis=1)
        fitted = fit_depths(parts, self.labels, self.field.n_classes, groups=self.field.groups)
        losses = [np.inf if path.log_loss is None else path.log_loss for path in fitted.depths]
        deepest = names[int(np.argmin(losses))]
        if deepest != "pooled":
            start = int(np.sum(widths[: names.index(deepest)]))
            own = values[:, start : start + widths[names.index(deepest)]]
            self._judge(f"{deepest}, logistic", own, deepest)
        self._judge("all depths, logistic", values, ",".join(names), widths=widths)
        return partial(depth_profile, fitted, self.labels, names, groups=self.field.groups, seed=self.asked.seed)

    def _lines(self, pooled: NDArray[np.float32]) -> None:
        """Trials of thaw lines: the middle one first, others where it helps, more folds where that is not clear."""
        from thawline.backbones.lines import thaw_lines
        from thawline.planning.trials import OutOfTimeError, Trials

        trials = self.trials = Trials(
            data=self.data,
            backbone=self.backbone,
            field=self.field,
            values=pooled,
            planned=self.planned,
            progress=self.watcher.progress,
            seed=self.asked.seed,
            budget=self.budget,
            split=self.split,
        )
        lines = thaw_lines(self.backbone.ladder)
        middle = lines[-2] if len(lines) > 1 else lines[-1]
        every = range(self.field.n_folds)
        first = every if len(self.field.rows) <= FEW_ROWS else every[:1]
        tried: dict[str, Arm] = {}

        def judge(setting: str, folds: range) -> None:
            over = tried[middle].name if middle in tried else ""
            try:
                tried[setting] = trials.judge(setting, folds, tried.get(setting), over=over)
            except OutOfTimeError as error:
                self._leave_out(f"thaw {setting} (it {error})")

        judge(middle, first)
        # less, where half is too much, or takes too long; everything, where that may give more
        too_much = middle not in tried or self._worths(tried.values())[tried[middle]] <= 0
        other = lines[0] if too_much else "all"
        if other != middle and (too_much or more_than_middle(len(self.field.rows)) > 0):
            judge(other, first)
        if not tried:
            self._leave_untried((middle, other))
        worths = self._worths(tried.values())
        if tried:
            top = max(tried.values(), key=worths.__getitem__)
            if not top.judged.all() and abs(worths[top] - worths[self.frozen]) < UNCLEAR:
                judge(top.thaw, every[1:])
        self.arms += tried.values()
        if learned := max((arm.learned for arm in tried.values()), default=0):
            self.reasons.append(
                f"Each trial of fine-tuning learned from {learned:,} samples and is compared with a head on the same: "
                "the heads of the table had more, and so will the whole training."
            )
        for setting in tried:
            self.forecasts[setting] = self._forecast(setting)

    def _leave_untried(self, settings: Iterable[str]) -> None:
        """Choose a line that there is no time to try, but to train for a while: the validation part will judge it."""
        for setting in settings:
            if self.trials is None or not self.trials.has_paces(setting):
                continue
            whole = self.planned(setting)
            short = within_seconds(whole, self._left(), self._cost)
            epochs = [sum(stage.epochs for stage in plan.stages) for plan in (short, whole)]
            if self._cost(short) <= self._left() and epochs[0] >= MOST_OF_EPOCHS * epochs[1]:
                self.untried = setting
                self.forecasts[setting] = self._forecast(setting)
                return

    def _choice(self, tried: Iterable[Arm] = ()) -> Choice:
        """Between all arms that may be chosen, those tried last included."""
        # other heads on the same features are shown: each would be one more chance to be lucky
        return Choice([arm for arm in (*self.arms, *tried) if _is_shippable(arm)], self.labels, self.field.n_folds)

    def _worths(self, tried: Iterable[Arm] = ()) -> dict[Arm, float]:
        choice = self._choice(tried)
        return dict(zip(choice.arms, choice.worths(), strict=True))

    @property
    def frozen(self) -> Arm:
        """The best of the arms that thaw nothing."""
        worths = self._worths()
        return max((arm for arm in worths if arm.thaw == "none"), key=worths.__getitem__)

    def _solving_s(self, arm: Arm) -> float:
        """Seconds to solve a head on all samples: on half as many again as where it was judged on every fold."""
        return arm.seconds / max(self.field.n_folds, 1) * 1.5

    def _forecast(self, setting: str, plan: FitPlan | None = None) -> tuple[float, int, int]:
        """Seconds, bytes on disk and of memory of a fit on features that are there, by its trial; of a whole one, or
        as the plan has it.
        """
        assert self.trials is not None
        seconds, disk = self.trials.cost(setting, plan)
        shipped_s = TUNED_S + self.picture_s * len(self.split.test)
        return seconds + shipped_s, disk, peak_memory()

    def _cost(self, plan: FitPlan) -> float:
        """Seconds of a fit on features that are there."""
        return self._forecast(plan.thaw, plan)[0]

    def _features(self, layer: str) -> NDArray[np.float32]:
        from thawline.features import extract_features

        features = extract_features(self.data, self.backbone, rung=layer, **self._how(), progress=self._bar("features"))
        self.computed[layer] += features.computed
        self.features_s += features.seconds
        if features.computed:
            self.picture_s = features.seconds / features.computed
        return features.values

    def _several(self, names: Sequence[str]) -> tuple[NDArray[np.float32], list[int]]:
        from thawline.features import extract_rungs

        found = extract_rungs(
            self.data, self.backbone, names, **self._how(), progress=self._bar("features of all depths")
        )
        self.computed[",".join(names)] = found[0].computed
        self.features_s += found[0].seconds
        return np.concatenate([one.values for one in found], axis=1), [one.values.shape[1] for one in found]

    def _how(self) -> dict[str, Any]:
        return {"engine": self.asked.engine, "precision": self.asked.precision, "device": self.asked.device}

    def _bar(self, phase: str) -> Callable[[int, int], None]:
        return lambda done, total: self.watcher.progress(phase, done, total)

    def plan(self) -> FitPlan:
        """The plan of the best arm."""
        choice = self._choice()
        chosen, honest = choice.best(), choice.judged_honestly(self.asked.seed)
        thaw = self.untried or chosen.thaw
        base = self.asked if thaw == "none" else self._within_budget(self.planned(thaw))
        verdict = verdict_of(chosen, self.first, honest, self.labels)
        if self.untried:
            verdict += f" {untried(thaw)}"
        if self.evidence is not None:
            words = self.evidence.size.words, self.evidence.similarity.words, self.evidence.scenario.words
            self.reasons += [*words, against_guides(self.evidence.scenario, chosen)]
        changes: dict[str, Any] = {
            "layer": "pooled" if self.untried else chosen.layer,
            "otherwise": self.frozen.layer if thaw != "none" and self.budget.seconds is not None else "",
            "head": chosen.head,
            "verdict": verdict,
            "reasons": tuple(self.reasons),
            "candidates": tuple(self._candidate(arm, chosen) for arm in self._ordered()),
        }
        return base.model_copy(update=changes)

    def _within_budget(self, plan: FitPlan) -> FitPlan:
        """Shorten a plan so that its fit keeps within the budget, and say what that leaves out."""
        if self.budget.bytes is not None:
            plan = within_bytes(plan, self.budget.bytes, self.backbone.ladder, len(self.field.rows))
        if plan.training is None or self.budget.seconds is None:
            return plan
        short = within_seconds(plan, self._left(), self._cost)
        if short.training != plan.training:
            self.reasons.append("The budget leaves no time to train again on the validation part.")
        (before,), (after,) = plan.stages, short.stages
        if after.epochs < before.epochs:
            n = after.epochs
            self.reasons.append(f"The budget leaves time for {n} epoch{'s' if n > 1 else ''}.")
        return short

    def _left(self) -> float:
        """Seconds for a training, once there is a head that ships if it is no better."""
        return self.budget.left() - self.budget.spare() - self._solving_s(self.frozen)

    def _ordered(self) -> list[Arm]:
        worths = self._worths()
        for arm in self.arms:
            if arm not in worths:
                worths[arm] = Choice([self.first, arm], self.labels, self.field.n_folds).worths()[1]
        return sorted(self.arms, key=lambda arm: -worths[arm])

    def _candidate(self, arm: Arm, chosen: Arm) -> Candidate:
        right, n = int(np.nansum(arm.correct(self.labels))), int(arm.judged.sum())
        behind = gain(chosen, arm, self.labels)
        solved = self._solving_s(arm), 0, peak_memory()
        seconds, disk, memory = self.forecasts.get(arm.thaw, solved)
        return Candidate(
            name=arm.name,
            thaw=arm.thaw,
            layer=arm.layer,
            head=arm.head,
            score=right / n,
            ci95=cross_validated(right / n, n, of=len(self.labels), folds=self.field.n_folds),
            log_loss=float(np.nanmean(arm.losses(self.labels))),
            n=n,
            behind=None if arm is chosen else (round(behind.loss, 4), round(behind.loss_se, 4)),
            seconds=round(seconds, 2),
            bytes=disk,
            memory=memory,
            why="chosen"
            if arm is chosen
            else why_not(behind, shown_only=not _is_shippable(arm), in_trial=chosen.thaw != "none"),
        )


def _is_shippable(arm: Arm) -> bool:
    return arm.head == "logistic" and arm.layer != PIXELS
