"""``thawline compare``: every strategy side by side, on the same split."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thawline.cli import options
from thawline.cli.console import console, listening, plain, print_json, say

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.runs import Comparison

EXAMPLES = (
    "Examples:\n\n"
    "thawline compare photos/\n\n"
    "thawline compare photos/ --only last-layer,half,all --model timm/mobilenetv2_100@weights.safetensors\n\n"
    "thawline compare photos/ --out ants-compared   (again: goes on where it was stopped)\n\n"
    "thawline compare table.csv --label-column species --json"
)


def compare(
    data: Annotated[
        Path, typer.Argument(help="Folder of class folders, CSV/TSV/Parquet table, or folder of train/test tables.")
    ],
    model: options.Model = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs (default: runs/NAME-compared-1, ...); goes on in one.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a comparison of other data that stands there.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Some of: plan, last-layer, svm, earlier-layer, all-depths, mlp-head, last-block, half, all, "
            "progressive, scratch, pixel-mlp, pixel-cnn.",
        ),
    ] = None,
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
    """Train every strategy on the same split. From a new head to all layers, and from random weights.

    Each is a run folder of its own; a table, a page and a verdict stand beside them. It takes as long as all of them
    together; what is finished is not run again.
    """
    from thawline import runs
    from thawline.backbones import DEFAULT_MODEL, open_backbone
    from thawline.data import open_data

    settings = options.model_settings(model_arg, input_px, mean, std, interpolation, crop_pct, sha256)
    shares = options.fractions(split)
    names = [name.strip() for name in only.split(",")] if only else []
    with listening(quiet=quiet or json_) as listener:
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
        found = runs.compare(
            opened,
            backbone,
            folder=out,
            only=names,
            force=force,
            listener=listener,
            seed=seed,
            fractions=shares,
            engine=engine,
            precision=precision,
            device=device,
        )
    if json_:
        print_json(found.to_json())
    else:
        _print(found)


def _print(found: "Comparison") -> None:
    say(f"[bold]{plain(found.verdict)}[/]")
    console(stderr=False).print(_table(found))
    say(f"Runs: [bold]{plain(found.folder)}[/]   page: [bold]{plain(found.page)}[/]", soft_wrap=True)


def _table(found: "Comparison") -> "Table":
    """One row per strategy, the best on the test part first, then what does without the pre-trained model."""
    from thawline.cli.results import table
    from thawline.runs.strategies import PLAN

    rows = table("on the test part", "accuracy", "95 % interval", "macro F1", "log loss", "learned", "s")
    for one in sorted(found.strategies, key=lambda one: -one.accuracy.value):
        low, high = one.accuracy.ci95
        metrics = one.run.report.content["test"]
        rows.add_row(
            f"[bold green]{plain(one.title)}[/]" if one.name == PLAN else plain(one.title),
            f"{one.accuracy.value:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{metrics['macro_f1']['value']:.3f}",
            f"{metrics['log_loss']['value']:.3f}",
            f"{one.trainable:,}" if one.trainable < 1e6 else f"{one.trainable / 1e6:.1f} M",
            f"{one.seconds:,.0f}" if one.seconds >= 10 else f"{one.seconds:.1f}",
        )
    for name, metrics in found.baselines.items():
        accuracy = metrics["accuracy"]
        rows.add_row(
            found.title_of(name),
            f"{accuracy['value']:.3f}",
            f"{accuracy['ci95'][0]:.3f} to {accuracy['ci95'][1]:.3f}",
            f"{metrics['macro_f1']['value']:.3f}",
            f"{metrics['log_loss']['value']:.3f}",
            "-",
            "-",
        )
    return rows
