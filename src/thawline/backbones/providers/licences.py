"""Licences of weights: which of them forbid commercial use."""

from __future__ import annotations

import re

NOT_STATED = "not stated"
_NON_COMMERCIAL = re.compile(r"-nc\b|non-?commercial|\bapple-amlr\b|\bseer-license\b", re.IGNORECASE)
"""Creative Commons' NC, and licences for research alone whose names do not say it."""


def is_non_commercial(licence: str) -> bool:
    """Whether a licence, by its name, forbids commercial use: ``cc-by-nc-4.0``, ``fair-noncommercial-research``."""
    return bool(_NON_COMMERCIAL.search(licence))


def note(licence: str | None) -> tuple[str, ...]:
    """Return the sentence that goes with weights which must not be used commercially; nothing for others."""
    if not licence or not is_non_commercial(licence):
        return ()
    return (f"The licence of these weights forbids commercial use: {licence}.",)
