"""The command ``thawline`` and its verbs.

The files of most verbs do without postponed annotations: each would be compiled again at every start.
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


def _flowing(text: str | None) -> str:
    """Join the lines of each paragraph: help breaks them where the terminal ends."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


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
    app.command(epilog=_verb.__globals__["EXAMPLES"], help=_flowing(_verb.__doc__))(guarded(grouped(_verb)))
app.add_typer(cache.app, name="cache")
