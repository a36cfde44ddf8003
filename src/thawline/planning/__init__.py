"""Decide what to retrain, and how, before anything is trained.

Takes a data set, a backbone and what the user asked for. Gives a FitPlan: every setting that decides the result, in a
file that a person can read, edit and replay. Refuses settings that cannot be, all of them in one sentence.
"""

from thawline.planning.plan import FitPlan, plan, read_plan, write_plan

__all__ = ["FitPlan", "plan", "read_plan", "write_plan"]
