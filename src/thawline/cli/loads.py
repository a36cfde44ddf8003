"""Print load receipts: what became of each tensor of a file of weights and of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thawline.backbones.load_receipt import OTHER_SHAPE
from thawline.cli.console import console, plain, say
from thawline.cli.results import table
from thawline.showing import few

if TYPE_CHECKING:
    from thawline.backbones import LoadReceipt

_WIDTH = 110
"""Columns that the table of tensors may need."""
_CAST = "cast "
"""Begins how a tensor was adapted whose numbers are the same in another format."""


def print_groups(receipt: LoadReceipt) -> None:
    """Print a table with a row for all tensors that met one fate in one way."""
    rows = table("tensors were", "how, or why", "tensors", "numbers", "such as", left=("how, or why", "such as"))
    for fate, how, tensors in receipt.groups():
        names = few([tensor.name or tensor.sources[0] for tensor in tensors], 2)
        rows.add_row(fate, plain(how), f"{len(tensors):,}", f"{sum(tensor.n for tensor in tensors):,}", plain(names))
    say(rows)


def print_receipt(receipt: LoadReceipt) -> None:
    """Print the summary, the groups, and each tensor that was not loaded with the numbers of the file."""
    say(plain(f"Weights: {receipt.summary}"))
    print_groups(receipt)
    odd = [
        tensor
        for tensor in receipt.tensors
        if tensor.fate == "random"
        or (tensor.fate == "adapted" and not _is_cast(tensor.how))
        or (tensor.fate == "unused" and not tensor.how.startswith(OTHER_SHAPE))  # that of the model tells both shapes
    ]
    if not odd:
        return
    rows = table("tensor", "was", "in the file", "shape", "how, or why", left=("was", "in the file", "how, or why"))
    if console(stderr=False).width < _WIDTH:
        rows.width = _WIDTH
    for tensor in odd:
        in_file = ", ".join(source for source in tensor.sources if source != tensor.name)
        shape = "" if tensor.shape is None else " x ".join(map(str, tensor.shape)) or "1"
        rows.add_row(plain(tensor.name), tensor.fate, plain(in_file), shape, plain(tensor.how))
    console(stderr=False).print(rows, crop=False)


def _is_cast(how: str) -> bool:
    return how.startswith(_CAST) and "," not in how
