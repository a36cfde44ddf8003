"""Every verb, by name.

The files of the verbs with many options do without postponed annotations: Typer would compile each of them again, at
every start.
"""

from __future__ import annotations

from typing import Annotated

import typer

from thawline.cli import cache, compare, demo, evaluate, features, fit, ladder, models, plan, predict, rank, report
from thawline.cli.groups import grouped
from thawline.cli.guard import guarded
from thawline.version import __version__

app = typer.Typer(
    name="thawline",
    help="How much of a pre-trained model should your data retrain? Measure it, do it fast, prove it, ship it.",
    epilog="Start with: thawline demo. Then: thawline fit YOUR_FOLDER",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"thawline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


for _verb in (
    demo.demo,
    models.models,
    ladder.ladder,
    rank.rank,
    plan.plan,
    fit.fit,
    compare.compare,
    evaluate.evaluate,
    predict.predict,
    features.features,
    report.report,
):
    app.command(epilog=_verb.__globals__["EXAMPLES"])(guarded(grouped(_verb)))
app.add_typer(cache.app, name="cache")
