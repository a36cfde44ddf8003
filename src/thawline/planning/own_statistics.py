"""Normalise pictures by their own mean and standard deviation instead of those that the weights were trained with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.backbones import open_backbone
from thawline.data import split_data
from thawline.features.prepared import read_sample
from thawline.inputs import kind_of
from thawline.randomness import generator

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.listening import Watcher
    from thawline.records import Dataset

MOST_PICTURES = 1_000
"""Pictures of the training set that are measured: the mean of so many is known to a hundredth of its spread."""
DIGITS = 4
WORDS = {"mean": "mean", "std": "standard deviation"}


def with_own_statistics(
    data: Dataset,
    backbone: Backbone,
    own: Sequence[str],
    watcher: Watcher,
    *,
    fractions: tuple[float, float, float],
    seed: int,
    architecture_only: bool = False,
) -> Backbone:
    """Open a backbone again, with statistics of the training pictures as it sees them: resized, cropped, 0 to 1.

    Args:
        data: Of which only the training set is looked at.
        own: ``mean``, ``std`` or both; nothing returns the backbone as it is.
        watcher: Hears of progress, and what was measured.
        fractions, seed: Those of the plan; they decide the split.
        architecture_only: As in ``open_backbone``.
    Raises:
        DataError: A picture can no longer be read, or has changed, since the data was opened.
        ModelError: The model does not let these be chosen.
    """
    if not own:
        return backbone
    train = split_data(data, fractions=fractions, seed=seed, validating=True).train
    some = generator(seed, "own statistics").permutation(train)[:MOST_PICTURES]
    preparation = backbone.prepared_for(data).preparation
    prepare = partial(kind_of(preparation.kind).prepare, preparation=preparation)
    sums, squares, n = 0.0, 0.0, 0
    for done, row in enumerate(some.tolist(), 1):
        pixels = read_sample(data, row, prepare).reshape(-1, preparation.spec.shape[-1]) / 255  # (H * W, C)
        sums, squares, n = sums + pixels.sum(axis=0), squares + np.square(pixels).sum(axis=0), n + len(pixels)
        watcher.progress("own statistics", done, len(some))
    mean = np.asarray(sums) / n
    std = np.sqrt(np.maximum(np.asarray(squares) / n - mean**2, 0))
    measured = {"mean": mean, "std": np.maximum(std, 10.0**-DIGITS)}
    chosen: dict[str, Any] = {name: tuple(np.round(measured[name], DIGITS).tolist()) for name in own}
    for name, values in chosen.items():
        watcher.note(
            f"Pictures are normalised by the {WORDS[name]} of {len(some):,} training pictures, {_listed(values)}, "
            f"instead of the source's, {_listed(getattr(preparation, name))}."
        )
    return open_backbone(backbone.name, **(backbone.settings | chosen), architecture_only=architecture_only)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
