"""Count the features of a layer before anything runs, and refuse what no memory could hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thawline.backbones.names import layers_in
from thawline.backbones.reading import Reading
from thawline.errors import UsageError
from thawline.scale.memory import free_memory
from thawline.store.sizes import format_bytes, limit_from_environment

if TYPE_CHECKING:
    from thawline.backbones import Backbone

_ROW, _FITTED = 4, 32
"""Bytes for each number: in float32, and while a head is solved, which holds them in float64 three times more."""


def check_room(backbone: Backbone, setting: str, n: int, *, fitting: bool) -> None:
    """Refuse features of many numbers a sample if memory or cache cannot hold them; layers that are pooled pass.

    Args:
        setting: A rung, or several with commas.
        n: Samples.
        fitting: Whether a head is fitted on them.
    Raises:
        UsageError: They do not fit; says what they need, and what is there.
        ModelError: The backbone has no such rung.
    """
    if not any(Reading.of(rung).is_wide for rung in layers_in(setting)):
        return
    width = sum(backbone.width(rung) for rung in layers_in(setting))
    stored, needed = _ROW * n * width, (_FITTED if fitting else 2 * _ROW) * n * width
    what = f"{width:,} features of each of {n:,} samples ({setting})"
    step = "Choose --pooling grid:2 or avg, another layer, or fewer samples."
    if (free := free_memory()) is not None and needed > free:
        doing = "Fitting a head on" if fitting else "Reading"
        raise UsageError(
            f"{doing} {what} takes about {format_bytes(needed)} of memory; {format_bytes(free)} are free. {step}"
        )
    if stored > (limit := limit_from_environment()):
        raise UsageError(
            f"Keeping {what} takes {format_bytes(stored)}; the cache may hold {format_bytes(limit)}. "
            f"Raise THAWLINE_CACHE_LIMIT. Or: {step[0].lower()}{step[1:]}"
        )
