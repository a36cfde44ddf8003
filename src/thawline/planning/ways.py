"""Ways to fine-tune: at which line, by the cross-entropy of a head or by pairs of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from thawline.planning.fit_plan import FitPlan
    from thawline.training.settings import TrainAsk

_BY_PAIRS = " by pairs"


class Way(NamedTuple):
    """How a backbone is fine-tuned."""

    thaw: str
    """Thaw setting."""
    by_pairs: bool = False

    def __str__(self) -> str:
        return self.thaw + _BY_PAIRS * self.by_pairs

    @classmethod
    def of(cls, plan: FitPlan) -> Way:
        """Return the way of a plan."""
        training = plan.training
        return cls(plan.thaw, training is not None and training.objective == "contrastive")

    @classmethod
    def read(cls, written: str) -> Way:
        """Read what ``str`` gave; a thaw setting alone is no way by pairs."""
        thaw = written.removesuffix(_BY_PAIRS)
        return cls(thaw, thaw != written)

    def at(self, thaw: str) -> Way:
        """Return the same objective at another line."""
        return self._replace(thaw=thaw)

    def training(self, asked: TrainAsk) -> TrainAsk:
        """Return the settings of training that were asked for, with the objective of this way."""
        return asked.changed(objective="contrastive") if self.by_pairs else asked
