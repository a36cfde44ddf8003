"""``thawline ladder``: every place for the thaw line, and the layers that a setting thaws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawline.cli.console import console, plain, print_json, say
from thawline.cli.groups import without
from thawline.cli.opening import opened_backbone
from thawline.cli.options import ModelOptions, OnlyJson

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.backbones.ladder import Ladder, Rung
    from thawline.backbones.thaw import Thaw

EXAMPLES = (
    "Examples:\n\n"
    "thawline ladder timm/mobilenetv2_100\n\n"
    "thawline ladder timm/resnet50 --thaw last:3 --head 10\n\n"
    "thawline ladder timm/vit_small_patch16_224 --thaw 30%\n\n"
    "thawline ladder timm/resnet18 --thaw 'regex:layer[12]' --json   (a block in the middle)\n\n"
    "thawline ladder timm/mobilenetv2_100@weights.safetensors --thaw stage:blocks.5"
)

_WIDTH = 100
"""Columns that the table may need."""


def ladder(
    *,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="embedded/NAME, timm/NAME or timm/NAME@FILE.safetensors.")
    ],
    thaw: Annotated[
        str,
        typer.Option(
            metavar="SETTING",
            help="none, all, last:N, first-frozen:K, stage:NAME, from:LAYER, 30%, or regex:PATTERN (whole names).",
        ),
    ] = "none",
    head: Annotated[
        int | None, typer.Option(metavar="N_CLASSES", min=2, help="Count a new linear head for so many classes, too.")
    ] = None,
    settings: Annotated[ModelOptions, without("model", "layer")],
    output: OnlyJson,
) -> None:
    """Print the layers of a model. From input to output, with those that a thaw setting lets learn.

    `last:N` and `first-frozen:K` count the rows that have parameters. Only the architecture is needed: nothing is
    fetched.
    """
    from thawline.backbones.thaw import resolve_thaw

    backbone = opened_backbone(settings, name=model, architecture_only=True)
    built = backbone.ladder
    resolved = resolve_thaw(built, thaw, backbone.blueprint())
    width = built.rungs[-1].shape[-1]
    n_head = 0 if head is None else (width + 1) * head  # weights and biases
    if output.json_:
        print_json(contract(built, resolved) | ({"head": {"classes": head, "parameters": n_head}} if head else {}))
        return
    say(f"[bold]{plain(built.model)}[/], thaw {plain(resolved.setting)}: {_said(built, resolved)}")
    console(stderr=False).print(_rows(built, resolved), crop=False)
    if any(0 < learns < rung.parameters for rung, learns in zip(built.rungs, resolved.trainable_at, strict=True)):
        say(f"Exactly these learn: {plain(', '.join(resolved.thawed))}")
    say(_totals(resolved, n_head, head))
    if resolved.buffers:
        say(f"{len(resolved.buffers):,} running statistics of thawed normalisation layers change, too.")


def contract(ladder: Ladder, thaw: Thaw) -> dict[str, Any]:
    """Return what ``--json`` prints: totals of the backbone, and every rung from ``input`` to ``pooled``."""
    return {
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


def _totals(thaw: Thaw, n_head: int, classes: int | None) -> Table:
    """Make a table of the parameters of the backbone and, if asked, of the backbone with a new head."""
    from thawline.cli.results import table

    rows = table("", "parameters", "trainable", "frozen")
    sums = {"backbone": 0} | ({f"with a linear head of {classes} classes": n_head} if classes else {})
    for title, more in sums.items():
        learn = thaw.n_trainable + more
        rows.add_row(title, f"{learn + thaw.n_frozen:,}", f"{learn:,}", f"{thaw.n_frozen:,}")
    return rows
