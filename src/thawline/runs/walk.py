"""Walk a plan through the rooms: data, backbone, frozen features, training, evaluation, bundle, report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from thawline import planning
from thawline.backbones import Backbone, open_backbone
from thawline.data import open_data
from thawline.errors import RunError, UsageError
from thawline.listening import Silent
from thawline.planning import Asked, FitPlan, Planned
from thawline.records import Dataset
from thawline.runs import folder as run_folder
from thawline.runs.folder import Draft
from thawline.runs.listener import Both, EventLog, Listener, check_tensorboard
from thawline.runs.measure import Clock, measure
from thawline.runs.request import DataMark, Request, read_request, weights_path, write_request
from thawline.runs.run import Run, open_run
from thawline.runs.stopping import sigterm_interrupts
from thawline.runs.writing import write_run


def fit(
    data: Dataset | str | Path,
    plan: FitPlan | Planned | Asked | None = None,
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
        plan: What was decided, or what is to be decided within the run; by default whatever ``plan`` decides.
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
    given = Planned(plan=plan) if isinstance(plan, FitPlan) else plan or Asked()
    asked = given.plan if isinstance(given, Planned) else given
    opened = data if isinstance(data, Dataset) else _open(listener, {"what": data, **asked.opening()})
    if backbone is None:
        backbone = _backbone(given.plan, None) if isinstance(given, Planned) else open_backbone()
    if isinstance(given, Planned):
        given = replace(given, plan=planning.settle(given.plan, opened, backbone))
        _check_weights(given.plan, backbone)
    request = Request(
        opened=None if opened.opened is None else dict(opened.opened),
        data=DataMark.of(opened),
        model=backbone.name,
        model_settings=json.loads(json.dumps(backbone.settings)),
        asked=given.to_json() if isinstance(given, Asked) else None,
        plan=None if isinstance(given, Asked) else given.plan,
        weights=weights_path(backbone.name),
        force=force,
        tensorboard=tensorboard,
    )
    with sigterm_interrupts(), run_folder.new_run_folder(wanted, opened.name, force=force) as draft:
        write_request(draft, request)
        _walk("start", draft, request, opened, backbone, listener, given)
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
        backbone = _opened_again(request)
        if request.plan is not None:
            _check_weights(request.plan, backbone)
        draft.state.mkdir(exist_ok=True)
        given = Planned(plan=request.plan) if request.plan else Asked.from_json(request.asked or {})
        _walk("resume", draft, request, opened, backbone, listener, given)


def _walk(
    event: str,
    draft: Draft,
    request: Request,
    data: Dataset,
    backbone: Backbone,
    listener: Listener,
    given: Planned | Asked,
) -> None:
    """Do the work, or what is left of it, and fill the draft."""
    curves = draft.folder / run_folder.TENSORBOARD if request.tensorboard else None
    spent_s = data.seconds + (given.features_s + given.seconds if isinstance(given, Planned) else 0.0)
    log = EventLog(draft.folder / run_folder.EVENTS, spent_s=spent_s, tensorboard=curves)
    try:
        seed = given.plan.seed if isinstance(given, Planned) else int(given.settings.get("seed", 0))
        log.write(event, model=backbone.name, data=data.name, n=len(data), seed=seed)
        both = Both(log, listener)
        planned = _decided(given, draft, request, data, backbone, both)
        log.write("plan", thaw=planned.plan.thaw, layer=planned.plan.layer, took=round(planned.seconds, 4))
        measured = measure(data, planned.plan, backbone, Clock(log), both, draft.state, planned=planned)
        total = measured.seconds["total"] + log.earlier_s
        measured = replace(measured, seconds=measured.seconds | {"total": total})
        write_run(draft.folder, measured, draft.target)
        log.write("end", accuracy=measured.test["accuracy"].value)
    finally:
        log.close()


def _decided(
    given: Planned | Asked, draft: Draft, request: Request, data: Dataset, backbone: Backbone, listener: Listener
) -> Planned:
    """The plan, made now if it was only asked for; from then on the run can be gone on with without making it again."""
    planned = given
    if isinstance(planned, Asked):
        planned = planned.plan(data, backbone, listener)
        write_request(draft, request.model_copy(update={"plan": planned.plan}))
    planning.write_plan(planned.plan, draft.folder / run_folder.PLAN)  # for whoever looks into the folder meanwhile
    return planned


def _opened_again(request: Request) -> Backbone:
    """Open the backbone as the run did, its weights wherever the path in its name led from there."""
    asked = (request.asked or {}).get("settings", {})
    scratch = request.plan.from_scratch if request.plan else bool(asked.get("from_scratch"))
    name = request.model if request.weights is None else f"{request.model.partition('@')[0]}@{request.weights}"
    backbone = open_backbone(name, **request.model_settings, architecture_only=scratch)
    backbone.name = request.model
    return backbone


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
