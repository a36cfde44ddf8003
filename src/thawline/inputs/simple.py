"""What the baseline without a backbone learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Simple(NamedTuple):
    """What the baseline without a backbone is."""

    name: str
    """Key in ``--json``: ``pixels``."""
    sees: str
    """What it learns from, for people: ``16 x 16 pixels``."""


@dataclass(frozen=True, slots=True, eq=False)
class SimpleFeatures:
    """What the baseline without a backbone learns from, and what it is asked about."""

    learned: Any
    """(n, d) float32; a sparse matrix if few numbers of a row are not 0."""
    asked: Any
    """(m, d) likewise."""
    note: str = ""
    """What a user should know of it."""
