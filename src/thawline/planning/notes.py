"""What a user should know of a backbone before believing a number: how its weights were read, and what was assumed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from thawline.errors import ThawlineError

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Dataset

_known: WeakKeyDictionary[Backbone, dict[int, str]] = WeakKeyDictionary()
"""Backbone -> hash of the digests of samples -> what they say of its preparation."""


def noted(data: Dataset, backbone: Backbone) -> Dataset:
    """Return the data with the notes of the backbone before their own warnings; the same data if there are none."""
    new = [note for note in notes_on(data, backbone) if note not in data.warnings]
    return replace(data, warnings=(*new, *data.warnings)) if new else data


def notes_on(data: Dataset, backbone: Backbone) -> tuple[str, ...]:
    """Say how the weights were read otherwise than they lie there, and which preparation was assumed.

    Weights that do not say how their pictures were prepared are held against up to 32 pictures of the data: the first
    batch norm remembers what it saw. No labels, and nothing of a given test set, are looked at.
    """
    if backbone.preparation_said:
        return backbone.notes
    from thawline.planning.assumptions import tried_on  # few weights say nothing

    backbone = backbone.prepared_for(data)
    of_samples = _known.setdefault(backbone, {})
    key = hash(data.digests)
    if key not in of_samples:
        try:
            of_samples[key] = tried_on(data, backbone)
        except ThawlineError:  # it comes again, if the model or the sample is needed
            of_samples[key] = ""
    found = of_samples[key]
    return backbone.notes if not found else (*backbone.notes, found)
