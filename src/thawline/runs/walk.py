"""Walk a plan through the rooms: data, backbone, frozen features, training, evaluation, bundle, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from thawline import planning
from thawline.backbones import Backbone, open_backbone
from thawline.data import open_data
from thawline.errors import RunError, UsageError
from thawline.planning import FitPlan, Planned
from thawline.records import Dataset
from thawline.runs import folder as run_folder
from thawline.runs.folder import Draft
from thawline.runs.listener import Both, EventLog, Listener, Silent, check_tensorboard
from thawline.runs.measure import Clock, measure
from thawline.runs.request import DataMark, Request, read_request, weights_path, write_request
from thawline.runs.run import Run, open_run
from thawline.runs.stopping import sigterm_interrupts
from thawline.runs.writing import write_run


def fit(
    data: Dataset | str | Path,
    plan: FitPlan | Planned | None = None,
    *,
    backbone: Backbone | None = None,
    run: str | Path | None = None,
    force: bool = False,
    listener: Listener | None = None,
    tensorboard: bool = False,
) -> Run:
    """Do what a plan says, and write a run folder: whole, or not at all.

    A run that is stopped after training has begun, by Ctrl-C, SIGTERM, a full disk or a defect, is kept beside its
    place, and ``resume`` goes on with it; so does it with one that was killed at any moment.

    Args:
        data: A data set, or anything that ``open_data`` opens.
        plan: What was decided; by default what ``plan`` decides for the data and the backbone.
        backbone: Opened already; else the plan names it.
        run: Where the run folder should be; by default the first free ``runs/NAME-1``, ``-2``, ...
        force: Replace a run that stands there, finished or not.
        listener: Hears of progress.
        tensorboard: Write curves of training for TensorBoard, too.
    Returns:
        The finished run.
    Raises:
        ThawlineError: Whatever a room refuses.
    """
    listener = listener or Silent()
    wanted = None if run is None else Path(run)
    if wanted is not None:
        run_folder.check_place(wanted, force=force)
    if tensorboard:
        check_tensorboard()
    opened = data if isinstance(data, Dataset) else _open(listener, {"what": data})
    given = Planned(plan=plan) if isinstance(plan, FitPlan) else plan
    if backbone is None:
        backbone = _backbone(given.plan, None) if given else open_backbone()
    planned = given or planning.make_plan(opened, backbone, watcher=listener)
    plan = planning.settle(planned.plan, opened, backbone)
    _check_weights(plan, backbone)
    request = Request(
        opened=None if opened.opened is None else dict(opened.opened),
        data=DataMark.of(opened),
        plan=plan,
        weights=weights_path(plan.model),
        force=force,
        tensorboard=tensorboard,
    )
    with sigterm_interrupts(), run_folder.new_run_folder(wanted, opened.name, force=force) as draft:
        planning.write_plan(plan, draft.folder / run_folder.PLAN)  # for whoever looks into the folder meanwhile
        write_request(draft, request)
        _walk("start", draft, request, opened, backbone, listener, planned)
    return open_run(draft.target)


def resume(run: str | Path, *, data: Dataset | str | Path | None = None, listener: Listener | None = None) -> Run:
    """Go on with a run that was stopped or killed; it ends with the bits of one that never was.

    Args:
        run: Where the run folder was to be.
        data: Where the data lie now, or the data; by default they are opened as they were then.
        listener: Hears of progress, and that there is nothing to do where the run is finished.
    Returns:
        The finished run.
    Raises:
        RunError: No such run was begun, another process works on it, or another version began it.
        DataError: The data are not what they were.
    """
    listener = listener or Silent()
    draft = run_folder.draft_of(Path(run))
    if not draft.folder.is_dir():
        return _finished(draft.target, listener)
    with sigterm_interrupts(), run_folder.locked(draft):
        if draft.is_whole:
            run_folder.finish(draft, force=True)  # it was stopped within the move into its place
        else:
            _go_on(draft, data, listener)
    return open_run(draft.target)


def _finished(target: Path, listener: Listener) -> Run:
    if not run_folder.is_run_folder(target):
        raise RunError(
            f"run must be one that `thawline fit` began; there is none at {target}. "
            f"Begin it: thawline fit DATA --run {target}"
        )
    finished = open_run(target)
    listener.note(f"{target} is finished; nothing was left to do. Its report: {finished.report_path}")
    return finished


def _go_on(draft: Draft, data: Dataset | str | Path | None, listener: Listener) -> None:
    request = read_request(draft)
    with run_folder.completed(draft, force=request.force, resumed=True):
        opened = data if isinstance(data, Dataset) else _open(listener, _opening(request, data, draft.target))
        request.check(opened)
        backbone = _backbone(request.plan, request.weights)
        _check_weights(request.plan, backbone)
        draft.state.mkdir(exist_ok=True)
        _walk("resume", draft, request, opened, backbone, listener)


def _walk(
    event: str,
    draft: Draft,
    request: Request,
    data: Dataset,
    backbone: Backbone,
    listener: Listener,
    planned: Planned | None = None,
) -> None:
    """Do the work, or what is left of it, and fill the draft."""
    curves = draft.folder / run_folder.TENSORBOARD if request.tensorboard else None
    planned = planned or Planned(plan=request.plan)  # what planning took was written before a run was stopped
    spent_s = data.seconds + planned.features_s + planned.seconds
    log = EventLog(draft.folder / run_folder.EVENTS, spent_s=spent_s, tensorboard=curves)
    try:
        log.write(event, model=backbone.name, data=data.name, n=len(data), seed=request.plan.seed)
        measured = measure(data, request.plan, backbone, Clock(log), Both(log, listener), draft.state, planned)
        total = measured.seconds["total"] + log.earlier_s
        measured = replace(measured, seconds=measured.seconds | {"total": total})
        write_run(draft.folder, measured, draft.target)
        log.write("end", accuracy=measured.test["accuracy"].value)
    finally:
        log.close()


def _opening(request: Request, data: str | Path | None, run: Path) -> Mapping[str, Any]:
    """How to open the data again, from where they lie now."""
    if request.opened is not None:
        return request.opened | ({} if data is None else {"what": data})
    if data is not None:
        return {"what": data}
    raise RunError(
        f"run must be gone on with on its data, and no path leads to those of {run} (arrays, a hub's data set). "
        "Open them and give them: thawline.resume(run, data=...)"
    )


def _open(listener: Listener, how: Mapping[str, Any]) -> Dataset:
    return open_data(**how, progress=partial(listener.progress, "reading"))


def _backbone(plan: FitPlan, weights: str | None) -> Backbone:
    """Open what the plan names, from ``weights`` where the path in its name may be relative to another folder."""
    name = plan.model if weights is None else f"{plan.model.partition('@')[0]}@{weights}"
    backbone = open_backbone(name, **plan.model_settings, architecture_only=plan.from_scratch)
    backbone.name = plan.model
    return backbone


def _check_weights(plan: FitPlan, backbone: Backbone) -> None:
    if plan.weights_sha256 and plan.weights_sha256 != backbone.weights_sha256:
        raise UsageError(
            f"plan must be fitted with the weights it was made for, {plan.weights_sha256[:12]}; "
            f"got {backbone.weights_sha256[:12]} ({backbone.name}). Make a new plan, or empty weights_sha256 in it."
        )
