"""The part of the cache that holds weights made from other files; see ``backbones.derived``."""

from __future__ import annotations

from thawline.backbones import derived
from thawline.backbones.weights import read_header
from thawline.errors import WeightsError
from thawline.scale import cache_root
from thawline.store.room import CacheEntry, Kept, Shelf


class WeightsShelf(Shelf):
    """Converted, adapted and completed weights, for people to see and to delete."""

    def __init__(self) -> None:
        super().__init__(cache_root(), "weights")

    def usage(self) -> list[CacheEntry]:
        """List what is stored, most recently used first."""
        entries = (_entry(kept) for kept in reversed(self.kept()))
        return [entry for entry in entries if entry is not None]


def _entry(kept: Kept) -> CacheEntry | None:
    try:
        header, _ = read_header(kept.folder / derived.FILE)
    except (OSError, WeightsError):  # half-written, or taken away by another process
        return None
    kinds = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    return CacheEntry(
        key=kept.folder.name,
        model=dict(header.get("__metadata__") or {}).get("source", ""),
        rung="(weights)",
        precision=", ".join(sorted(kinds)).lower(),
        engine="",
        rows=0,
        bytes=kept.bytes,
        last_used=kept.last_used,
    )
