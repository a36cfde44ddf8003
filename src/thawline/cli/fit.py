"""``thawline fit``: data in, run folder out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thawline.cli.console import listening, print_json
from thawline.cli.groups import option_names
from thawline.cli.opening import backbone_for
from thawline.cli.options import (
    DATA_HELP,
    BaselineNames,
    ComputeOptions,
    DataOptions,
    ModelOptions,
    OutputOptions,
    TrainingOptions,
)
from thawline.errors import UsageError

if TYPE_CHECKING:
    from thawline.planning import Asked, FitPlan
    from thawline.runs import Run

EXAMPLES = (
    "Examples:\n\n"
    "thawline fit photos/\n\n"
    "thawline fit table.csv --file-column path --label-column species\n\n"
    "thawline fit photos/ --model timm/mobilenetv2_100@weights.safetensors --run runs/ants\n\n"
    "thawline fit photos/ --budget 5min   (the best model found in five minutes)\n\n"
    "thawline fit photos/ --thaw last:2 --epochs 10   (the last two layers learn)\n\n"
    "thawline fit photos/ --thaw progressive --run runs/ants   (thaws stage after stage while that helps)\n\n"
    "thawline fit --resume runs/ants   (resumes a run that was stopped)\n\n"
    "thawline fit photos/ --plan runs/ants/plan.toml --json"
)


def fit(
    context: typer.Context,
    *,
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help=f"{DATA_HELP} With --resume: only if the data were moved.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            help="Do what this plan.toml says; only data options, --run, --force and --tensorboard go with it."
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder to write (default: runs/NAME-1, -2, ...).")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a run in that folder, whether it is finished or not.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Resume a run that was stopped; needs no DATA and no option.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves for TensorBoard into the run folder.")
    ] = False,
    baseline: BaselineNames = None,
    data_options: DataOptions,
    model: ModelOptions,
    training: TrainingOptions,
    compute: ComputeOptions,
    output: OutputOptions,
) -> None:
    """Fit a pre-trained model to labelled data. Writes a run folder: the model, every number, a report."""
    from thawline import runs

    if resume is not None:
        _refuse_typed_with_resume(context)
        with listening(quiet=output.silent) as listener:
            finished = runs.resume(resume, data=data, listener=listener)
        _show(finished, as_json=output.json_)
        return
    if data is None:
        raise UsageError("fit must have DATA, or --resume RUN; got neither. Examples: thawline fit --help")
    _refuse_early(run, force=force, tensorboard=tensorboard)
    decided = _replay(context, plan) if plan else _asked(data_options, model, training, compute, baseline)
    with listening(quiet=output.silent) as listener:
        backbone = None if plan else backbone_for(model, architecture_only=training.from_scratch, own=True)
        finished = runs.fit(
            data,
            decided,
            backbone=backbone,
            run=run,
            force=force,
            listener=listener,
            tensorboard=tensorboard,
            **data_options.opening(),
        )
    _show(finished, as_json=output.json_)


def _refuse_early(run: Path | None, *, force: bool, tensorboard: bool) -> None:
    """Refuse a place that is taken, or a missing package, before weights are fetched."""
    from thawline.runs.folder import check_place
    from thawline.runs.listener import check_tensorboard

    if run is not None:
        check_place(run, force=force)
    if tensorboard:
        check_tensorboard()


def _asked(
    data: DataOptions,
    model: ModelOptions,
    training: TrainingOptions,
    compute: ComputeOptions,
    baselines: Sequence[str] | None,
) -> "Asked":
    """Gather what the plan is to be made of."""
    from thawline.planning import Asked

    return Asked.of(
        thaw=training.thaw,
        from_scratch=training.from_scratch,
        **({} if training.head is None else {"head": training.head}),
        hidden=training.widths(),
        dropout=training.dropout,
        layer=model.read_at(),
        own=model.own(),
        fractions=data.fractions(),
        seed=compute.seed,
        **compute.hardware(),
        training=training.settings(),
        budget=training.spend(),
        baselines=tuple(dict.fromkeys(baselines or ())),
    )


def _show(run: "Run", *, as_json: bool) -> None:
    from thawline.cli.loads import print_groups
    from thawline.cli.results import print_run

    if as_json:
        print_json(run.to_json())
        return
    print_run(run)
    loaded = run.load_receipt
    if loaded is not None and loaded.file and loaded.of("random"):
        print_groups(loaded)


_PLANNED = (
    *(name for group in (ModelOptions, TrainingOptions, ComputeOptions) for name in option_names(group)),
    "split",
    "baseline",
)
"""Options that a plan has decided already."""
_GO_WITH_RESUME = ("data", "resume", "json_", "quiet")


def _replay(context: typer.Context, path: Path) -> "FitPlan":
    """Read a plan; refuse options that it has decided."""
    from thawline.planning import read_plan

    if typed := _typed(context, _PLANNED):
        raise UsageError(f"--plan decides everything; {typed} was typed as well. Leave it out, or edit {path}.")
    return read_plan(path)


def _refuse_typed_with_resume(context: typer.Context) -> None:
    """Refuse options of a run that was begun: its request holds them."""
    names = [parameter.name or "" for parameter in context.command.params]
    if typed := _typed(context, [name for name in names if name not in _GO_WITH_RESUME]):
        raise UsageError(
            f"--resume does what was asked when the run began; {typed} was typed as well. Leave it out, or begin a new "
            "run."
        )


def _typed(context: typer.Context, names: Sequence[str]) -> str:
    """List those of the options that were typed, as they were typed."""
    return ", ".join(
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and str(context.get_parameter_source(parameter.name)).endswith("COMMANDLINE")
    )
