"""How the forward pass of a library's modules is traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracing:
    """How the forward pass of a module is traced: what is stepped into, and what stays one node."""

    containers: frozenset[str]
    """Names of modules that hold several layers; the module itself is ``""``."""
    container_types: tuple[type[nn.Module], ...]
    untraced: tuple[Callable[..., Any], ...] = ()
    """Functions that are recorded as calls."""
    is_stem: Callable[[str], object] = lambda name: False
    """Whether a layer of that name belongs to the stem."""
    stage_of: Callable[[str], str | None] = lambda name: None
    """Stage of a layer by its name, where names have no dots that say it; None if its name does not say, either."""
