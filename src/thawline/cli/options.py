"""Every option that more than one verb has, defined once: name, default and help, in four groups and two more.

Every start of the command makes these records, so they are kept quick to make: no postponed annotations, which Typer
would compile again, and no methods of a dataclass that nothing calls.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from thawline.cli.groups import only, without
from thawline.errors import UsageError, nearest

if TYPE_CHECKING:
    from thawline.planning.budget import Budget

DATA_HELP = "Folder with one folder per class; CSV, TSV or Parquet table; or folder of train and test tables."
Data = Annotated[Path, typer.Argument(metavar="DATA", help=DATA_HELP)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that `thawline fit` wrote.")]

_data, _model, _training, _compute, _output = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Data", "Model", "Training", "Compute", "Output")
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DataOptions:
    """How to read the data."""

    target: Annotated[
        str,
        _data(
            metavar="WHAT",
            help="What is learned of each sample: class (one), labels (any number of them) or number; auto takes lists "
            "for labels and all else for classes.",
        ),
    ] = "auto"
    label_column: Annotated[
        str | None, _data(help="Column with the labels; several with commas hold 0 and 1 for each label, or numbers.")
    ] = None
    file_column: Annotated[str | None, _data(help="Column with the file names.")] = None
    image_column: Annotated[str | None, _data(help="Column with the bytes of the pictures (Parquet).")] = None
    text_column: Annotated[str | None, _data(help="Column with the texts.")] = None
    group_column: Annotated[
        str | None, _data(help="Column with groups, such as patients; no group is split between two sets.")
    ] = None
    split_column: Annotated[str | None, _data(help="Column that says train, val or test.")] = None
    root: Annotated[Path | None, _data(help="Folder that the file names in a table start from.")] = None
    follow_links: Annotated[
        bool, _data("--follow-links", help="Follow links that lead outside the folder, or to folders.")
    ] = False
    class_level: Annotated[
        int | None, _data(metavar="N", help="How many folders below DATA the class folders stand (default: found out).")
    ] = None
    drop_empty_classes: Annotated[
        bool, _data("--drop-empty-classes", help="Go on without classes of which no sample can be used.")
    ] = False
    strict: Annotated[bool, _data("--strict", help="Refuse data with files that cannot be used.")] = False
    copies: Annotated[
        str,
        _data(
            help="Copies that stay on one side of a split: near (pictures saved or shrunk again, texts but for case "
            "and punctuation, too), exact (identical content only) or off."
        ),
    ] = "near"
    split: Annotated[str, _data(help="Shares of training, validation and test set, if the data bring no split.")] = (
        "70/15/15"
    )

    def opening(self) -> dict[str, Any]:
        """Return the arguments of ``open_data``."""
        return {
            "target": self.target,
            "label_column": self.label_column,
            "file_column": self.file_column,
            "image_column": self.image_column,
            "text_column": self.text_column,
            "group_column": self.group_column,
            "split_column": self.split_column,
            "root": self.root,
            "follow_links": self.follow_links,
            "class_level": self.class_level,
            "drop_empty_classes": self.drop_empty_classes,
            "strict": self.strict,
            "copies": self.copies,
        }

    def fractions(self) -> tuple[float, float, float]:
        """Read ``70/15/15`` or ``0.7/0.15/0.15`` as shares that sum to 1.

        Raises:
            UsageError: Not three numbers that can be shares.
        """
        try:
            shares = [float(part) for part in self.split.split("/")]
            total = sum(shares)
            train, val, test = (share / total for share in shares)
        except (ValueError, ZeroDivisionError) as error:
            raise UsageError(f"--split must be three shares such as 70/15/15; got {self.split!r}.") from error
        return train, val, test


LabelledData = Annotated[DataOptions, without("group_column", "split_column", "copies", "split")]
"""Of data that are not split."""
UnlabelledData = Annotated[
    DataOptions, only("file_column", "image_column", "text_column", "root", "follow_links", "strict")
]
"""Of samples without labels."""


OWN = "own"
"""Stands for a mean or standard deviation that is measured on the training set."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ModelOptions:
    """Which pre-trained model, and how it takes pictures or texts."""

    model: Annotated[
        str | None,
        _model(
            help="embedded/NAME, timm/NAME or timm/NAME@FILE, or of another family that `thawline models` shows "
            "(default: embedded/resnet18_half)."
        ),
    ] = None
    layer: Annotated[str, _model(help="Layer whose output the head reads: pooled, or one of `thawline ladder`.")] = (
        "pooled"
    )
    pooling: Annotated[
        str | None,
        _model(
            metavar="HOW",
            help="How the map of --layer becomes features: avg (default), max, flatten (every number) or grid:N (means "
            "of N x N fields). With layer pooled: of the last map.",
        ),
    ] = None
    model_arg: Annotated[
        list[str] | None, _model(metavar="NAME=VALUE", help="Argument of the library's constructor; may be repeated.")
    ] = None
    input_px: Annotated[int | None, _model(help="Height and width of the model's input, in pixels.")] = None
    mean: Annotated[
        str | None,
        _model(
            help="Mean that the input is normalised by: one number, three with commas, or own (of the training set)."
        ),
    ] = None
    std: Annotated[
        str | None,
        _model(help="Standard deviation that the input is normalised by: one number, three with commas, or own."),
    ] = None
    interpolation: Annotated[str | None, _model(help="How to resize: nearest, bilinear, bicubic or lanczos.")] = None
    crop_pct: Annotated[float | None, _model(help="Share of the resized side that the centre crop keeps.")] = None
    long: Annotated[
        str | None,
        _model(
            metavar="HOW",
            help="What becomes of texts with more tokens than the model takes: head (default) reads their beginning, "
            "head-tail their beginning and end, windows all, in parts whose features are averaged.",
        ),
    ] = None
    weights_by_name: Annotated[
        bool,
        _model(
            "--weights-by-name",
            help="Load what has the same name and shape in the file, and leave the rest of the model random.",
        ),
    ] = False
    sha256: Annotated[str | None, _model(help="SHA-256 that the file of weights must have.")] = None

    def read_at(self) -> str:
        """Return where features are read, with how: ``block2_pool:flatten``.

        Raises:
            UsageError: No such pooling, or one that was typed twice.
        """
        from thawline.backbones.reading import with_pooling

        return with_pooling(self.layer, self.pooling)

    def own(self) -> tuple[str, ...]:
        """Return what is to be measured on the training set: ``mean``, ``std``, both or neither."""
        return tuple(name for name in ("mean", "std") if getattr(self, name) == OWN)

    def settings(self) -> dict[str, Any]:
        """Return the keyword arguments of ``open_backbone``.

        Raises:
            UsageError: Something typed is no pair, or no number.
        """
        return {
            "model_args": _pairs("--model-arg", "pad_type=same", self.model_arg or []) or None,
            "input_px": self.input_px,
            "mean": _channels("--mean", self.mean),
            "std": _channels("--std", self.std),
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
            "long": self.long,
            "weights_by_name": self.weights_by_name,
            "sha256": self.sha256,
        }


