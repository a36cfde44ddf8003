"""``thawline models``: list the models that can be opened."""

from dataclasses import asdict
from typing import Annotated

import typer

from thawline.cli.console import plain, print_json, say
from thawline.cli.options import OnlyJson

EXAMPLES = "Examples:\n\nthawline models\n\nthawline models mobilenet\n\nthawline models 'vit_small*'"


def models(
    *,
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="Part of a name, or a pattern with * and ?.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 40,
    output: OnlyJson,
) -> None:
    """List the models that can be opened. Shows size, input, licence, and whether they work offline."""
    from thawline.backbones import list_models
    from thawline.cli.results import table

    entries = list_models(query)
    if output.json_:
        print_json({"n": len(entries), "models": [asdict(entry) for entry in entries]})
        return
    rows = table("model", "parameters", "input", "offline", "licence", left=("licence",))
    for entry in entries[:limit]:
        size = f"{entry.parameters / 1e6:.1f} M" if entry.parameters else "-"
        rows.add_row(
            plain(entry.name), size, f"{entry.input_px} px", "yes" if entry.offline else "no", plain(entry.licence)
        )
    say(rows)
    if len(entries) > limit:
        say(f"{len(entries) - limit:,} more; narrow the query or raise --limit.")
    if query is None:
        say("Hundreds more come from timm: [bold]thawline models mobilenet[/] searches them.")
        say("Weights on this disk: [bold]--model timm/NAME@FILE.safetensors[/].")
    elif not entries:
        say(f"No model matches {plain(repr(query))}.")
