"""Turn a plan into what training is asked to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from thawline.engines.choices import hardware
from thawline.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.planning.fit_plan import FitPlan
    from thawline.records import Precision
    from thawline.training.finetune import Ask
    from thawline.training.settings import StagePlan, TrainPlan


def precision_of(plan: FitPlan) -> Precision:
    """Return the precision that a plan's layers compute in on this machine."""
    return hardware(plan.precision, plan.device)[1]


def ask_for(
    plan: FitPlan,
    *,
    stages: Sequence[StagePlan] | None = None,
    settings: TrainPlan | None = None,
    ends_at: float | None = None,
    must_improve: bool = False,
    choose_only: bool = False,
    give_up: Callable[[NDArray[np.float64], NDArray[np.float64]], bool] | None = None,
) -> Ask:
    """Return what training is asked to do by a plan, on this machine.

    Args:
        stages, settings: In place of the plan's own. Given stages are not progressive.
        ends_at: When training must be over, as ``time.monotonic`` tells.
        must_improve: Keep a stage only if it is better on the validation set than what was there before.
        choose_only, give_up: As in ``Ask``.
    Raises:
        UsageError: The plan does not say how to train.
    """
    from thawline.training.finetune import Ask  # loads torch

    settings = settings or plan.training
    if settings is None:
        raise UsageError("plan must say how to train; its [training] table is missing. Make a new plan.")
    device, precision = hardware(plan.precision, plan.device)
    return Ask(
        stages=plan.stages if stages is None else stages,
        settings=settings,
        progressive=plan.thaw == "progressive" and stages is None,
        from_scratch=plan.from_scratch,
        head="mlp" if plan.head == "mlp" else "linear",
        hidden=plan.hidden,
        dropout=plan.dropout,
        seed=plan.seed,
        device=device,
        precision=precision,
        ends_at=ends_at,
        must_improve=must_improve,
        choose_only=choose_only,
        give_up=give_up,
    )