WholeModel = Annotated[ModelOptions, without("layer", "pooling")]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainingOptions:
    """What learns, and how."""

    thaw: Annotated[
        str,
        _training(
            metavar="SETTING",
            help="Layers that learn beside the new head: auto, none, all, progressive, last:N, first-frozen:K, "
            "stage:NAME, from:LAYER, 30%, regex:PATTERN, last-keras:N, first-frozen-keras:K. "
            "`thawline ladder` shows what each comes to.",
        ),
    ] = "auto"
    budget: Annotated[
        str | None,
        _training(
            metavar="BUDGET",
            help="Time, cache or both that planning and training may take: 10min, 90s, 2GB or 10min,2GB. The best "
            "model found by then is kept.",
        ),
    ] = None
    from_scratch: Annotated[
        bool, _training("--from-scratch", help="Train the architecture from random weights; none are fetched.")
    ] = False
    head: Annotated[
        str | None, _training(help="The new head: logistic, ridge, svm or mlp (default: logistic; for numbers ridge).")
    ] = None
    hidden: Annotated[
        str | None, _training(metavar="WIDTHS", help="Widths of the hidden layers of an mlp head, such as 256,128.")
    ] = None
    dropout: Annotated[float, _training(help="Share of its inputs that each layer of an mlp head drops.")] = 0.0
    epochs: Annotated[int | None, _training(help="Passes over the training set in each stage.")] = None
    lr: Annotated[float | None, _training(help="Learning rate of the head.")] = None
    batch_size: Annotated[int | None, _training(help="Samples in one step.")] = None
    views: Annotated[
        int | None, _training(help="Augmented views of each sample to cache; 0 = fresh views in each epoch.")
    ] = None
    set_: Annotated[
        list[str] | None,
        _training("--set", metavar="NAME=VALUE", help="Any other setting of training; may be repeated."),
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the settings of training by name.

        Raises:
            UsageError: No such setting, or one that was typed twice.
        """
        from thawline.training.settings import TrainPlan

        typed = {"epochs": self.epochs, "lr": self.lr, "batch_size": self.batch_size, "views": self.views}
        settings = {name: value for name, value in typed.items() if value is not None}
        known = [*TrainPlan.model_fields, *typed]
        for name, value in _pairs("--set", "optimiser=sgd", self.set_ or []).items():
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

    def spend(self) -> "Budget | None":
        """Read ``--budget``; its seconds count from when this program began.

        Raises:
            UsageError: It is neither a time nor a size.
        """
        from thawline.cli.start import STARTED
        from thawline.planning.budget import parse_budget

        return parse_budget(self.budget, started=STARTED) if self.budget else None

    def widths(self) -> tuple[int, ...]:
        """Read ``256,128`` as (256, 128); see ``hidden_widths``."""
        return hidden_widths(self.hidden)


BaselineNames = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline",
        metavar="NAME",
        help="guides: also train the networks that guides begin with: on pictures a three-layer MLP and a CNN, on "
        "texts averaged vectors of words.",
    ),
]


class Hardware(TypedDict):
    """What computes; arguments of every function that does."""

    engine: str
    precision: str
    device: str


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ComputeOptions:
    """What computes, and from which seed."""

    seed: Annotated[int, _compute(help="Seed of the split, the folds, the training and the bootstrap.")] = 0
    engine: Annotated[str, _compute(help="What runs the frozen layers: auto, openvino or torch.")] = "auto"
    precision: Annotated[
        str, _compute(help="Number format to compute in: auto, f32, bf16 or int8 (a frozen text encoder).")
    ] = "auto"
    device: Annotated[str, _compute(help="Device that computes: auto, cpu, cuda or mps.")] = "auto"

    def hardware(self) -> Hardware:
        """Return engine, precision and device by name."""
        return {"engine": self.engine, "precision": self.precision, "device": self.device}


OnlySeed = Annotated[ComputeOptions, only("seed")]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class OutputOptions:
    """What is printed."""

    json_: Annotated[bool, _output("--json", help="Print one JSON object and nothing else.")] = False
    quiet: Annotated[bool, _output("--quiet", "-q", help="Draw no progress bars.")] = False

    @property
    def silent(self) -> bool:
        """Whether no progress is to be drawn."""
        return self.quiet or self.json_


OnlyJson = Annotated[OutputOptions, only("json_")]


def hidden_widths(typed: str | None) -> tuple[int, ...]:
    """Read ``256,128`` as (256, 128); nothing typed is no hidden layer.

    Raises:
        UsageError: Not whole numbers.
    """
    try:
        return tuple(int(part) for part in typed.split(",")) if typed else ()
    except ValueError as error:
        raise UsageError(f"--hidden must be widths with commas, such as 256,128; got {typed!r}.") from error


def _pairs(option: str, example: str, typed: list[str]) -> dict[str, Any]:
    """``["a=1", "b=x"]`` -> {"a": 1, "b": "x"}; a value is JSON if it can be, else text."""
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
    if text is None or text == OWN:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} must be one number or three with commas, or own; got {text!r}.") from error
    if len(values) == 3:
        return values
    if len(values) == 1:
        return values[0]
    raise UsageError(f"{option} must be one number or three with commas, or own; got {text!r}.")
