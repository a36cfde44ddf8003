"""``thawline rank``: which pre-trained model suits the data, before anything is trained."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from thawline.cli.console import listening, plain, print_json, say
from thawline.cli.opening import opened
from thawline.cli.options import ComputeOptions, Data, DataOptions, OutputOptions

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.planning.ranking import Ranking

EXAMPLES = (
    "Examples:\n\n"
    "thawline rank photos/ --models timm/mobilenetv2_100,timm/resnet18,embedded/resnet18_half\n\n"
    "thawline rank photos/ --models all   (everything that opens without a network)\n\n"
    "thawline rank photos/ --models all,weights/   (and every file in a folder of weights)\n\n"
    "thawline rank photos/ --models timm/resnet18@a.safetensors,random/resnet18   (does pre-training help at all?)\n\n"
    "thawline rank photos/ --models all --share 1 --json   (up to 2,000 samples for every model)"
)

_COLUMNS = ("knn", "log_evidence", "h_score", "leep", "nleep")
_HEADINGS = ("kNN", "LogME", "H-score", "LEEP", "NLEEP")


def rank(
    *,
    data: Data,
    models: Annotated[
        str,
        typer.Option(
            metavar="A,B,C",
            help="Models with commas: names as --model takes them, safetensors files, folders of such files, "
            "random/ARCH, or all (on this disk).",
        ),
    ],
    share: Annotated[
        float, typer.Option(help="Work to spend, as a share of running every model on every sample.")
    ] = 0.06,
    probe: Annotated[int, typer.Option(metavar="N", help="Most samples to show a model.")] = 2000,
    depths: Annotated[
        bool, typer.Option("--depths", help="Judge by several depths side by side, not by the pooled features.")
    ] = False,
    data_options: DataOptions,
    compute: ComputeOptions,
    output: OutputOptions,
) -> None:
    """Rank pre-trained models by how they do on your data. Shows few pictures to all, more to those in front."""
    from thawline import planning

    fractions = data_options.fractions()
    with listening(quiet=output.silent) as listener:
        labelled = opened(data, data_options, listener)
        ranking = planning.rank(
            labelled,
            models,
            seed=compute.seed,
            n_probe=probe,
            share=share,
            depths=depths,
            fractions=fractions,
            **compute.hardware(),
            listener=listener,
        )
    from thawline.cli.results import json_of, print_data

    labelled = replace(labelled, warnings=(*ranking.warnings, *labelled.warnings))
    if output.json_:
        print_json(ranking.to_json() | json_of(labelled))
        return
    from thawline.inputs import kind_of
    from thawline.showing import counted

    print_data(labelled)
    noun = kind_of(ranking.kind).NOUN
    samples = f"{noun}s"
    shown = ", then ".join(f"{counted(n_models, 'model')} saw {n:,}" for n_models, n in ranking.rounds)
    say(f"Of {ranking.n_train:,} {samples} in the training set, {shown}.")
    say(_measured(ranking, samples))
    say("Other scores, which do not decide:")
    say(_beside(ranking))
    for model in ranking.failed:
        say(f"[yellow]left out:[/] {plain(model.name)}: {plain(model.reason)}")
    say(f"[bold]{plain(ranking.verdict)}[/]")
    say(
        f"{ranking.seconds:.1f} s; {ranking.work_frac:.1%} of the work of running every model on every {noun}. "
        "The test set was not looked at."
    )


def _measured(ranking: "Ranking", samples: str) -> "Table":
    """Make the table that decides, the best model first."""
    from thawline.cli.results import table

    rows = table("", "model", samples, "accuracy (95 %)", "log loss", "above the first (95 %)", "s", left=("model",))
    for column in (rows.columns[0], *rows.columns[2:]):
        column.no_wrap = True
    rows.padding = (0, 0, 0, 1)
    for number, model in enumerate(ranking.models, start=1):
        low, high = model.score.ci95
        above = "-"
        if model.behind is not None:
            above = "{:+.2f} ({:+.2f} to {:+.2f})".format(model.behind.value, *model.behind.ci95)
        rows.add_row(
            str(number),
            plain(model.title),
            f"{model.score.n:,}",
            f"{model.score.value:.3f} ({low:.3f} to {high:.3f})",
            f"{model.log_loss:.3f}",
            above,
            f"{model.seconds:,.0f}" if model.seconds >= 10 else f"{model.seconds:.1f}",
        )
    return rows


def _beside(ranking: "Ranking") -> "Table":
    """Make a table of scores that do not decide."""
    from thawline.cli.results import table

    rows = table("", *_HEADINGS, "parameters")
    for number, model in enumerate(ranking.models, start=1):
        values = ("-" if model.scores[name] is None else f"{model.scores[name]:.3f}" for name in _COLUMNS)
        rows.add_row(str(number), *values, f"{model.parameters:,}")
    return rows
