"""Options that several verbs share, each written once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawline.errors import UsageError, nearest

if TYPE_CHECKING:
    from thawline.planning.budget import Budget

_DATA, _MODEL, _TRAINING, _RUN, _OUTPUT = "Data", "Model", "Training", "Run", "Output"

Data = Annotated[
    Path, typer.Argument(help="Folder of class folders, CSV/TSV/Parquet table, or folder of train/test tables.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that `thawline fit` wrote.")]

LabelColumn = Annotated[str | None, typer.Option(help="Column of the labels.", rich_help_panel=_DATA)]
FileColumn = Annotated[str | None, typer.Option(help="Column of the file names.", rich_help_panel=_DATA)]
ImageColumn = Annotated[str | None, typer.Option(help="Column of the image bytes (Parquet).", rich_help_panel=_DATA)]
GroupColumn = Annotated[
    str | None, typer.Option(help="Column whose equal values stay on one side of the split.", rich_help_panel=_DATA)
]
SplitColumn = Annotated[str | None, typer.Option(help="Column that says train, val or test.", rich_help_panel=_DATA)]
Root = Annotated[Path | None, typer.Option(help="Folder that file names in a table start from.", rich_help_panel=_DATA)]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse data with unreadable files.", rich_help_panel=_DATA)]
Split = Annotated[
    str, typer.Option(help="Shares for train/val/test where the data bring no split.", rich_help_panel=_DATA)
]

Model = Annotated[
    str | None,
    typer.Option(
        help="embedded/NAME, timm/NAME or timm/NAME@FILE.safetensors (default: embedded).", rich_help_panel=_MODEL
    ),
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Argument of timm.create_model; may be repeated.", rich_help_panel=_MODEL),
]
InputPx = Annotated[int | None, typer.Option(help="Side of the model's square input.", rich_help_panel=_MODEL)]
Mean = Annotated[str | None, typer.Option(help="Mean, one number or three with commas.", rich_help_panel=_MODEL)]
Std = Annotated[str | None, typer.Option(help="Standard deviation, likewise.", rich_help_panel=_MODEL)]
Interpolation = Annotated[str | None, typer.Option(help="nearest, bilinear, bicubic, lanczos.", rich_help_panel=_MODEL)]
CropPct = Annotated[float | None, typer.Option(help="Share of the resized side that is kept.", rich_help_panel=_MODEL)]
Sha256 = Annotated[str | None, typer.Option(help="Digest the weights file must have.", rich_help_panel=_MODEL)]
Layer = Annotated[str, typer.Option(help="Where features are read: pooled, or a layer.", rich_help_panel=_MODEL)]

Thaw = Annotated[
    str,
    typer.Option(
        metavar="SETTING",
        help="What learns beside the head: auto, none, all, progressive, last:N, first-frozen:K, stage:NAME, "
        "from:LAYER, 30%, regex:PATTERN. See `thawline ladder`.",
        rich_help_panel=_TRAINING,
    ),
]
BudgetText = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="BUDGET",
        help="What all of it may take: 10min, 90s, 2GB (of cache), or a time and a size with a comma; the best found "
        "by then is kept.",
        rich_help_panel=_TRAINING,
    ),
]  # fmt: skip
FromScratch = Annotated[
    bool,
    typer.Option(
        "--from-scratch", help="Train the architecture from random weights; fetches none.", rich_help_panel=_TRAINING
    ),
]
Head = Annotated[str, typer.Option(help="The new classifier: logistic, ridge, svm or mlp.", rich_help_panel=_TRAINING)]
Hidden = Annotated[
    str | None,
    typer.Option(metavar="WIDTHS", help="Hidden layers of an mlp head, such as 256,128.", rich_help_panel=_TRAINING),
]
Dropout = Annotated[
    float, typer.Option(help="Share of inputs that each layer of an mlp head drops.", rich_help_panel=_TRAINING)
]
Epochs = Annotated[
    int | None, typer.Option(help="Passes over the training part, in each stage.", rich_help_panel=_TRAINING)
]
Lr = Annotated[float | None, typer.Option(help="Learning rate of the head.", rich_help_panel=_TRAINING)]
BatchSize = Annotated[int | None, typer.Option(help="Samples in one step.", rich_help_panel=_TRAINING)]
ViewCount = Annotated[
    int | None,
    typer.Option(
        "--views", help="Augmented views of a sample that are kept; 0 = fresh ones each epoch.",
        rich_help_panel=_TRAINING,
    ),
]  # fmt: skip
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any other setting of training; may be repeated.",
        rich_help_panel=_TRAINING,
    ),
]  # fmt: skip
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Write curves for TensorBoard into the run folder.", rich_help_panel=_RUN)
]

Seed = Annotated[
    int, typer.Option(help="Decides the split, the folds, the training and the bootstrap.", rich_help_panel=_RUN)
]
Engine = Annotated[str, typer.Option(help="What runs the frozen part: auto, openvino, torch.", rich_help_panel=_RUN)]
Precision = Annotated[str, typer.Option(help="auto, f32 or bf16.", rich_help_panel=_RUN)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.", rich_help_panel=_RUN)]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.", rich_help_panel=_OUTPUT)]


def model_settings(
    model_arg: list[str] | None,
    input_px: int | None,
    mean: str | None,
    std: str | None,
    interpolation: str | None,
    crop_pct: float | None,
    sha256: str | None,
) -> dict[str, Any]:
    """Keyword arguments of ``open_backbone`` from what was typed."""
    return {
        "model_args": _pairs("--model-arg", "pad_type=same", model_arg or []) or None,
        "input_px": input_px,
        "mean": _channels("--mean", mean),
        "std": _channels("--std", std),
        "interpolation": interpolation,
        "crop_pct": crop_pct,
        "sha256": sha256,
    }


def fractions(text: str) -> tuple[float, float, float]:
    """``70/15/15`` or ``0.7/0.15/0.15`` -> shares that sum to 1.

    Raises:
        UsageError: Not three numbers that can be shares.
    """
    try:
        shares = [float(part) for part in text.split("/")]
        total = sum(shares)
        train, val, test = (share / total for share in shares)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--split must be three shares such as 70/15/15; got {text!r}.") from error
    return train, val, test


def training_settings(
    set_: list[str] | None, *, epochs: int | None, lr: float | None, batch_size: int | None, views: int | None
) -> dict[str, Any]:
    """Settings of training by name, from what was typed.

    Raises:
        UsageError: No such setting, or one that was typed twice.
    """
    from thawline.training.settings import TrainPlan

    typed = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "views": views}
    settings = {name: value for name, value in typed.items() if value is not None}
    known = [*TrainPlan.model_fields, *typed]
    for name, value in _pairs("--set", "optimiser=sgd", set_ or []).items():
        if name not in known:
            raise UsageError(
                f"--set must name a setting of training; got {name!r}.{nearest(name, known)} "
                f"There are {', '.join(sorted(set(known)))}."
            )
        if name in settings:
            raise UsageError(
                f"{name} must be set once; got --set {name} and --{name.replace('_', '-')}. Leave one out."
            )
        settings[name] = value
    return settings


def budget(text: str | None) -> Budget | None:
    """What ``--budget`` says, its seconds counted from when this program began.

    Raises:
        UsageError: It is neither a time nor a size.
    """
    from thawline.cli.start import STARTED
    from thawline.planning.budget import parse_budget

    return parse_budget(text, started=STARTED) if text else None


def hidden_widths(text: str | None) -> tuple[int, ...]:
    """``256,128`` -> (256, 128).

    Raises:
        UsageError: Not whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(f"--hidden must be widths with commas, such as 256,128; got {text!r}.") from error


def _pairs(option: str, example: str, typed: list[str]) -> dict[str, Any]:
    """``["a=1", "b=x"]`` -> {"a": 1, "b": "x"}; a value is JSON where it can be, else text."""
    values: dict[str, Any] = {}
    for pair in typed:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{option} must be NAME=VALUE, such as {example}; got {pair!r}.")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def _channels(option: str, text: str | None) -> float | tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} must be one number or three with commas, such as 0.5; got {text!r}.") from error
    if len(values) == 3:
        return values
    if len(values) == 1:
        return values[0]
    raise UsageError(f"{option} must be one number or three with commas, such as 0.5; got {text!r}.")
