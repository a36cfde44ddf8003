"""``thawline models``: what can be opened, what it costs, and whether its weights are on this disk."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from thawline.cli.console import console, plain, print_json, say
from thawline.cli.options import OnlyJson

if TYPE_CHECKING:
    from thawline.backbones.providers.entry import CatalogueEntry

EXAMPLES = (
    "Examples:\n\nthawline models\n\nthawline models resnet50\n\nthawline models 'vit_small*'\n\n"
    "thawline models 'torchvision/*' --limit 200"
)
_FAMILIES = {
    "embedded": "ship inside; need no network",
    "timm": "weights from the Hugging Face hub",
    "torchvision": "weights from PyTorch's store",
    "keras": "keras.applications; needs the extra keras",
    "hf": "OWNER/NAME or FOLDER; needs the extra hf",
    "onnx": "ONNX models of your own: onnx/NAME@FILE",
}
"""Family of names -> what it holds, and where weights come from."""
_BESIDE = 55
"""Characters of a row beside the name."""
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def models(
    *,
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="Part of a name, or a pattern with * and ?.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 40,
    output: OnlyJson,
) -> None:
    """Search the models that can be opened, without a network.

    Shows parameters, FLOPs, input and licence of each, and whether its weights are on this disk. Without QUERY: which
    families of models there are, and what is on this disk.
    """
    from thawline.backbones import list_models

    entries = list_models(query)
    if output.json_:
        described = [asdict(entry) | {"non_commercial": entry.non_commercial} for entry in entries]
        print_json({"n": len(entries), "models": described} | ({} if query is not None else {"families": _sizes()}))
    elif query is None:
        _overview(entries, limit)
    elif entries:
        _table(entries, limit)
    else:
        say(f"No model matches {plain(repr(query))}. A shorter part of the name finds more.")


def _overview(here: Sequence["CatalogueEntry"], limit: int) -> None:
    """Print which families there are, how to search them, and what is on this disk."""
    from thawline.cli.results import table

    rows = table("name", "models", "", left=("",))
    for family, n in _sizes().items():
        rows.add_row(f"{family}/NAME", f"{n:,}" if n else "-", _FAMILIES.get(family, ""))
    say(rows)
    say("Search them: [bold]thawline models resnet50[/] or [bold]thawline models 'vit_small*'[/]")
    say("Weights of your own: [bold]--model NAME@FILE[/], such as torchvision/resnet50@mine.pth")
    say("")
    say("Weights on this disk:")
    _table(here, limit)


def _table(entries: Sequence["CatalogueEntry"], limit: int) -> None:
    from thawline.cli.results import table

    rows = table("model", "para-\nmeters", "FLOPs", "input\npx", "on\nthis\ndisk", "licence", left=("licence",))
    for entry in entries[:limit]:
        licence = f"{entry.licence} *" if entry.non_commercial else entry.licence
        numbers = (_short(entry.parameters), _short(entry.flops), str(entry.input_px or "text"))
        rows.add_row(plain(entry.name), *numbers, "yes" if entry.offline else "-", plain(licence))
    longest = max((len(entry.name) for entry in entries[:limit]), default=0)
    rows.columns[0].min_width = max(0, min(longest, console(stderr=False).width - _BESIDE))
    say(rows)
    if len(entries) > limit:
        say(f"{len(entries) - limit:,} more; narrow the query or raise --limit.")
    if any(entry.non_commercial for entry in entries[:limit]):
        say("* The licence forbids commercial use.")
    say("Parameters and FLOPs are the backbone's, without a classifier; FLOPs of one picture, 2 for each multiply-add.")


def _sizes() -> dict[str, int]:
    """Family of names -> number of its models that can be searched."""
    from thawline.backbones import list_models
    from thawline.backbones.providers import FAMILIES

    names = [entry.name.partition("/")[0] for entry in list_models("*")]
    return {family: names.count(family) for family in FAMILIES}


def _short(n: int | None) -> str:
    """1.2M, 4.1G"""
    if n is None:
        return "-"
    size, unit = next(((size, unit) for size, unit in _UNITS if n >= size), (1, ""))
    return f"{n / size:.1f}{unit}"
