"""What can be opened: the models of every provider."""

from __future__ import annotations

from thawline.backbones.providers import FAMILIES, provider_of
from thawline.backbones.providers.entry import CatalogueEntry


def list_models(query: str | None = None) -> list[CatalogueEntry]:
    """List models whose name holds ``query``, or matches it as a pattern such as ``resnet*``.

    Without a query, the models whose weights are on this disk. No library is imported, and no network is asked. The
    models that ship come first, then those whose weights are on this disk, then the order is that of names.
    """
    found = [entry for family in FAMILIES for entry in provider_of(family).catalogue(query)]
    return sorted(found, key=lambda entry: (not entry.name.startswith("embedded/"), not entry.offline, entry.name))
