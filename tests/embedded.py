"""The embedded backbone on small pictures, opened once for each process that runs tests."""

from __future__ import annotations

from functools import cache

import thawline as tl
from thawline.backbones import Backbone


@cache
def opened() -> Backbone:
    """Return the backbone on 32 pixels; all tests share it, so neither a plan nor a fit may change it."""
    return tl.open_backbone(input_px=32)
