"""The arms that were measured so far, and which of them is ahead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from thawline.planning.choice import Choice

if TYPE_CHECKING:
    from thawline.planning.arms import Arm, Field

NO_BACKBONE = frozenset({"pixels", "tfidf"})
"""Stand for the layer where no backbone is used: the names of the kinds' simple features."""
SOLVING = {"logistic": 2.0, "svm": 2.0, "ridge": 0.5, "knn": 0.5}
"""Kind of head -> seconds to solve it on all samples, its strength chosen, over those to judge it. Judging solves the
folds together, and only as exactly as a comparison needs; or closed forms one by one."""


class Standing:
    """Arms on one field; the first is what the others are compared with."""

    def __init__(self, field: Field) -> None:
        """Begin without any."""
        self.field = field
        self.arms: list[Arm] = []

    @property
    def first(self) -> Arm:
        """A new linear head on the last layer of the frozen model."""
        return self.arms[0]

    @property
    def frozen(self) -> Arm:
        """The best of the arms that thaw nothing."""
        worths = self.worths()
        return max((arm for arm in worths if arm.thaw == "none"), key=worths.__getitem__)

    def choice(self, tried: Iterable[Arm] = ()) -> Choice:
        """Return the choice between all arms that may be chosen, those tried last included."""
        # other heads on the same features are shown only: each would be one more chance to be lucky
        return Choice([arm for arm in (*self.arms, *tried) if is_shippable(arm)], self.field.truth, self.field.n_folds)

    def worths(self, tried: Iterable[Arm] = ()) -> dict[Arm, float]:
        """What each arm that may be chosen is believed to save; see ``Choice.worths``."""
        choice = self.choice(tried)
        return dict(zip(choice.arms, choice.worths(), strict=True))

    def ordered(self) -> list[Arm]:
        """All arms, best first."""
        worths = self.worths()
        for arm in self.arms:
            if arm not in worths:
                worths[arm] = Choice([self.first, arm], self.field.truth, self.field.n_folds).worths()[1]
        return sorted(self.arms, key=lambda arm: -worths[arm])

    def solving_s(self, arm: Arm) -> float:
        """Seconds to solve a head on all samples."""
        return arm.seconds * SOLVING[arm.head]


def is_shippable(arm: Arm) -> bool:
    """Whether an arm may be chosen; others are shown for comparison."""
    return arm.is_usual and arm.layer not in NO_BACKBONE
