"""One line of the catalogue of models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One model that ``open_backbone`` can open."""

    name: str
    parameters: int | None
    """Of the backbone without its head; None if counting would mean building hundreds of models."""
    input_px: int
    licence: str
    offline: bool
    """Opens without a network: ships inside, or was fetched before."""
