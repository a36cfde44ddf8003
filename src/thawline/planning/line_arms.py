"""Measure thaw lines by short trials: one at the middle first, then everything or more folds, if that is unclear."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from thawline.backbones.lines import thaw_lines
from thawline.planning.choice import PRICE, more_than_middle
from thawline.planning.kept_rows import ladder_for
from thawline.planning.planned import Begun, TrialsFolder
from thawline.planning.shortening import within_seconds
from thawline.planning.timing import TUNED_S, peak_memory
from thawline.planning.trials import OutOfTimeError, Trials
from thawline.planning.ways import Way

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.backbones.ladder import Ladder
    from thawline.listening import Watcher
    from thawline.planning.arms import Arm
    from thawline.planning.budget import Budget
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.frozen import FrozenFeatures
    from thawline.planning.ground import Ground
    from thawline.planning.standing import Standing

UNCLEAR = 0.03
"""A line and the best of the frozen features that are believed to differ by less than this share of the log loss are
told apart by more folds."""
MOST_OF_EPOCHS = 0.4
"""Share of the usual epochs that there must be time for if a line is trained that could not be tried."""


class Cost(NamedTuple):
    """What a fit takes on features that are there."""

    seconds: float
    bytes: int
    """Kept in the cache on disk, beside the features."""
    memory: int
    """Bytes that the process holds at its peak."""


class LineArms:
    """Tries lines, adds them to the standing, and knows from their trials what a fit with each takes."""

    def __init__(
        self,
        ground: Ground,
        backbone: Backbone,
        planned: Callable[[str], FitPlan],
        pooled: NDArray[np.float32],
        features: FrozenFeatures,
        standing: Standing,
        watcher: Watcher,
        budget: Budget,
        *,
        pairs: bool = False,
    ) -> None:
        """Try lines on one ground.

        Args:
            planned: From a way, which may be a thaw setting alone, to the whole plan of a fit with it.
            pooled: (N, D) features of the last layer, which trials start from.
            pairs: Try training by pairs beside the cross-entropy, at the best of the lines.
        """
        self._worth_pairs = pairs
        self._ground, self._backbone, self._planned = ground, backbone, planned
        self._features, self._standing, self._budget = features, standing, budget
        self._folder = TrialsFolder()
        self._trials = Trials(
            ground=ground,
            backbone=backbone,
            values=pooled,
            planned=planned,
            progress=watcher.progress,
            budget=budget,
            folder=self._folder.path,
        )
        self._tried: dict[str, Arm] = {}
        self.costs: dict[str, Cost] = {}
        """Of each way that was tried, or is trained untried."""
        self.reasons: list[str] = []
        self.untried = ""
        """Way that is trained in the time left, with no time to try it before."""

    def measure(self) -> None:
        """Try what may pay."""
        lines, tried, standing = thaw_lines(self._backbone.ladder), self._tried, self._standing
        middle = lines[-2] if len(lines) > 1 else lines[-1]
        every = range(standing.field.n_folds)
        first = every[:1]
        # where a trial is the first part of the training, that of everything starts at the middle and costs no more
        begun = not self._trials.are_parts and more_than_middle(len(standing.field.rows)) > PRICE
        wanted = list(dict.fromkeys(("all" if begun else middle, middle, lines[0])))
        for setting in wanted:  # where a budget leaves no time for one, the next takes less
            if not tried:
                self._judge(setting, first)
        if self._trials.are_parts and middle in tried and middle != "all" and self._helps(middle):
            self._judge("all", first, over=middle)
        if tried and self._worth_pairs:
            best = max(tried, key=lambda setting: standing.worths(tried.values())[tried[setting]])
            self._judge(str(Way(best, by_pairs=True)), first)
        if tried:
            self._judge_more(every[1:])
        else:
            self._leave_untried(wanted)
        standing.arms += tried.values()
        if learned := max((arm.learned for arm in tried.values()), default=0):
            self.reasons.append(
                f"Each trial of fine-tuning learned from {learned:,} samples and is compared with a head on the same "
                "ones. The heads of the table had more samples, and the whole training will have more, too."
            )
        if not self._trials.are_parts and "all" in tried and middle != "all":
            self.reasons.append(
                f"The trial of everything thawed what lies {middle.replace(':', ' ')} on, as the first part of that "
                "training does; everything learns when it goes on with all samples."
            )
        for arm in tried.values():
            self.costs[arm.way] = self._cost(arm.way)

    def _helps(self, setting: str) -> bool:
        return self._standing.worths(self._tried.values())[self._tried[setting]] > 0

    def begun(self, plan: FitPlan) -> Begun | None:
        """Return the first part of this training, if a trial was that."""
        folder = self._trials.begun(plan)
        return None if folder is None else Begun(folder, self._folder)

    def _judge(self, setting: str, folds: range, *, over: str = "") -> None:
        compared = self._tried[over].name if over in self._tried else ""
        try:
            self._tried[setting] = self._trials.judge(setting, folds, self._tried.get(setting), over=compared)
        except OutOfTimeError as error:
            self.reasons.append(f"The budget leaves no time to try thaw {setting}: it {error}.")

    def _judge_more(self, folds: range) -> None:
        """Judge the best line on the other folds if it is unclear whether it beats the frozen features."""
        worths = self._standing.worths(self._tried.values())
        top = max(self._tried.values(), key=worths.__getitem__)
        inside = self._standing.field.fold >= 0
        if not top.judged[inside].all() and abs(worths[top] - worths[self._standing.frozen]) < UNCLEAR:
            self._judge(next(setting for setting, arm in self._tried.items() if arm is top), folds)

    def _leave_untried(self, settings: Iterable[str]) -> None:
        """Choose a line that there is time to train but not to try: the validation set will judge it."""
        for setting in settings:
            if not self._trials.has_paces(setting):
                continue
            whole = self._planned(setting)
            short = within_seconds(whole, self.left(), self.seconds)
            epochs = [sum(stage.epochs for stage in plan.stages) for plan in (short, whole)]
            if self.seconds(short) <= self.left() and epochs[0] >= MOST_OF_EPOCHS * epochs[1]:
                self.untried = str(Way.of(whole))
                self.costs[self.untried] = self._cost(setting)
                return

    def seconds(self, plan: FitPlan) -> float:
        """Seconds of a fit with a plan on features that are there, by the trial of its line."""
        return self._cost(str(Way.of(plan)), plan).seconds

    def _cost(self, setting: str, plan: FitPlan | None = None) -> Cost:
        seconds, disk = self._trials.cost(setting, plan)
        shipped_s = TUNED_S + self._features.picture_s * len(self._ground.split.test)
        return Cost(seconds + shipped_s, disk, peak_memory())

    @property
    def ladder(self) -> Ladder:
        """The ladder, with the bytes that the samples take on each rung."""
        return ladder_for(self._backbone, self._ground.data)

    def left(self) -> float:
        """Seconds for a training, once there is a head that ships if training is no better."""
        return self._budget.left() - self._budget.spare() - self._standing.solving_s(self._standing.frozen)
