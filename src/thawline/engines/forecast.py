"""Choose the engine by a forecast from counts: conversion, start-up and running.

Nothing is timed. A clock would choose differently from run to run, and the engine decides the last bits of every
feature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thawline.engines.choices import EngineChoice
from thawline.scale.processors import usable_processors

START_S = {"openvino": 0.5, "torch": 3.0}
"""Import of the library and, for torch, building the backbone with timm."""
CONVERSION_S = 2.5
"""From a built backbone to graphs on disk; large ones take longer, and are then worth it sooner."""
FILLING_S = 1.0
"""From a recorded graph and its weights to graphs on disk; torch is not needed."""
MULTIPLY_ADDS_PER_S = {
    ("openvino", "int8"): 50e9,
    ("openvino", "bf16"): 100e9,
    ("openvino", "f32"): 50e9,
    ("torch", "bf16"): 30e9,
    ("torch", "f32"): 15e9,
}
"""For each processor; nearer to those of a MobileNetV2, which are a third of those of a ResNet-50, than to these: what
is forecast to be slow must not take longer still. benchmarks/extraction.py measures both."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The work that one engine would have to do."""

    choice: EngineChoice
    missing: int
    """Samples that are not stored as this engine computes them."""
    ready: bool
    """Whether the engine can start at once, with nothing to convert."""
    recorded: bool = False
    """Whether converting takes no more than filling weights into a recorded graph."""

    def seconds(self, multiply_adds: int) -> float:
        """Forecast the whole of it; one sample takes ``multiply_adds``."""
        if not self.missing:
            return 0.0
        rate = MULTIPLY_ADDS_PER_S[self.choice.engine, self.choice.precision] * usable_processors()
        conversion = FILLING_S if self.recorded else START_S["torch"] + CONVERSION_S
        waiting = 0.0 if self.ready else conversion
        return START_S[self.choice.engine] + waiting + self.missing * multiply_adds / rate


def choose(offers: Sequence[Offer], multiply_adds: Callable[[], int]) -> tuple[Offer, str]:
    """Choose the offer that ends first, and say why.

    Args:
        offers: At least one; of equals the first is taken.
        multiply_adds: Counts those of one sample; only called where the choice depends on it.
    """
    if len(offers) == 1:
        return offers[0], "asked for, or the only one here"
    for offer in offers:
        if not offer.missing:
            return offer, "all features are stored"
    ready = [offer for offer in offers if offer.ready or offer.recorded]
    if offers[0] in ready and offers[0].missing <= min(offer.missing for offer in ready):
        # the fastest to start, and to run
        return offers[0], "converted already" if offers[0].ready else "its graph is recorded: torch need not be loaded"
    work = multiply_adds()
    seconds = {offer.choice.engine: offer.seconds(work) for offer in offers}
    best = min(offers, key=lambda offer: seconds[offer.choice.engine])
    told = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    return best, f"forecast for {best.missing:,} samples: {told}"
