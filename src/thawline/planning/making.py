"""Make a plan."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thawline.backbones.names import POOLED, layers_in
from thawline.errors import UsageError
from thawline.planning.asked import AUTO, Asked
from thawline.planning.fit_plan import FitPlan, check_plan
from thawline.planning.notes import notes_on
from thawline.planning.planned import Planned
from thawline.planning.targets import settled_for
from thawline.records import OUTPUTS
from thawline.showing import counted

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.records import Dataset


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

    ``thaw="auto"``, the default, measures how much the data should retrain: heads on frozen features first, then short
    trials of thaw lines, while they promise more. If a head, a layer or an MLP is asked for, that is the decision, and
    nothing is thawed. The reasons of the plan end with what was assumed of the weights.

    Args:
        data: As ``open_data`` gives it.
        backbone: As ``open_backbone`` gives it.
        training: Settings of training by name: fields of TrainPlan, and ``epochs`` and ``views`` of every stage.
        watcher: Hears of progress while Thawline measures.
        budget: What measuring and the fit that follows may take together: ``10min``, ``90s``, ``2GB``, ``10min,2GB``.
        asked: Any other field of ``planning.Asked``.
    Raises:
        UsageError: Settings that cannot be, all of them.
    """
    from thawline.planning.budget import parse_budget

    spend = parse_budget(budget) if budget else None
    wanted = Asked.of(**asked, training=training or {}, budget=spend)
    plan = make_plan(data, backbone, wanted, watcher=watcher).plan
    notes = () if wanted.from_scratch else notes_on(data, backbone)
    return plan.changed(reasons=(*plan.reasons, *notes)) if notes else plan


def make_plan(
    data: Dataset,
    backbone: Backbone,
    asked: Asked | None = None,
    *,
    watcher: Watcher | None = None,
    explain: bool = False,
) -> Planned:
    """Make a plan, and say what making it took.

    Args:
        explain: Measure size and likeness to the source also if the first head leaves nothing to decide.
    """
    asked, backbone = asked or Asked.of(), backbone.prepared_for(data)
    automatic = asked.thaw == AUTO
    if backbone.frozen_only and (asked.from_scratch or asked.thaw not in (AUTO, "none")):
        raise UsageError(f"{backbone.title} can only be used frozen: nothing in it can learn. Write --thaw none.")
    if backbone.reads_windows and (asked.from_scratch or asked.thaw not in (AUTO, "none")):
        raise UsageError(
            "a text that is read in windows must go through a frozen model, as its features are their mean. Write "
            "--thaw none, or --long head-tail."
        )
    settled = {
        "model": backbone.name,
        "weights_sha256": "" if asked.from_scratch else backbone.weights_sha256,
        "model_settings": backbone.settings,
    } | asked.settings
    settled = settled_for(data, settled, asked)
    if automatic:
        settled["thaw"] = "all" if asked.from_scratch else "none"
    if data.drawn:
        settled["opened"] = data.drawn
    bare = check_plan(settled, "the settings given")
    from thawline.planning.arms import usual_head
    from thawline.planning.ground import Ground
    from thawline.planning.stage_plans import settle

    measures = (
        automatic
        and not asked.from_scratch
        and not (backbone.frozen_only or backbone.reads_windows)
        and (bare.head, bare.layer) == (usual_head(data.truth), "pooled")
    )
    if not measures:
        ground = Ground.of(data, bare) if bare.trains else None
        whole = settle(bare, ground, backbone, asked.training)
        whole = _with_reasons(whole, data, asked=True, read=_read_at(whole, backbone))
        return Planned(plan=whole, ground=ground, budget=asked.budget)
    from thawline.notebook import default_listener
    from thawline.planning.afford import Affordable, samples_within
    from thawline.planning.decide import decide
    from thawline.planning.few_samples import worth_pairs
    from thawline.planning.ways import Way

    started = time.perf_counter()
    budget, read = asked.budget, Affordable()
    ground = Ground.of(data, bare, validating=True)
    if budget is not None and not bare.samples:
        read = samples_within(ground, backbone, bare, budget)
        bare = bare.changed(samples=read.samples)
        ground = ground.fewer(read.samples) if read.samples else ground
    sampling_s = time.perf_counter() - started - read.seconds
    known: dict[str, FitPlan] = {}

    def planned(way: str) -> FitPlan:
        if way not in known:
            read = Way.read(way)
            known[way] = settle(bare.changed(thaw=read.thaw), ground, backbone, read.training(asked.training))
        return known[way]

    if asked.training.model_fields_set:
        planned("all")  # settings that do not go together are refused before anything is measured
    watcher = watcher or default_listener()
    of_class = len(ground.field.rows) / ground.field.n_classes
    pairs = data.target == "class" and worth_pairs(data.kind, of_class, asked.training)
    decided = decide(ground, backbone, bare, planned, watcher, explain=explain, pairs=pairs, budget=budget, read=read)
    plan = _with_reasons(decided.plan, ground.data, asked=False)
    return replace(decided, plan=plan, seconds=decided.seconds + sampling_s)


def _with_reasons(plan: FitPlan, data: Dataset, *, asked: bool, read: str = "") -> FitPlan:
    return plan.changed(reasons=(*_reasons(plan, data, asked=asked), *filter(None, [read]), *plan.reasons))


def _read_at(plan: FitPlan, backbone: Backbone) -> str:
    """Say where features are read if that is not the usual place, and how many they are if they have a pooling."""
    if plan.layer == POOLED:
        return ""
    if ":" not in plan.layer:
        return f"Features are read at {plan.layer}, as asked."
    rungs = layers_in(plan.layer)
    places = ", ".join(dict.fromkeys(backbone.reading(rung).layer for rung in rungs))
    width = sum(backbone.width(rung) for rung in rungs)
    return f"Features are read at {plan.layer}, as asked: {width:,} for each sample, from {places}."


def _reasons(plan: FitPlan, data: Dataset, *, asked: bool) -> list[str]:
    size = f"{len(data):,} samples in {len(data.classes)} classes"
    if data.targets is not None:
        size = f"{len(data):,} samples with {counted(len(data.outputs), *OUTPUTS[data.target])} to learn"
    if not plan.trains:
        by = "leaving out each sample in turn" if data.target == "number" else "cross-validation on the training set"
        reasons = [f"{size}: a linear head on frozen features is solved exactly; {by} chooses its regularisation."]
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
    return reasons
