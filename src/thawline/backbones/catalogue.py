"""What can be opened: the models of every provider."""

from __future__ import annotations

from thawline.backbones.providers import FAMILIES, provider_of
from thawline.backbones.providers.entry import CatalogueEntry


def list_models(query: str | None = None) -> list[CatalogueEntry]:
    """List models whose name holds ``query``, or matches it as a pattern such as ``resnet*``.

    Without a query only the models that ship are listed, and no library is imported. Models that open offline come
    first, then the order is that of names.
    """
    found = [entry for family in FAMILIES for entry in provider_of(family).catalogue(query)]
    return found if query is None else sorted(found, key=lambda entry: (not entry.offline, entry.name))
