"""Do what a plan says, from data to run folder; resume a run that was stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline import planning
from thawline.backbones import Backbone, open_backbone
from thawline.errors import RunError, UsageError
from thawline.listening import Listener
from thawline.notebook import default_listener
from thawline.planning import Asked, FitPlan, Ground, Planned
from thawline.planning.own_statistics import with_own_statistics
from thawline.planning.targets import check_target
from thawline.records import Dataset
from thawline.runs import folder as run_folder
from thawline.runs.folder import Draft
from thawline.runs.listener import Both, EventLog, check_tensorboard
from thawline.runs.measure import Clock, measure
from thawline.runs.opening import default_backbone, opened_together
from thawline.runs.opening import opened as open_for
from thawline.runs.request import DataMark, Request, read_request, weights_path, write_request
from thawline.runs.run import Run, open_run
from thawline.runs.stopping import sigterm_interrupts
from thawline.runs.writing import write_run
from thawline.scale.disk import is_folder, written_whole

if TYPE_CHECKING:
    from thawline.runs.opening import BackboneFor


def fit(
    data: Dataset | str | Path,
    plan: FitPlan | Planned | Asked | None = None,
    *,
    backbone: Backbone | BackboneFor | None = None,
    run: str | Path | None = None,
    force: bool = False,
    listener: Listener | None = None,
    tensorboard: bool = False,
    **opening: Any,
) -> Run:
    """Do what a plan says, and write a run folder: whole, or not at all.

    A run that stops after its first checkpoint (Ctrl-C, SIGTERM, a full disk, a defect) is kept beside its place, and
    ``resume`` finishes it. ``resume`` also finishes a run that was killed at any moment.

    Args:
        data: A data set, or anything that ``open_data`` opens.
        plan: What was decided, or what the run is to decide by measuring; by default all of it.
        backbone: An opened backbone, or a function that opens one for a kind of input; by default the one that the plan
            names, or the one that suits the kind of the data.
        run: Where the run folder should be; by default the first free ``runs/NAME-1``, ``-2``, ...
        force: Replace the run that stands there, finished or not.
        listener: Hears of progress; by default bars in a notebook, and nobody in a script.
        tensorboard: Also write curves of training for TensorBoard.
        opening: Arguments of ``open_data``, such as ``label_column``, unless ``data`` are open already.
    Returns:
        The finished run.
    Raises:
        ThawlineError: The data, the plan, the place or the training was refused.
    """
    listener = listener or default_listener()
    wanted = None if run is None else Path(run)
    if wanted is not None:
        run_folder.check_place(wanted, force=force)
    if tensorboard:
        check_tensorboard()
    given = Planned(plan=plan) if isinstance(plan, FitPlan) else plan or Asked.of()
    asked = given.plan if isinstance(given, Planned) else given
    if backbone is None:
        backbone = _backbone(given.plan) if isinstance(given, Planned) else default_backbone
    opened, backbone = _opened(data, asked, backbone, listener, opening)
    if isinstance(asked, Asked):
        backbone = with_own_statistics(
            opened,
            backbone,
            asked.own,
            listener,
            fractions=asked.fractions,
            seed=asked.seed,
            architecture_only=asked.from_scratch,
        )
    backbone = backbone.prepared_for(opened)
    opened = opened if asked.from_scratch else planning.noted(opened, backbone)
    listener.found(opened)
    if isinstance(given, Planned):
        check_target(given.plan, opened)
        ground = Ground.of(opened, given.plan) if given.plan.trains else None
        given = replace(given, plan=planning.settle(given.plan, ground, backbone), ground=ground)
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
    """Resume a run that was stopped or killed; it ends with the same bits as a run that never was.

    Args:
        run: The run folder that the run was to write.
        data: The data, or where they lie now; by default they are opened from where they lay.
        listener: Hears of progress, and a remark if the run is finished already.
    Returns:
        The finished run.
    Raises:
        RunError: No such run was begun, another process is writing it, or another version began it.
        DataError: The data have changed.
    """
    listener = listener or default_listener()
    draft = run_folder.draft_of(Path(run))
    if not is_folder(draft.folder):
        return _finished(draft.target, listener)
    with sigterm_interrupts(), run_folder.locked(draft):
        if draft.is_whole:
            run_folder.finish(draft, force=True)  # it was stopped while it moved into its place
        else:
            _continue(draft, data, listener)
    return open_run(draft.target)


def _finished(target: Path, listener: Listener) -> Run:
    if not run_folder.is_run_folder(target):
        raise RunError(
            f"Cannot resume: `thawline fit` began no run at {target}. Check the path, or start the run: "
            f"thawline fit DATA --run {target}"
        )
    finished = open_run(target)
    listener.note(f"{target} is finished; there is nothing to resume. Report: {finished.report_path}")
    return finished


def _continue(draft: Draft, data: Dataset | str | Path | None, listener: Listener) -> None:
    request = read_request(draft)
    with run_folder.completed(draft, force=request.force, resumed=True):
        opened = (
            data if isinstance(data, Dataset) else open_for(listener=listener, **_opening(request, data, draft.target))
        )
        request.check(opened)
        backbone = _opened_again(request).prepared_for(opened)
        if request.plan is not None:
            _check_weights(request.plan, backbone)
        draft.state.mkdir(exist_ok=True)
        asked = request.plan or Asked.from_json(request.asked or {})
        given = Planned(plan=asked) if isinstance(asked, FitPlan) else asked
        opened = opened if asked.from_scratch else planning.noted(opened, backbone)
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
    """Do the work that is left, and fill the draft."""
    curves = draft.folder / run_folder.TENSORBOARD if request.tensorboard else None
    spent_s = data.seconds + (given.features_s + given.seconds if isinstance(given, Planned) else 0.0)
    log = EventLog(draft.folder / run_folder.EVENTS, spent_s=spent_s, tensorboard=curves)
    try:
        seed = given.plan.seed if isinstance(given, Planned) else given.seed
        log.write(event, model=backbone.name, data=data.name, n=len(data), seed=seed)
        both = Both(log, listener)
        planned = _decided(given, draft, request, data, backbone, both)
        log.write("plan", thaw=planned.plan.thaw, layer=planned.plan.layer, took=round(planned.seconds, 4))
        measured = measure(data, planned.plan, backbone, Clock(log), both, draft.state, planned=planned)
        total = measured.seconds["total"] + log.earlier_s
        measured = replace(measured, seconds=measured.seconds | {"total": total})
        write_run(draft.folder, measured, draft.target)
        log.write("end", **{measured.test.headline: measured.test.main.value})
    finally:
        log.close()


def _decided(
    given: Planned | Asked, draft: Draft, request: Request, data: Dataset, backbone: Backbone, listener: Listener
) -> Planned:
    """Return the plan; if it was only asked for, make it and keep it for a later ``resume``."""
    planned = given
    if isinstance(planned, Asked):
        planned = planning.make_plan(data, backbone, planned, watcher=listener)
    if planned.begun is not None:  # before the plan stands: with the plan there, a run that was killed trains at once
        shutil.copytree(planned.begun.folder, draft.state, dirs_exist_ok=True, copy_function=_copy_whole)
    if isinstance(given, Asked):
        write_request(draft, request.changed(plan=planned.plan))
    planning.write_plan(planned.plan, draft.folder / run_folder.PLAN)  # for people who look into the folder meanwhile
    return planned


def _copy_whole(source: str, target: str) -> None:
    """Copy a file; a kill at any moment leaves none or all of it."""
    with Path(source).open("rb") as read, written_whole(Path(target), "wb") as written:
        shutil.copyfileobj(read, written)


def _opened_again(request: Request) -> Backbone:
    """Open the backbone as the run did, its weights from the same absolute path."""
    asked = request.plan or Asked.from_json(request.asked or {})
    name = request.model if request.weights is None else f"{request.model.partition('@')[0]}@{request.weights}"
    backbone = open_backbone(name, **request.model_settings, architecture_only=asked.from_scratch)
    backbone.name = request.model
    return backbone


def _opening(request: Request, data: str | Path | None, run: Path) -> Mapping[str, Any]:
    """Return the arguments of ``open_data`` that open the data again, from where they lie now."""
    if request.opened is not None:
        return request.opened | ({} if data is None else {"what": data})
    if data is not None:
        return {"what": data}
    raise RunError(
        f"Cannot resume {run} by its path alone: its data were arrays or came from a hub. "
        "Open the data and pass them: thawline.resume(run, data=...)"
    )


def _opened(
    data: Dataset | str | Path,
    asked: FitPlan | Asked,
    backbone: Backbone | BackboneFor,
    listener: Listener,
    how: Mapping[str, Any],
) -> tuple[Dataset, Backbone]:
    """Open the data unless they are open, and the backbone; the engine that will read them is built meanwhile."""
    choose: BackboneFor = backbone if callable(backbone) else lambda _: backbone
    if isinstance(data, Dataset):
        if how:
            raise UsageError(f"{', '.join(how)} must come with a path; got data that are open already. Leave it out.")
        return data, choose(data.kind)
    # what would be built ahead is not what will run
    ahead = not (asked.from_scratch or (isinstance(asked, Asked) and asked.own))
    engine = {"layer": asked.layer, "engine": asked.engine, "precision": asked.precision, "device": asked.device}
    return opened_together(data, listener, choose, ahead=ahead, **engine, **asked.opening(), **how)


def _backbone(plan: FitPlan) -> Backbone:
    """Open the backbone that a plan names."""
    return open_backbone(plan.model, **plan.model_settings, architecture_only=plan.from_scratch)


def _check_weights(plan: FitPlan, backbone: Backbone) -> None:
    if plan.weights_sha256 and plan.weights_sha256 != backbone.weights_sha256:
        raise UsageError(
            f"plan was made for weights {plan.weights_sha256[:12]}; got {backbone.weights_sha256[:12]} "
            f"({backbone.name}). Make a new plan, or empty weights_sha256 in this one."
        )
