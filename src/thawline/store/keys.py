"""What decides the numbers of a feature, and so where it is stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Literal

from thawline.records import Precision, Preparation

LINE = "line:"
"""Begins the rung of whole activations at a thaw line; without it, those of a layer, averaged over positions."""

Stored = Literal["float32", "float16", "bfloat16", "uint8"]
"""Number format on disk; bfloat16 travels as its bits, in uint16."""

PREPARATION_REVISION = 2
"""Raise it when the same preparation record begins to give other pixels."""


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
    """Name, release and kind of device: what rounds differently gives other numbers."""
    view_seed: int | None = None
    """Seed of the augmentation; None for the picture itself."""
    dtype: Stored = "float32"
    model: str = field(default="", compare=False)
    """What people call the model; decides nothing."""

    @property
    def layer(self) -> str:
        """The rung as the ladder names it."""
        return self.rung.removeprefix(LINE)

    def digest(self) -> str:
        """SHA-256 (hex) of every field that decides numbers."""
        deciding = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def preparation_sha256(preparation: Preparation) -> str:
    """SHA-256 (hex) of a preparation and of the revision of the code that carries it out."""
    described = json.dumps([PREPARATION_REVISION, asdict(preparation)], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def augmented_sha256(preparation: str, augmentation: str) -> str:
    """SHA-256 (hex) of what decides a view of a sample beside its seed, from the digests of both."""
    return hashlib.sha256(f"{preparation} {augmentation}".encode()).hexdigest()
