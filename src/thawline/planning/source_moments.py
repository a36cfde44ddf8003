"""Keep beside the weights of a model without batch norm what its first convolution gives on pictures of its source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thawline.errors import DataError, ModelError
from thawline.planning.source_memory import Normalisation, Stem
from thawline.planning.stem_check import FEWEST_PICTURES, patches_of
from thawline.planning.stems import filters_at, place_of, source_path
from thawline.records import ImagePreparation

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Dataset

N_PICTURES = 256


def keep_source(data: Dataset, backbone: Backbone, *, seed: int = 0) -> Path:
    """Keep mean and variance of what the first convolution gives on pictures like those of the source.

    Whoever opens the weights with another preparation afterwards is told so. The preparation must be right when this is
    called. For models with a batch norm behind the first convolution it is not needed.

    Args:
        data: Some dozens of photographs, if the weights were trained on photographs; labels are not looked at.
        backbone: As it should be opened.
        seed: Decides which pictures are drawn, at most 256.
    Returns:
        The file, ``NAME.source.safetensors`` beside ``NAME.safetensors``.
    Raises:
        ModelError: The model does not begin with a convolution.
        DataError: Fewer than 12 pictures.
        StorageError: The disk is full, or the place cannot be written.
    """
    from safetensors.numpy import save

    from thawline.planning.observing import draw_pictures
    from thawline.scale.disk import written_whole

    place, preparation = place_of(backbone), backbone.preparation
    filters = None if place is None else filters_at(backbone, place)
    if place is None or filters is None or not isinstance(preparation, ImagePreparation):
        raise ModelError(
            f"the model must begin with a convolution over its picture; {backbone.title} does not. Nothing can be kept."
        )
    pictures = draw_pictures(data, np.arange(len(data)), backbone, N_PICTURES, seed=seed)
    if len(pictures) < FEWEST_PICTURES:
        raise DataError(f"there must be at least {FEWEST_PICTURES} different pictures; got {len(pictures)}. Give more.")
    patches = patches_of(pictures, *filters[0].shape[2:], seed=seed)
    given = place.own.after(Normalisation(preparation.mean, preparation.std).colours)
    weight, bias = filters
    on_pixels, offsets = Stem(place.conv, "", weight, bias, bias, bias).on_pixels(given)
    mean, variance = on_pixels @ patches.mean + offsets, ((on_pixels @ patches.covariance) * on_pixels).sum(axis=1)
    path = source_path(backbone.tensors.path)
    metadata = {"weights_sha256": backbone.weights_sha256, "conv": place.conv, "n": str(len(pictures))}
    with written_whole(path, "wb") as file:
        file.write(save({"mean": mean, "variance": variance}, metadata))
    return path
