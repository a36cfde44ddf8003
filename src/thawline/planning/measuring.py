"""Measure what a decision rests on: frozen heads first, then thaw lines by short trials, while they promise more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thawline.evaluation.intervals import Z_95_ONE_SIDED
from thawline.planning.afford import Affordable
from thawline.planning.arms import usual_head
from thawline.planning.choice import gain
from thawline.planning.evidence import Evidence, measure_evidence
from thawline.planning.frozen import FrozenFeatures
from thawline.planning.head_arms import HeadArms
from thawline.planning.line_arms import LineArms
from thawline.planning.standing import Standing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.planning.budget import Budget
    from thawline.planning.depth_profile import DepthProfile
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.ground import Ground

FEW_ERRORS, FEW_WRONG = 20, 0.05
"""If the first head makes fewer errors than that, and gets fewer wrong than that share, nothing else is tried: had
another arm a third fewer errors, these samples could not tell, and a quarter fewer would be one point of accuracy."""
SUITED = 0.10
"""If the log loss of all depths side by side is surely this share above that of the last layer alone, no line is tried:
the end of the backbone suits the classes. In the 11 of 99 cells of benchmarks/judgement.jsonl where all depths were at
least two points of accuracy behind, the line in the middle lost 0.6 points in the mean; in the others it gained 8."""
FOR_COMPARISON = 6
"""What is measured for comparison only takes about so many times what judging the first head took."""


@dataclass(slots=True, kw_only=True, eq=False)
class Measurements:
    """What was measured; nothing in it is decided yet."""

    features: FrozenFeatures
    standing: Standing
    lines: LineArms | None = None
    """None if no line was to be tried."""
    evidence: Evidence | None = None
    reasons: list[str] = field(default_factory=list)


def measure(
    ground: Ground,
    backbone: Backbone,
    asked: FitPlan,
    planned: Callable[[str], FitPlan],
    watcher: Watcher,
    *,
    explain: bool,
    pairs: bool,
    budget: Budget,
    read: Affordable,
) -> Measurements:
    """Measure arms until nothing more is worth it, or the budget leaves no time.

    Args and raises are those of ``decide``.
    """
    measuring = _Measuring(ground, backbone, watcher, budget, asked, read)
    values = measuring.features.at("pooled")
    usual = usual_head(ground.field.truth)
    first = measuring.heads.judge(f"last layer, {usual}", values[ground.field.rows], "pooled")
    found = measuring.found
    wrong, n = int((first.correct(ground.field.truth) < 1).sum()), int(first.judged.sum())
    enough = wrong < FEW_ERRORS and wrong <= FEW_WRONG * n
    if enough:
        found.reasons.append(
            f"{n - wrong} of {n} unseen samples right with a new linear head on the frozen model. With {wrong} errors "
            "left, these samples could not tell another way from it."
        )
    if enough and not explain:
        return found
    if measuring.is_tight():
        found.reasons.append("The budget leaves no time to try other ways.")
        return found
    profile = measuring.heads.at_depths(backbone.ladder)
    if budget.seconds is None:
        measuring.for_comparison(values, profile, explain=explain)
    if not enough and (ahead := measuring.last_layer_ahead()) >= SUITED:
        found.reasons.append(
            f"A head on all depths has a log loss surely {100 * ahead:.0f} % or more above that of a head on the last "
            "layer alone: the backbone's last features suit these classes. Thawing has not paid in such cases, so no "
            "thaw line was tried."
        )
    elif not enough:
        found.lines = LineArms(
            ground, backbone, planned, values, measuring.features, found.standing, watcher, budget, pairs=pairs
        )
        found.lines.measure()
        found.reasons += found.lines.reasons
    if budget.seconds is not None:
        if measuring.left_after_training() > FOR_COMPARISON * first.seconds:
            measuring.for_comparison(values, profile, explain=explain)
        else:
            found.reasons.append("The budget leaves no time to try what is for comparison only.")
    return found


class _Measuring:
    """What the steps of measuring share."""

    def __init__(
        self,
        ground: Ground,
        backbone: Backbone,
        watcher: Watcher,
        budget: Budget,
        asked: FitPlan,
        read: Affordable,
    ) -> None:
        self._ground, self._backbone, self._watcher, self._budget = ground, backbone, watcher, budget
        self.features = FrozenFeatures(ground, backbone, asked, watcher, read)
        self.found = Measurements(features=self.features, standing=Standing(ground.field))
        self.heads = HeadArms(ground, self.features, self.found.standing, watcher)

    def for_comparison(
        self, pooled: NDArray[np.float32], profile: Callable[[], DepthProfile | None], *, explain: bool
    ) -> None:
        """Measure what decides nothing: no backbone, other kinds of head, how much data, and how like the source."""
        self.heads.for_comparison(pooled)
        if self._ground.field.targets is None and (explain or not self.is_tight()):
            self.found.evidence = measure_evidence(self._ground, self._backbone, pooled, profile(), self._watcher)

    def last_layer_ahead(self) -> float:
        """Return what the last layer surely saves of the log loss of all depths, as a share of its own."""
        standing, labels = self.found.standing, self._ground.field.truth
        joined = next((arm for arm in standing.arms if "," in arm.layer), None)
        if joined is None:
            return 0.0
        saved = gain(standing.first, joined, labels).at_least(Z_95_ONE_SIDED)
        return saved / max(float(np.nanmean(standing.first.losses(labels))), 1e-12)

    def is_tight(self) -> bool:
        """Whether the budget has no time left for more of what the features took."""
        return self._budget.left() < self._budget.spare() + 2 * self.features.seconds

    def left_after_training(self) -> float:
        """Seconds beside the training that will be chosen, as far as is known."""
        standing, lines = self.found.standing, self.found.lines
        left = self._budget.left() - self._budget.spare() - standing.solving_s(standing.frozen)
        worths = standing.worths()
        way = (lines and lines.untried) or max(worths, key=worths.__getitem__).way
        return left - (lines.costs[way].seconds if lines and way in lines.costs else 0.0)
