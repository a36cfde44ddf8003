"""``thawline fit``: data in, run folder out."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thawline.cli import options
from thawline.cli.console import listening, print_json
from thawline.errors import UsageError

if TYPE_CHECKING:
    from thawline.planning import FitPlan

EXAMPLES = (
    "Examples:\n\n"
    "thawline fit photos/\n\n"
    "thawline fit table.csv --file-column path --label-column species\n\n"
    "thawline fit photos/ --model timm/mobilenetv2_100@weights.safetensors --run runs/ants\n\n"
    "thawline fit photos/ --plan runs/ants/plan.toml --json"
)


def fit(
    context: typer.Context,
    data: options.Data,
    model: options.Model = None,
    plan: Annotated[
        Path | None, typer.Option(help="Replay this plan.toml; goes with data options, --run and --force only.")
    ] = None,
    thaw: Annotated[
        str, typer.Option(help="Where the thaw line stands: auto or none (whole backbone frozen).")
    ] = "auto",
    head: Annotated[str, typer.Option(help="The new classifier: logistic or ridge.")] = "logistic",
    layer: options.Layer = "pooled",
    run: Annotated[Path | None, typer.Option(help="Run folder to write (default: runs/NAME-1, -2, ...).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a run that stands there.")] = False,
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
    from thawline.cli.results import print_run
    from thawline.data import open_data
    from thawline.runs.folder import check_place

    if run is not None:
        check_place(run, force=force)
    replayed = _replay(context, plan) if plan else None
    settings = options.model_settings(model_arg, input_px, mean, std, interpolation, crop_pct, sha256)
    with listening(quiet=quiet or json_) as listener:
        if replayed:
            backbone = open_backbone(replayed.model, **replayed.model_settings)
        else:
            backbone = open_backbone(model or DEFAULT_MODEL, **settings)
        opened = open_data(
            data,
            label_column=label_column,
            file_column=file_column,
            image_column=image_column,
            group_column=group_column,
            split_column=split_column,
            root=root,
            strict=strict,
            progress=partial(listener.progress, "reading"),
        )
        decided: FitPlan = replayed or planning.plan(
            opened,
            backbone,
            thaw=thaw,
            head=head,
            layer=layer,
            fractions=options.fractions(split),
            seed=seed,
            engine=engine,
            precision=precision,
            device=device,
        )
        finished = runs.fit(opened, decided, backbone=backbone, run=run, force=force, listener=listener)
    if json_:
        print_json(finished.to_json())
    else:
        print_run(finished)


_PLANNED = (
    "model thaw head layer split model_arg input_px mean std interpolation crop_pct sha256 seed engine precision device"
).split()
"""Options that a plan has decided already."""


def _replay(context: typer.Context, path: Path) -> "FitPlan":
    """Read a plan; what it decided must not be typed as well."""
    from thawline.planning import read_plan

    typed = [name for name in _PLANNED if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if typed:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in typed)
        raise UsageError(f"--plan decides everything; {names} was typed as well. Leave it out, or edit {path}.")
    return read_plan(path)
