"""``thawline rank``: which pre-trained model suits the data, before anything is trained."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from thawline.cli import options
from thawline.cli.console import listening, plain, print_json, say

if TYPE_CHECKING:
    from rich.table import Table

    from thawline.planning.ranking import Ranking

EXAMPLES = (
    "Examples:\n\n"
    "thawline rank photos/ --models timm/mobilenetv2_100,timm/resnet18,embedded/resnet18_half\n\n"
    "thawline rank photos/ --models all   (everything that opens without a network)\n\n"
    "thawline rank photos/ --models all,weights/   (and every file in a folder of weights)\n\n"
    "thawline rank photos/ --models timm/resnet18@a.safetensors,random/resnet18   (is pre-training of any use?)\n\n"
    "thawline rank photos/ --models all --share 1 --json   (up to 2,000 pictures for every model)"
)

_COLUMNS = ("knn", "log_evidence", "h_score", "leep", "nleep")
_HEADINGS = ("kNN", "LogME", "H-score", "LEEP", "NLEEP")


def rank(
    data: options.Data,
    models: Annotated[
        str,
        typer.Option(
            metavar="A,B,C",
            help="Models with commas: names as --model takes them, safetensors files, folders of such files, "
            "random/ARCH, or all (on this disk).",
        ),
    ],
    share: Annotated[
        float, typer.Option(help="What may be spent, as a share of running every model on every picture.")
    ] = 0.06,
    probe: Annotated[int, typer.Option(metavar="N", help="Pictures that a model is shown at most.")] = 2000,
    depths: Annotated[
        bool, typer.Option("--depths", help="Judge by several depths side by side, not the pooled features.")
    ] = False,
    label_column: options.LabelColumn = None,
    file_column: options.FileColumn = None,
    image_column: options.ImageColumn = None,
    group_column: options.GroupColumn = None,
    split_column: options.SplitColumn = None,
    root: options.Root = None,
    strict: options.Strict = False,
    split: options.Split = "70/15/15",
    seed: options.Seed = 0,
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Rank pre-trained models by how they do on your data. Shows few pictures to all, more to those in front."""
    from thawline import planning
    from thawline.data import open_data

    shares = options.fractions(split)
    with listening(quiet=quiet or json_) as listener:
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
        ranking = planning.rank(
            opened,
            models,
            seed=seed,
            n_probe=probe,
            share=share,
            depths=depths,
            fractions=shares,
            engine=engine,
            precision=precision,
            device=device,
            listener=listener,
        )
    if json_:
        print_json(ranking.to_json())
        return
    shown = " then ".join(f"{n:,} pictures for {n_models}" for n_models, n in ranking.rounds)
    say(f"[bold]{plain(ranking.data)}[/], {ranking.n_train:,} pictures in the training part; {shown}.")
    say(_measured(ranking))
    say(_beside(ranking))
    for model in ranking.failed:
        say(f"[yellow]left out:[/] {plain(model.name)}: {plain(model.reason)}")
    say(f"[bold]{plain(ranking.verdict)}[/]")
    say(
        f"{ranking.seconds:.1f} s; {ranking.work_frac:.1%} of the work of running every model on every picture. "
        "The test part was not looked at."
    )


def _measured(ranking: "Ranking") -> "Table":
    """What decides, best first."""
    from thawline.cli.results import table

    rows = table("", "model", "pictures", "accuracy (95 %)", "log loss", "above the first (95 %)", "s")
    rows.columns[1].justify = "left"
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
            f"{model.seconds:.1f}",
        )
    return rows


def _beside(ranking: "Ranking") -> "Table":
    """What does not."""
    from thawline.cli.results import table

    rows = table("beside", *_HEADINGS, "parameters")
    for number, model in enumerate(ranking.models, start=1):
        values = ("-" if model.scores[name] is None else f"{model.scores[name]:.3f}" for name in _COLUMNS)
        rows.add_row(str(number), *values, f"{model.parameters:,}")
    return rows
