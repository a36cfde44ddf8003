"""Whether the preparation that was assumed for a backbone suits the user's pictures."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from thawline.backbones.file_kinds import python_command
from thawline.planning.stem_check import N_PICTURES, Finding, Normalisation, Stem, judge, patches_of
from thawline.records import ImagePreparation

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Dataset


def tried_on(data: Dataset, backbone: Backbone) -> str:
    """Say whether the pictures agree with the preparation, in a sentence; empty if the model cannot tell."""
    preparation = backbone.preparation
    if not isinstance(preparation, ImagePreparation):
        return ""
    stem = stem_of(backbone)
    if stem is None:
        return ""
    finding, n = examine(data, backbone, stem)
    words = f"mean {_written(preparation.mean)} and std {_written(preparation.std)}"
    seen = f"{n} of your pictures"
    if finding is None:
        return f"Whether {words} suit these weights cannot be told: the pictures are too few or too plain."
    if finding.better is not None:
        return (
            f"{words[0].upper()}{words[1:]} do not seem to suit these weights: on {seen} the statistics of {stem.norm} "
            f"are {finding.distance:.2f} variances off those that it keeps. {_cure(finding, stem, backbone)}"
        )
    if finding.agrees:
        return (
            f"{words[0].upper()}{words[1:]} suit these weights: on {seen} the statistics of {stem.norm} are those that "
            "it keeps."
        )
    return (
        f"Whether {words} suit these weights cannot be told by the statistics of {stem.norm}: {seen} are too unlike "
        "those that the weights were trained on."
    )


def examine(data: Dataset, backbone: Backbone, stem: Stem, *, seed: int = 0) -> tuple[Finding | None, int]:
    """Return what the pictures of the data say of the backbone's preparation, and how many were looked at."""
    from thawline.planning.observing import draw_pictures

    preparation = backbone.preparation
    assert isinstance(preparation, ImagePreparation)
    rows = np.arange(len(data)) if data.given is None else np.flatnonzero(data.given != "test")
    pictures = draw_pictures(data, rows, backbone, N_PICTURES, seed=seed)
    height, width = stem.weight.shape[2:]
    if not len(pictures) or height > pictures.shape[1] or width > pictures.shape[2]:
        return None, 0
    taken = Normalisation(preparation.mean, preparation.std)
    return judge(stem, patches_of(pictures, height, width, seed=seed), taken), len(pictures)


def stem_of(backbone: Backbone) -> Stem | None:
    """Return the first convolution and its batch norm; None if the model has none, or does not begin with them.

    Raises:
        ModelError: The backbone cannot be built, or its weights lack the two layers.
    """
    layers = list(backbone.blueprint().named_modules())  # in the order of definition; running it takes far longer
    for (conv, layer), (norm, following) in pairwise(layers):
        weight, mean = getattr(layer, "weight", None), getattr(following, "running_mean", None)
        if weight is None or weight.ndim != 4:
            continue
        siblings = conv.rpartition(".")[0] == norm.rpartition(".")[0]  # else a pooling may stand between the two
        fits = weight.shape[1] == 3 and mean is not None and len(mean) == len(weight)
        return _read(backbone, conv, norm) if siblings and fits else None
    return None


def _read(backbone: Backbone, conv: str, norm: str) -> Stem | None:
    values, shapes = backbone.tensors.arrays(), backbone.tensors.shapes()
    names = {f"{conv}.weight", f"{norm}.running_mean", f"{norm}.running_var"}
    if not names <= shapes.keys():
        return None
    weight = values(f"{conv}.weight").astype(np.float64)
    bias = values(f"{conv}.bias") if f"{conv}.bias" in shapes else np.zeros(len(weight))
    mean, variance = (values(f"{norm}.running_{kind}").astype(np.float64) for kind in ("mean", "var"))
    if weight.ndim != 4 or weight.shape[1] != 3 or not len(weight) == len(mean) == len(variance) == len(bias):
        return None
    return Stem(conv, norm, weight, bias.astype(np.float64), mean, variance)


def _cure(finding: Finding, stem: Stem, backbone: Backbone) -> str:
    better = finding.better
    assert better is not None
    options = f"--mean {_written(better.mean)} --std {_written(better.std)}"
    if not better.swapped:
        well = "" if finding.fits_well else ", though not well"
        return f"Of the usual ones, {options} fits best ({finding.better_distance:.2f}){well}: try it."
    file, name = backbone.tensors.path, f"{backbone.tensors.prefix}{stem.conv}.weight"
    code = (  # in its folder: a report, which others may read, does not tell where that is
        "from safetensors.torch import load_file, save_file; "
        f"t = load_file({file.name!r}); t[{name!r}] = t[{name!r}].flip(1).contiguous(); "
        f"save_file(t, {f'{file.stem}-rgb.safetensors'!r})"
    )
    return (
        f"Pictures with blue first (BGR) and {options} fit best ({finding.better_distance:.2f}): turn the channels "
        f"round, in the folder of the weights: {python_command(code)}"
    )


def _written(channels: tuple[float, float, float]) -> str:
    """0.5, or 0.485,0.456,0.406: as the options take it."""
    return f"{channels[0]:.6g}" if len(set(channels)) == 1 else ",".join(f"{value:.6g}" for value in channels)
