"""A batch norm and the convolution that takes it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Fold:
    """A batch norm that goes into a convolution."""

    conv: str
    norm: str
    eps: float
