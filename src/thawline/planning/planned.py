"""A plan, and what making it took."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.planning.fit_plan import FitPlan

if TYPE_CHECKING:
    from thawline.planning.budget import Budget
    from thawline.planning.evidence import Evidence
    from thawline.planning.ground import Ground
    from thawline.records import Dataset


class TrialsFolder:
    """A temporary folder for checkpoints of trials; it goes when nobody needs it any more, or the process ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="thawline-trials-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Begun:
    """A training that a trial began."""

    folder: Path
    """With its checkpoints; training in this folder, or in a copy, goes on from there."""
    keeps: TrialsFolder
    """What the folder lies in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and what making it took, which a run that follows at once counts as its own."""

    plan: FitPlan
    ground: Ground | None = None
    """Samples and split that the plan was made on; None if making it needed no split."""
    budget: Budget | None = None
    """Budget that the fit that follows must keep within, too."""
    evidence: Evidence | None = None
    """Size of the data and likeness to the source, if these were measured."""
    computed: int = 0
    """Samples whose features at the layer of the plan were computed for it."""
    features_s: float = 0.0
    """Seconds that computing them took."""
    seconds: float = 0.0
    """All other seconds that planning took."""
    begun: Begun | None = None
    """The first part of the training, if a trial was that; None if training begins at its beginning."""

    def on(self, data: Dataset) -> Ground:
        """Return the ground that the plan was made on, or make it from the data that were opened for it."""
        from thawline.planning.ground import Ground

        return self.ground or Ground.of(data, self.plan)
