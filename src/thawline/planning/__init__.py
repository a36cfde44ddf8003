"""Decide what to retrain, and how, before anything is trained.

Takes a data set, a backbone and what the user asked for. Gives a FitPlan: every setting that decides the result, in a
file that a person can read, edit and replay. Refuses settings that cannot be, and lists all of them at once.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.planning.asked import Asked as Asked
    from thawline.planning.fit_plan import Candidate as Candidate
    from thawline.planning.fit_plan import FitPlan as FitPlan
    from thawline.planning.fit_plan import read_plan as read_plan
    from thawline.planning.fit_plan import write_plan as write_plan
    from thawline.planning.ground import Ground as Ground
    from thawline.planning.making import make_plan as make_plan
    from thawline.planning.making import plan as plan
    from thawline.planning.notes import noted as noted
    from thawline.planning.planned import Planned as Planned
    from thawline.planning.ranking import Ranking as Ranking
    from thawline.planning.ranking import rank as rank
    from thawline.planning.source_moments import keep_source as keep_source
    from thawline.planning.stage_plans import settle as settle

_HOME = {
    "Asked": "thawline.planning.asked",
    "Candidate": "thawline.planning.fit_plan",
    "FitPlan": "thawline.planning.fit_plan",
    "Ground": "thawline.planning.ground",
    "Planned": "thawline.planning.planned",
    "Ranking": "thawline.planning.ranking",
    "keep_source": "thawline.planning.source_moments",
    "make_plan": "thawline.planning.making",
    "noted": "thawline.planning.notes",
    "plan": "thawline.planning.making",
    "rank": "thawline.planning.ranking",
    "read_plan": "thawline.planning.fit_plan",
    "settle": "thawline.planning.stage_plans",
    "write_plan": "thawline.planning.fit_plan",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
