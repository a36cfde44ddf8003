"""Tables of the models that a library is known to have: searched in milliseconds, without the library.

``tools/known_models.py`` writes them: one model a line, its fields with tabs between them. A model that is not in them
opens all the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thawline.backbones.providers.entry import CatalogueEntry, matches
from thawline.backbones.providers.licences import NOT_STATED


@dataclass(frozen=True, slots=True)
class Known:
    """One line of a table."""

    name: str
    """Without its family: ``resnet50.a1_in1k``."""
    parameters: int
    """Of the backbone without its head; 0 if they were not counted."""
    flops: int
    """Of one picture at this input, in the backbone: 2 for each multiply-add; 0 if they were not counted."""
    input_px: int
    """0 for a model of texts."""
    licence: str
    """As the library names it; empty if it states none."""
    file: str
    """Where the weights lie if they were fetched: a file, several with commas, or a repository of the hub."""

    def line(self) -> str:
        """Write the line of the table."""
        return "\t".join(map(str, (self.name, self.parameters, self.flops, self.input_px, self.licence, self.file)))


def table_of(family: str) -> Path:
    """Return the file of a family's table."""
    return Path(__file__).with_name("tables") / f"{family}.tsv"


@functools.cache
def known_models(family: str) -> tuple[Known, ...]:
    """Return the models of a family's table."""
    found = []
    for line in table_of(family).read_text(encoding="utf-8").splitlines():
        name, parameters, flops, side, licence, file = line.split("\t")
        found.append(Known(name, int(parameters), int(flops), int(side), licence, file))
    return tuple(found)


def licence_of(family: str, name: str) -> str:
    """Return the licence of a model's weights; empty if the table has no such model, or states none."""
    return next((known.licence for known in known_models(family) if known.name == name), "")


def entries(family: str, query: str | None, is_here: Callable[[Known], bool]) -> list[CatalogueEntry]:
    """Return what a provider's ``catalogue`` does, from its table.

    Args:
        query: As in ``Provider.catalogue``.
        is_here: Whether the weights of a model are on this disk.
    """
    found = []
    for known in known_models(family):
        name = f"{family}/{known.name}"
        if query is not None and not matches(name, query):
            continue
        offline = is_here(known)
        if query is None and not offline:
            continue
        found.append(
            CatalogueEntry(
                name=name,
                parameters=known.parameters or None,
                flops=known.flops or None,
                input_px=known.input_px,
                licence=known.licence or NOT_STATED,
                offline=offline,
            )
        )
    return found
