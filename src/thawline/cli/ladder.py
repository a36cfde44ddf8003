"""``thawline ladder``: every place for the thaw line, and the layers that a setting thaws."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawline.cli.console import console, plain, print_json, say
from thawline.cli.groups import without
from thawline.cli.opening import opened_backbone
from thawline.cli.options import ModelOptions, OnlyJson, hidden_widths
from thawline.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.backbones.ladder import Ladder, Rung
    from thawline.backbones.providers.provider import LibraryLayer
    from thawline.backbones.thaw import Thaw

EXAMPLES = (
    "Examples:\n\n"
    "thawline ladder timm/mobilenetv2_100\n\n"
    "thawline ladder timm/resnet50 --thaw last:3 --head 10\n\n"
    "thawline ladder timm/vit_small_patch16_224 --thaw 30%\n\n"
    "thawline ladder timm/resnet18 --thaw 'regex:layer[12]' --json   (a block in the middle)\n\n"
    "thawline ladder timm/mobilenetv2_100@weights.safetensors --thaw stage:blocks.5\n\n"
    "thawline ladder keras/ResNet50 --thaw last-keras:10 --head 4 --hidden 256   (counts as Keras counts)"
)

_WIDTH = 100
"""Columns that the table may need."""


def ladder(
    *,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="embedded/NAME, timm/NAME or timm/NAME@FILE; `thawline models` shows more."
        ),
    ],
    thaw: Annotated[
        str,
        typer.Option(
            metavar="SETTING",
            help="none, all, last:N, first-frozen:K, stage:NAME, from:LAYER, 30%, regex:PATTERN (whole names), or "
            "last-keras:N and first-frozen-keras:K, which count as Keras counts.",
        ),
    ] = "none",
    head: Annotated[
        int | None, typer.Option(metavar="N_CLASSES", min=2, help="Count a new head for so many classes, too.")
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(metavar="WIDTHS", help="Widths of that head's hidden layers, such as 256,128; none = linear."),
    ] = None,
    receipt: Annotated[
        bool, typer.Option("--receipt", help="Print what became of each tensor of the weights and of the model, too.")
    ] = False,
    settings: Annotated[ModelOptions, without("model", "layer", "pooling")],
    output: OnlyJson,
) -> None:
    """Print the layers of a model. From input to output, with those that a thaw setting lets learn.

    `last:N` and `first-frozen:K` count the rows that have parameters. Only the architecture is needed: nothing is
    fetched, unless `--receipt` asks what the weights are.
    """
    from thawline.backbones.counted import counted_layers
    from thawline.backbones.thaw import resolve_thaw

    if hidden and head is None:
        raise UsageError("--hidden must come with --head: the number of classes. Add --head 4.")
    backbone = opened_backbone(settings, name=model, architecture_only=not receipt)
    built, module = backbone.ladder, backbone.blueprint()
    resolved = resolve_thaw(built, thaw, module)
    counted = counted_layers(built, module)
    inner = hidden_widths(hidden)
    n_head = 0 if head is None else _dense((built.rungs[-1].shape[-1], *inner, head))
    if output.json_:
        of_head = {"head": {"classes": head, "hidden": list(inner), "parameters": n_head}} if head else {}
        loaded = {"load_receipt": backbone.load_receipt().to_json()} if receipt else {}
        print_json(contract(built, resolved, counted) | of_head | loaded)
        return
    say(f"[bold]{plain(built.model)}[/], thaw {plain(resolved.setting)}: {_said(built, resolved)}")
    console(stderr=False).print(_rows(built, resolved), crop=False)
    if any(0 < learns < rung.parameters for rung, learns in zip(built.rungs, resolved.trainable_at, strict=True)):
        say(f"Exactly these learn: {plain(', '.join(resolved.thawed))}")
    say(_totals(resolved, n_head, head, inner))
    if counted is not None:
        say(plain(_as_counted(counted, built.parameters)))
    if resolved.said:
        say(plain(resolved.said))
    if resolved.buffers:
        say(f"{len(resolved.buffers):,} running statistics of thawed normalisation layers change, too.")
    if receipt:
        from thawline.cli.loads import print_receipt

        print_receipt(backbone.load_receipt())


def contract(ladder: Ladder, thaw: Thaw, counted: Sequence[LibraryLayer] | None = None) -> dict[str, Any]:
    """Return what ``--json`` prints: totals of the backbone, and every rung from ``input`` to ``pooled``.

    Args:
        counted: The layers as the model's own library counts them, if it counts otherwise.
    """
    library = {
        "layers": len(counted),
        "parameters": sum(layer.parameters for layer in counted),
        "without_weights": [layer.name for layer in counted if not layer.tensors],
    } if counted is not None else None  # fmt: skip
    return ({} if library is None else {"library": library}) | {
        "model": ladder.model,
        "layers": ladder.layers,
        "parameters": ladder.parameters,
        "trainable": thaw.n_trainable,
        "frozen": thaw.n_frozen,
        "rungs": [
            {
                "name": rung.name,
                "stage": rung.stage,
                "kind": rung.kind,
                "shape": list(rung.shape),
                "parameters": rung.parameters,
                "trainable": learns,
                "flops_below_frac": rung.flops_below_frac,
                "bytes_per_sample": rung.bytes_per_sample,
            }
            for rung, learns in zip(ladder.rungs, thaw.trainable_at, strict=True)
        ],
    }


def _said(ladder: Ladder, thaw: Thaw) -> str:
    """Say in one clause what the setting thaws."""
    if not thaw.n_trainable:
        return f"all {ladder.layers} layers are frozen; only a new head would learn."
    n = sum(learns > 0 for learns in thaw.trainable_at)
    share = thaw.n_trainable / ladder.parameters
    said = f"{share:.1%}" if share >= 0.001 else "less than 0.1%"
    return f"{n} of {ladder.layers} layers learn, {said} of the parameters."


def _rows(ladder: Ladder, thaw: Thaw) -> Table:
    """Make a table with a row for each rung, from the input, and a line at the thaw line."""
    from rich import box
    from rich.rule import Rule
    from rich.table import Table

    # a pipe counts as 80 columns, which would cut numbers
    width = None if console(stderr=False).width >= _WIDTH else _WIDTH
    rows = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1), width=width)
    rows.add_column("layer", no_wrap=True)
    rows.add_column("stage", overflow="ellipsis")
    rows.add_column("kind", overflow="ellipsis")
    for column in ("output\nshape", "parameters", "FLOPs\nbelow", "KiB per\nsample"):
        rows.add_column(column, justify="right", no_wrap=True)
    rows.add_column("state", no_wrap=True)
    for rung, learns in zip(ladder.rungs, thaw.trainable_at, strict=True):
        rows.add_row(
            plain(rung.name),
            plain(rung.stage),
            plain(rung.kind),
            "x".join(map(str, rung.shape)),
            f"{rung.parameters:,}" if rung.parameters else "-",
            f"{rung.flops_below_frac:.1%}",
            f"{rung.bytes_per_sample / 1024:,.1f}",
            _state(rung, learns),
        )
        if rung.name == thaw.rung:
            rows.add_row("[bold cyan]thaw line[/]", *(Rule(style="cyan", characters="-") for _ in rows.columns[1:]))
    return rows


def _state(rung: Rung, learns: int) -> str:
    if not rung.parameters:
        return "-"
    return "[green]thawed[/]" if learns == rung.parameters else "[green]partly[/]" if learns else "frozen"


def _dense(widths: Sequence[int]) -> int:
    """Count weights and biases of fully connected layers, given the widths from the features to the classes."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))


def _as_counted(counted: Sequence[LibraryLayer], learnable: int) -> str:
    total = sum(layer.parameters for layer in counted)
    bare = sum(not layer.tensors for layer in counted)
    others = total - learnable
    said = f"; {others:,} of them are statistics of normalisation layers, which never learn" if others > 0 else ""
    return f"Keras counts {len(counted)} layers, {bare} of them without weights, and {total:,} parameters{said}."


def _totals(thaw: Thaw, n_head: int, classes: int | None, hidden: Sequence[int]) -> Table:
    """Make a table of the parameters of the backbone and, if asked, of the backbone with a new head."""
    from thawline.cli.results import table

    rows = table("", "parameters", "trainable", "frozen")
    kind = f"mlp ({', '.join(map(str, hidden))})" if hidden else "linear"
    sums = {"backbone": (thaw.n_trainable, thaw.n_frozen)}
    if classes:
        sums[f"{kind} head of {classes} classes"] = n_head, 0
        sums["both"] = thaw.n_trainable + n_head, thaw.n_frozen
    for title, (learn, stay) in sums.items():
        rows.add_row(title, f"{learn + stay:,}", f"{learn:,}", f"{stay:,}")
    return rows
