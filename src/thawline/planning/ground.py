"""The samples that a plan is about, and how they are divided: made once, then handed on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thawline.data import split_data, subset
from thawline.data.checks import opened_remark
from thawline.data.sampling import opening_order, places
from thawline.errors import DataError
from thawline.randomness import generator
from thawline.records import PARTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning.arms import Field
    from thawline.planning.fit_plan import FitPlan
    from thawline.records import Dataset, Split


@dataclass(frozen=True, eq=False, kw_only=True)
class Ground:
    """Samples, their split and their folds: what a plan is decided, forecast and trained on."""

    data: Dataset
    """The samples that the plan reads."""
    split: Split
    """Of ``data``."""
    fractions: tuple[float, float, float]
    seed: int
    validating: bool
    """Whether a validation set was drawn from a given split that brings none."""

    @classmethod
    def of(cls, data: Dataset, plan: FitPlan, *, validating: bool | None = None) -> Ground:
        """Return the samples that a plan reads, and their split.

        The plan says how many of the data were opened, and how many of these it reads: always the same ones, classes
        and sets in proportion. Each stays in the set that the whole split gave it. A class keeps three samples of those
        opened, and one in each set that has it, so there may be a few more than the plan says.

        Args:
            validating: As in ``split_data``; by default, if the plan trains by gradient.
        """
        whole = _opened(data, plan)
        if 0 < plan.samples < len(whole):
            return cls._of(whole, plan, validating=True).fewer(plan.samples, validating=validating or plan.trains)
        return cls._of(whole, plan, validating=plan.trains if validating is None else validating)

    @classmethod
    def _of(cls, data: Dataset, plan: FitPlan, *, validating: bool) -> Ground:
        split = split_data(data, fractions=plan.fractions, seed=plan.seed, validating=validating)
        return cls(data=data, split=split, fractions=plan.fractions, seed=plan.seed, validating=validating)

    def fewer(self, samples: int, *, validating: bool = True) -> Ground:
        """Return about so many of the samples, each in the set that it has here."""
        parts, place = self._parts_and_places
        chosen = np.sort(self.order[: max(samples, np.count_nonzero(place == 0))])
        drawn = subset(replace(self.data, given=parts), chosen)
        sentence = (
            f"{len(drawn):,} of {len(self.data):,} samples were read, as the plan says (samples = {samples}). More of "
            "them would make a better model and a surer judgement."
        )
        drawn = replace(drawn, warnings=(*self.data.warnings, sentence))
        return replace(self, data=drawn)._split_again(validating=validating)

    def suiting(self, plan: FitPlan) -> Ground:
        """Return the same samples, with a validation set drawn for a plan that trains, and none for another."""
        return self if self.validating == plan.trains else self._split_again(validating=plan.trains)

    def _split_again(self, *, validating: bool) -> Ground:
        split = split_data(self.data, fractions=self.fractions, seed=self.seed, validating=validating)
        return replace(self, split=split, validating=validating)

    @property
    def order(self) -> NDArray[np.int64]:
        """Row numbers, (N,), in the order in which ``fewer`` takes them."""
        return np.argsort(self._parts_and_places[1], kind="stable")

    @cached_property
    def _parts_and_places(self) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
        """(N,) set of each sample, and its place among those of its class in that set."""
        parts = np.full(len(self.data), "train", dtype="<U5")
        place = np.full(len(self.data), np.inf)  # rows that the split leaves out come last
        for part in PARTS:
            rows = getattr(self.split, part)
            parts[rows] = part
            place[rows] = places(self.data.labels[rows], generator(self.seed, "fewer samples", part))
        return parts, place

    @cached_property
    def field(self) -> Field:
        """The samples to learn from, dealt to the folds that arms are judged on.

        Raises:
            DataError: All of them are one group, so that nothing can be held out.
        """
        from thawline.planning.arms import mark_out

        return mark_out(self.data, self.split, self.seed)

    def held_out(self, plan: FitPlan) -> Split:
        """Return what a training of the plan learns from first, and what it is judged by before it goes on with all.

        A pre-trained backbone that is thawed at one line is judged by fold 0: a third of the samples, the validation
        set among them. The trial of a line leaves out the same samples, so that the training of the line can go on from
        it. Any other training learns more slowly, and leaves out the validation set only.
        """
        from thawline.planning.arms import MOST_ROWS

        train, val = self.split.train, self.split.val
        if not plan.fine_tunes_once or len(train) + len(val) > MOST_ROWS:
            return self.split
        try:
            field = self.field
        except DataError:
            return self.split
        judged = np.union1d(field.rows[field.inside(0)], val)
        learned = np.setdiff1d(field.rows, judged)
        if not len(learned):
            return self.split
        return replace(self.split, train=learned, val=judged)


def _opened(data: Dataset, plan: FitPlan) -> Dataset:
    """Return the samples that were opened when the plan was made, if the data are more."""
    if not 0 < plan.opened < len(data) or data.drawn:
        return data
    order, least = opening_order(data.labels, data.given, plan.seed)
    chosen = np.sort(order[: max(plan.opened, least)])
    remark = opened_remark(len(chosen), len(data))
    return replace(subset(data, chosen), warnings=(remark, *data.warnings), drawn=len(chosen))
