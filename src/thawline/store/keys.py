"""The key of a feature: everything that decides its numbers, and so where it is stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import Literal

from thawline.records import Precision, Preparation

LINE = "line:"
"""Begins the rung of whole activations at a thaw line; without it, a layer is averaged over positions."""

Stored = Literal["float32", "float16", "bfloat16", "uint8", "int32"]
"""Number format on disk; bfloat16 is stored as its bits, in uint16."""

PREPARATION_REVISION = 2
"""Raise it when the same preparation gives other pixels than before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureKey:
    """Everything but the sample that decides a row's numbers."""

    weights_sha256: str
    """Identifies weights and architecture arguments."""
    preparation_sha256: str
    rung: str
    precision: Precision
    """What the backbone was run in."""
    engine: str
    """Name, release and kind of device: engines that round differently give other numbers."""
    view_seed: int | None = None
    """Seed of the augmentation; None for the picture itself."""
    dtype: Stored = "float32"
    model: str = field(default="", compare=False)
    """Name of the model for people; decides nothing."""

    @property
    def layer(self) -> str:
        """The rung as the ladder names it."""
        return self.rung.removeprefix(LINE)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of every field that decides numbers."""
        deciding = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def preparation_sha256(preparation: Preparation) -> str:
    """Return the SHA-256 (hex) of a preparation and of the revision of the code that carries it out."""
    described = json.dumps([PREPARATION_REVISION, preparation.described()], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def augmented_sha256(preparation: str, augmentation: str) -> str:
    """Return the SHA-256 (hex) of what decides a view beside its seed, from two such digests."""
    return hashlib.sha256(f"{preparation} {augmentation}".encode()).hexdigest()
