"""A frozen part of a backbone as graphs: just converted, or found on disk. Loads no OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.records import Precision

if TYPE_CHECKING:
    import openvino as ov

N_STAND_INS = 8
"""Made-up samples that a conversion is judged on."""


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A frozen part of a backbone as graphs of fixed shape."""

    graphs: tuple[tuple[ov.Model, Precision], ...]
    """Run one after the other, each in its precision. The first takes pixels uint8 (B, H, W, 3); the last gives float32
    (B, D), one for each rung."""
    compiled: tuple[ov.CompiledModel, ...]
    """The graphs, ready to run here."""
    multiply_adds: int
    """Of one picture."""
    float32_share: float
    """Of the work, that is computed in float32."""
    cosine: float
    """Smallest to float32 features, over pictures that stand for photographs; 1 in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGraphs:
    """A converted backbone, found whole."""

    files: tuple[Path, ...]
    """The XML of each graph, in the order in which they run; its weights lie beside it."""
    precisions: tuple[Precision, ...]
    multiply_adds: int
    """Of one picture."""
    float32_share: float
    cosine: float
