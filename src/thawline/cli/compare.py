"""``thawline compare``: every strategy side by side, on the same split."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thawline.cli.console import console, listening, plain, print_json, say
from thawline.cli.opening import opened_together
from thawline.cli.options import BaselineNames, ComputeOptions, Data, DataOptions, OutputOptions, WholeModel

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.runs import Comparison

EXAMPLES = (
    "Examples:\n\n"
    "thawline compare photos/\n\n"
    "thawline compare photos/ --only last-layer,half,all --model timm/mobilenetv2_100@weights.safetensors\n\n"
    "thawline compare photos/ --out ants-compared   (again, after it was stopped: resumes)\n\n"
    "thawline compare table.csv --label-column species --json"
)


def compare(
    *,
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs (default: runs/NAME-compared-1, ...); a comparison in it is resumed."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a comparison of other data in that folder.")] = False,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Some of: plan, last-layer, svm, earlier-layer, all-depths, mlp-head, last-block, half, all, "
            "progressive, scratch, pixel-mlp, pixel-cnn.",
        ),
    ] = None,
    baseline: BaselineNames = None,
    data_options: DataOptions,
    model: WholeModel,
    compute: ComputeOptions,
    output: OutputOptions,
) -> None:
    """Train every strategy on the same split. From a new head to all layers, and from random weights.

    Each strategy has a run folder of its own; a table, a page and a verdict stand beside them. It takes as long as all
    of them together. A comparison that was stopped is resumed by the same command.
    """
    from thawline import runs
    from thawline.cli.results import json_of, print_notes
    from thawline.planning import noted
    from thawline.planning.own_statistics import with_own_statistics

    fractions = data_options.fractions()
    names = [name.strip() for name in only.split(",")] if only else []
    with listening(quiet=output.silent) as listener:
        labelled, backbone = opened_together(data, data_options, model, listener, own=True, **compute.hardware())
        backbone = with_own_statistics(
            labelled, backbone, model.own(), listener, fractions=fractions, seed=compute.seed
        )
        labelled = noted(labelled, backbone)
        listener.found(labelled)
        found = runs.compare(
            labelled,
            backbone,
            folder=out,
            only=names,
            baselines=baseline or (),
            force=force,
            listener=listener,
            seed=compute.seed,
            fractions=fractions,
            **compute.hardware(),
        )
    if output.json_:
        print_json(found.to_json() | json_of(labelled))
    else:
        _print(found)
        print_notes(labelled.warnings)


def _print(found: "Comparison") -> None:
    from thawline.cli.results import print_data_of, weights_line

    pretrained = [one.run for one in found.strategies if not one.run.plan.from_scratch]
    print_data_of(found.strategies[0].run.report.content)
    if line := weights_line(pretrained[0].report.content) if pretrained else "":
        say(plain(line))
    say(f"[bold]{plain(found.verdict)}[/]")
    console(stderr=False).print(_table(found))
    say(f"Runs: [bold]{plain(found.folder)}[/]   page: [bold]{plain(found.page)}[/]", soft_wrap=True)


def _table(found: "Comparison") -> "Table":
    """Make a table with a row for each strategy, the best on the test set first; then the simpler methods."""
    from thawline.cli.results import table
    from thawline.runs.strategies import PLAN

    rows = table("on the test set", "accuracy", "95 % interval", "macro F1", "log loss", "learned", "s")
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
