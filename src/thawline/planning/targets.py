"""What a plan must be for what is learned: the head that suits it, and what goes with classes only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thawline.errors import UsageError

if TYPE_CHECKING:
    from thawline.planning.asked import Asked
    from thawline.planning.fit_plan import FitPlan
    from thawline.records import Dataset

CLASSES_ONLY = (
    "{what} is for data with one class for each sample; {name} is read for target {target}. Read it with --target "
    "class, or use thawline fit."
)


def settled_for(data: Dataset, settled: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """Return the settings of a plan with the target of the data and, if none was asked for, the head that suits it.

    Raises:
        UsageError: A head or a setting of training was asked for that does not go with the target.
    """
    if data.targets is None:
        return settled
    from thawline.heads import task_for

    heads = task_for(data.target).heads
    head = settled.get("head", heads[0])
    if head not in heads:
        raise UsageError(f"head must be {' or '.join(heads)} for target {data.target}; got {head} (--head).")
    if asked.training.objective == "contrastive":
        raise UsageError(f"objective must be cross-entropy for target {data.target}: pairs are of one class or of two.")
    if asked.training.class_weights != "none":
        raise UsageError(f"class_weights must be none for target {data.target}, which has no classes to weigh.")
    if asked.baselines:
        raise UsageError(f"baselines must be none for target {data.target}: the guides' networks tell classes apart.")
    return settled | {"target": data.target, "head": head}


def check_target(plan: FitPlan, data: Dataset) -> None:
    """Refuse a plan that was made to learn something else.

    Raises:
        UsageError: Names both targets.
    """
    if plan.target != data.target:
        raise UsageError(
            f"plan was made for target {plan.target}; {data.name} was read for target {data.target}. Read them with "
            f"--target {plan.target}, or make a new plan."
        )


def require_classes(data: Dataset, what: str) -> None:
    """Refuse data with labels or numbers where only classes can be learned.

    Args:
        what: Names what needs classes: ``compare``.
    Raises:
        UsageError: The data have another target.
    """
    if data.targets is not None:
        raise UsageError(CLASSES_ONLY.format(what=what, name=data.name, target=data.target))
