"""A plan that was made, and what making it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thawline.planning.fit_plan import FitPlan

if TYPE_CHECKING:
    from thawline.planning.budget import Budget
    from thawline.planning.explain import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and what making it took: a run that follows at once counts that as its own."""

    plan: FitPlan
    budget: Budget | None = None
    """What the fit that follows must be over in."""
    evidence: Evidence | None = None
    """How much data there is and how like the source, where that was measured."""
    computed: int = 0
    """Samples whose features at the layer of the plan were computed for it."""
    features_s: float = 0.0
    """Seconds that computing them took."""
    seconds: float = 0.0
    """All others that planning took."""
