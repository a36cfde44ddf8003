"""``thawline fit``: data in, run folder out."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thawline.cli import options
from thawline.cli.console import listening, print_json
from thawline.errors import UsageError

if TYPE_CHECKING:
    from thawline.planning import Asked, FitPlan
    from thawline.runs import Run

EXAMPLES = (
    "Examples:\n\n"
    "thawline fit photos/\n\n"
    "thawline fit table.csv --file-column path --label-column species\n\n"
    "thawline fit photos/ --model timm/mobilenetv2_100@weights.safetensors --run runs/ants\n\n"
    "thawline fit photos/ --budget 5min   (the best that can be found in five minutes)\n\n"
    "thawline fit photos/ --thaw last:2 --epochs 10   (the last two layers learn)\n\n"
    "thawline fit photos/ --thaw progressive --run runs/ants   (thaws from the end while it helps)\n\n"
    "thawline fit --resume runs/ants   (goes on where it was stopped)\n\n"
    "thawline fit photos/ --plan runs/ants/plan.toml --json"
)


def fit(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of class folders, CSV/TSV/Parquet table, or folder of train/test tables; with --resume, only "
            "if it was moved."
        ),
    ] = None,
    model: options.Model = None,
    plan: Annotated[
        Path | None, typer.Option(help="Replay this plan.toml; goes with data options, --run and --force only.")
    ] = None,
    thaw: options.Thaw = "auto",
    budget: options.BudgetText = None,
    from_scratch: options.FromScratch = False,
    head: options.Head = "logistic",
    hidden: options.Hidden = None,
    dropout: options.Dropout = 0.0,
    epochs: options.Epochs = None,
    lr: options.Lr = None,
    batch_size: options.BatchSize = None,
    views: options.ViewCount = None,
    set_: options.Set = None,
    layer: options.Layer = "pooled",
    run: Annotated[Path | None, typer.Option(help="Run folder to write (default: runs/NAME-1, -2, ...).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that stands there, finished or not.")] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped; alone, it knows the rest.")
    ] = None,
    tensorboard: options.TensorBoard = False,
    label_column: options.LabelColumn = None,
    file_column: options.FileColumn = None,
    image_column: options.ImageColumn = None,
    group_column: options.GroupColumn = None,
    split_column: options.SplitColumn = None,
    root: options.Root = None,
    strict: options.Strict = False,
    split: options.Split = "70/15/15",
    model_arg: options.ModelArg = None,
    input_px: options.InputPx = None,
    mean: options.Mean = None,
    std: options.Std = None,
    interpolation: options.Interpolation = None,
    crop_pct: options.CropPct = None,
    sha256: options.Sha256 = None,
    seed: options.Seed = 0,
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fit a pre-trained model to labelled data. Writes a run folder: the model, every number, a report."""
    from thawline import planning, runs
    from thawline.backbones import DEFAULT_MODEL, open_backbone
    from thawline.data import open_data
    from thawline.features.ahead import build_ahead
    from thawline.runs.folder import check_place
    from thawline.runs.listener import check_tensorboard

    if resume is not None:
        _refuse_typed_with_resume(context)
        with listening(quiet=quiet or json_) as listener:
            finished = runs.resume(resume, data=data, listener=listener)
        _show(finished, as_json=json_)
        return
    if data is None:
        raise UsageError("fit must have DATA, or --resume RUN; got neither. Examples: thawline fit --help")
    if run is not None:
        check_place(run, force=force)
    if tensorboard:
        check_tensorboard()
    replayed = _replay(context, plan) if plan else None
    settings = options.model_settings(model_arg, input_px, mean, std, interpolation, crop_pct, sha256)
    training = options.training_settings(set_, epochs=epochs, lr=lr, batch_size=batch_size, views=views)
    widths, shares = options.hidden_widths(hidden), options.fractions(split)
    spend = options.budget(budget)
    with listening(quiet=quiet or json_) as listener:
        if replayed:
            scratch = replayed.from_scratch
            backbone = open_backbone(replayed.model, **replayed.model_settings, architecture_only=scratch)
        else:
            backbone = open_backbone(model or DEFAULT_MODEL, **settings, architecture_only=from_scratch)
            if not from_scratch:
                build_ahead(backbone, layer, engine=engine, precision=precision, device=device)
        decided: FitPlan | Asked = replayed or planning.Asked(
            settings={
                "thaw": thaw,
                "from_scratch": from_scratch,
                "head": head,
                "hidden": widths,
                "dropout": dropout,
                "layer": layer,
                "fractions": shares,
                "seed": seed,
                "engine": engine,
                "precision": precision,
                "device": device,
            },
            training=training,
            budget=spend,
        )
        opened = open_data(
            data,
            label_column=label_column,
            file_column=file_column,
            image_column=image_column,
            group_column=group_column,
            split_column=split_column,
            root=root,
            strict=strict,
            **decided.opening(),
            progress=partial(listener.progress, "reading"),
        )
        finished = runs.fit(
            opened, decided, backbone=backbone, run=run, force=force, listener=listener, tensorboard=tensorboard
        )
    _show(finished, as_json=json_)


def _show(run: "Run", *, as_json: bool) -> None:
    from thawline.cli.results import print_run

    if as_json:
        print_json(run.to_json())
    else:
        print_run(run)


_PLANNED = (
    "model thaw budget from_scratch head hidden dropout epochs lr batch_size views set_ layer split model_arg input_px "
    "mean std interpolation crop_pct sha256 seed engine precision device"
).split()
"""Options that a plan has decided already."""
_GO_WITH_RESUME = ("data", "resume", "json_", "quiet")


def _replay(context: typer.Context, path: Path) -> "FitPlan":
    """Read a plan; what it decided must not be typed as well."""
    from thawline.planning import read_plan

    if typed := _typed(context, _PLANNED):
        raise UsageError(f"--plan decides everything; {typed} was typed as well. Leave it out, or edit {path}.")
    return read_plan(path)


def _refuse_typed_with_resume(context: typer.Context) -> None:
    """A run that was begun has decided everything."""
    names = [parameter.name or "" for parameter in context.command.params]
    if typed := _typed(context, [name for name in names if name not in _GO_WITH_RESUME]):
        raise UsageError(
            f"--resume goes on with what was asked when the run began; {typed} was typed as well. Leave it out, or "
            "begin a new run."
        )


def _typed(context: typer.Context, names: Sequence[str]) -> str:
    """Those of the options that were typed, as they were typed."""
    return ", ".join(
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and str(context.get_parameter_source(parameter.name)).endswith("COMMANDLINE")
    )
