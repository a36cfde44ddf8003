"""Make a plan."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thawline.planning.fit_plan import FitPlan, _as_usage_error, check_plan
from thawline.planning.planned import Planned

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.planning.budget import Budget
    from thawline.records import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a plan is to be made of: decided by the run that follows, so that it can be stopped meanwhile."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of FitPlan, by name."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings of training, by name."""
    budget: Budget | None = None

    def opening(self) -> dict[str, Any]:
        """Return the arguments of ``open_data`` that open no more than the budget allows."""
        within = None if self.budget is None else self.budget.for_opening()
        return {} if within is None else {"within": within, "seed": int(self.settings.get("seed", 0))}

    def plan(self, data: Dataset, backbone: Backbone, watcher: Watcher | None = None) -> Planned:
        """Make the plan."""
        return make_plan(
            data, backbone, training=dict(self.training), watcher=watcher, budget=self.budget, **self.settings
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; the clock of a budget starts anew when it is read."""
        budget = None if self.budget is None else [self.budget.seconds, self.budget.bytes]
        return {"settings": dict(self.settings), "training": dict(self.training), "budget": budget}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Asked:
        """Read what ``to_json`` gave."""
        from thawline.planning.budget import Budget

        budget = None if written["budget"] is None else Budget(*written["budget"])
        settings = {name: tuple(v) if isinstance(v, list) else v for name, v in written["settings"].items()}
        return cls(settings=settings, training=written["training"], budget=budget)


def plan(
    data: Dataset,
    backbone: Backbone,
    *,
    training: dict[str, Any] | None = None,
    watcher: Watcher | None = None,
    budget: str | None = None,
    **asked: Any,
) -> FitPlan:
    """Decide how to fit ``data`` with ``backbone``. What is asked for by name wins.

    With ``thaw="auto"``, the default, it is measured how much the data should retrain: heads on frozen features, then,
    while that promises more, short trials of thaw lines. Where a head, a layer or an MLP is asked for, that is the
    decision, and nothing is thawed.

    Args:
        data: As ``open_data`` gives it.
        backbone: As ``open_backbone`` gives it.
        training: Settings of training by name (fields of TrainPlan, and ``epochs`` and ``views`` of every stage).
        watcher: Hears of progress while something is measured.
        budget: What measuring and the fit that follows may take together: ``10min``, ``90s``, ``2GB``, ``10min,2GB``.
        asked: Any field of FitPlan.
    Raises:
        UsageError: Settings that cannot be, all of them.
    """
    from thawline.planning.budget import parse_budget

    spend = parse_budget(budget) if budget else None
    return make_plan(data, backbone, training=training, watcher=watcher, budget=spend, **asked).plan


def make_plan(
    data: Dataset,
    backbone: Backbone,
    *,
    training: dict[str, Any] | None = None,
    watcher: Watcher | None = None,
    explain: bool = False,
    budget: Budget | None = None,
    **asked: Any,
) -> Planned:
    """Do what ``plan`` does, and say what it took.

    Args:
        explain: Measure size and likeness to the source also where the first head leaves nothing to decide.
        budget: What measuring and the fit that follows may take together.
    """
    scratch = bool(asked.get("from_scratch"))
    automatic = str(asked.get("thaw") or "auto").strip() == "auto"
    if automatic:
        asked["thaw"] = "all" if scratch else "none"
    settled = {
        "model": backbone.name,
        "weights_sha256": "" if scratch else backbone.weights_sha256,
        "model_settings": backbone.settings,
    } | asked
    from thawline.planning.stage_plans import settle

    def complete(given: FitPlan, training: dict[str, Any] | None) -> FitPlan:
        with _as_usage_error("the settings of training"):
            return settle(given, data, backbone, training)

    bare = check_plan(settled | ({"opened": data.drawn} if data.drawn else {}), "the settings given")
    measures = automatic and not scratch and (bare.head, bare.layer) == ("logistic", "pooled")
    if not measures:
        whole = complete(bare, training)
        return Planned(plan=_with_reasons(whole, data, asked=True), budget=budget)
    from thawline.notebook import default_listener
    from thawline.planning.afford import Affordable, samples_within
    from thawline.planning.decide import decide
    from thawline.planning.sampling import sampled

    started = time.perf_counter()
    read = Affordable()
    if budget is not None and not bare.samples:
        read = samples_within(data, backbone, bare, budget)
        bare = bare.model_copy(update={"samples": read.samples})
    data = sampled(data, bare)
    sampling_s = time.perf_counter() - started - read.seconds
    known: dict[str, FitPlan] = {}

    def planned(thaw: str) -> FitPlan:
        if thaw not in known:
            known[thaw] = complete(bare.model_copy(update={"thaw": thaw}), training)
        return known[thaw]

    if training:
        planned("all")  # settings that cannot be are refused before anything is measured
    watcher = watcher or default_listener()
    decided = decide(data, backbone, bare, planned, watcher, explain=explain, budget=budget, read=read)
    plan = _with_reasons(decided.plan, data, asked=False)
    return replace(decided, plan=plan, seconds=decided.seconds + sampling_s)


def _with_reasons(plan: FitPlan, data: Dataset, *, asked: bool) -> FitPlan:
    return plan.model_copy(update={"reasons": (*_reasons(plan, data, asked=asked), *plan.reasons)})


def _reasons(plan: FitPlan, data: Dataset, *, asked: bool) -> list[str]:
    size = f"{len(data):,} samples in {len(data.classes)} classes"
    if not plan.trains:
        reasons = [
            f"{size}: a linear head on frozen features is solved exactly, its strength of regularisation chosen by "
            "cross-validation on the training part."
        ]
    elif plan.from_scratch:
        reasons = [f"{size}: the architecture is trained from random weights, as asked."]
    elif plan.head == "mlp":
        reasons = [f"{size}: an MLP head is trained on frozen features, as asked."]
    else:
        reasons = [f"{size}: the head is solved on frozen features first, and training starts from it (LP-FT)."]
    if not asked:
        return reasons
    if plan.thaw != "none" and not plan.from_scratch:
        reasons.append(f"Thaw {plan.thaw}, as asked: {len(plan.stages)} stage{'s' if len(plan.stages) > 1 else ''}.")
    if plan.layer != "pooled":
        reasons.append(f"Features are read at {plan.layer}, as asked.")
    return reasons
