"""Walk a plan through the rooms: data, backbone, frozen features, training, evaluation, bundle, report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from thawline import planning
from thawline.backbones import Backbone, open_backbone
from thawline.data import open_data
from thawline.errors import UsageError
from thawline.planning import FitPlan
from thawline.records import Dataset
from thawline.runs import folder as run_folder
from thawline.runs.listener import EventLog, Listener, Silent
from thawline.runs.measure import Clock, measure
from thawline.runs.run import Run, open_run
from thawline.runs.writing import write_run


def fit(
    data: Dataset | str | Path,
    plan: FitPlan | None = None,
    *,
    backbone: Backbone | None = None,
    run: str | Path | None = None,
    force: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Do what a plan says, and write a run folder: whole, or not at all.

    Args:
        data: A data set, or anything that ``open_data`` opens.
        plan: What was decided; by default what ``plan`` decides for the data and the backbone.
        backbone: Opened already; else the plan names it.
        run: Where the run folder should be; by default the first free ``runs/NAME-1``, ``-2``, ...
        force: Replace a run that stands there.
        listener: Hears of progress.
    Returns:
        The finished run.
    Raises:
        ThawlineError: Whatever a room refuses; nothing is left behind.
    """
    listener = listener or Silent()
    wanted = None if run is None else Path(run)
    if wanted is not None:
        run_folder.check_place(wanted, force=force)
    opened = data if isinstance(data, Dataset) else _open(data, listener)
    if backbone is None:
        backbone = open_backbone(plan.model, **plan.model_settings) if plan else open_backbone()
    plan = plan or planning.plan(opened, backbone)
    if plan.weights_sha256 not in ("", backbone.weights_sha256):
        raise UsageError(
            f"plan must be fitted with the weights it was made for, {plan.weights_sha256[:12]}; "
            f"got {backbone.weights_sha256[:12]} ({backbone.name}). Make a new plan, or empty weights_sha256 in it."
        )
    with run_folder.new_run_folder(wanted, opened.name, force=force) as (draft, target):
        log = EventLog(draft / run_folder.EVENTS)
        log.write("start", model=backbone.name, data=opened.name, n=len(opened), seed=plan.seed)
        try:
            measured = measure(opened, plan, backbone, Clock(log), listener)
            write_run(draft, measured, target)
            log.write("end", accuracy=measured.test["accuracy"].value)
        finally:
            log.close()
    return open_run(target)


def _open(data: str | Path, listener: Listener) -> Dataset:
    return open_data(data, progress=partial(listener.progress, "reading"))
