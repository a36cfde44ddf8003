"""What a user should know of a backbone before believing a number: how its weights were read, and what was assumed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from thawline.errors import ThawlineError

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Dataset

_known: WeakKeyDictionary[Backbone, dict[int, tuple[str, ...]]] = WeakKeyDictionary()
"""Backbone -> hash of the digests of samples -> what is said of its preparation."""


def noted(data: Dataset, backbone: Backbone) -> Dataset:
    """Return the data with the notes of the backbone before their own warnings; the same data if there are none."""
    new = [note for note in notes_on(data, backbone) if note not in data.warnings]
    return replace(data, warnings=(*new, *data.warnings)) if new else data


def notes_on(data: Dataset, backbone: Backbone) -> tuple[str, ...]:
    """Say how the weights were read otherwise than they lie there, and what of the preparation was assumed or is wrong.

    Of texts, it says what is not seen of long ones. Of pictures, the first batch norm remembers those that the weights
    were trained on. Only where they do not explain the preparation are up to 32 pictures of the data looked at; no
    labels, and nothing of a given test set, ever are.
    """
    backbone = backbone.prepared_for(data)
    of_samples = _known.setdefault(backbone, {})
    key = hash(data.digests)
    if key not in of_samples:
        try:
            of_samples[key] = _of_preparation(data, backbone)
        except ThawlineError:  # it comes again, if the model or the sample is needed
            of_samples[key] = ()
    return (*backbone.notes, *of_samples[key])


def _of_preparation(data: Dataset, backbone: Backbone) -> tuple[str, ...]:
    from thawline.features.truncation import truncation_of
    from thawline.planning.preparation_check import checked_on

    truncation = truncation_of(data, backbone.preparation)
    return checked_on(data, backbone) if truncation is None else tuple(truncation.remarks(()))
