"""Say whether pictures are prepared as a backbone's weights were trained to see them; nothing is changed."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from thawline.backbones.file_kinds import python_command
from thawline.errors import ThawlineError
from thawline.planning.source_memory import SAME, ColourMap, Normalisation, Reading, Stem
from thawline.planning.stem_check import (
    FEWEST_PICTURES,
    N_PICTURES,
    Finding,
    Patches,
    blue_first,
    cure,
    judge,
    patches_of,
)
from thawline.planning.stems import stem_of
from thawline.records import ImagePreparation

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.records import Dataset

SMALL = 0.7
"""Share of the side at training from which on a smaller input is worth a word: two thirds of it and less are."""


def checked_on(data: Dataset, backbone: Backbone) -> tuple[str, ...]:
    """Say what seems wrong with the preparation, a sentence or two each.

    Of a preparation that the weights do not state, what is right or cannot be told is said, too.
    """
    preparation = backbone.preparation
    if not isinstance(preparation, ImagePreparation):
        return ()
    stem = stem_of(backbone)
    said = [too_small(backbone)]
    if stem is not None:
        said.append(of_colours(data, backbone, stem))
        said.append(of_arrays(data, backbone, stem))
    return tuple(sentence for sentence in said if sentence)


def colours_of(backbone: Backbone, stem: Stem) -> ColourMap:
    """Return what a pixel from 0 to 1 becomes on its way to the first convolution."""
    preparation = backbone.preparation
    assert isinstance(preparation, ImagePreparation)
    return stem.own.after(Normalisation(preparation.mean, preparation.std).colours)


def examine(data: Dataset, backbone: Backbone, stem: Stem, *, seed: int = 0) -> Finding | None:
    """Judge a backbone's preparation; the pictures are only looked at if something seems wrong or cannot be told."""
    given = colours_of(backbone, stem)
    finding = judge(stem, given)
    if finding is None or finding.verdict == "agrees":
        return finding
    return judge(stem, given, patches_in(data, backbone, stem, seed=seed))


def patches_in(data: Dataset, backbone: Backbone, stem: Stem, *, seed: int = 0) -> Patches | None:
    """Return the moments of up to 32 pictures of the data, as prepared; none of a given test set is looked at."""
    from thawline.planning.observing import draw_pictures

    pictures = draw_pictures(data, _not_test(data), backbone, N_PICTURES, seed=seed)
    height, width = stem.weight.shape[2:]
    if len(pictures) < FEWEST_PICTURES or height > pictures.shape[1] or width > pictures.shape[2]:
        return None
    return patches_of(pictures, height, width, seed=seed)


def _not_test(data: Dataset) -> NDArray[np.int64]:
    return np.arange(len(data)) if data.given is None else np.flatnonzero(data.given != "test")


def of_colours(data: Dataset, backbone: Backbone, stem: Stem) -> str:
    """Say whether mean, standard deviation and order of channels suit the weights; empty if the weights say so."""
    given = colours_of(backbone, stem)
    finding = examine(data, backbone, stem)
    preparation = backbone.preparation
    assert isinstance(preparation, ImagePreparation)
    words = f"mean {_written(preparation.mean)} and std {_written(preparation.std)}"
    if finding is not None and finding.verdict == "wrong":
        if given.drops_colour:
            return _without_colour(data, backbone, stem)
        if finding.reading is None:
            why = f"on your pictures, the statistics of {stem.norm} are far from those that it keeps"
        else:
            why = (
                f"by what {stem.norm} keeps, they would then have been trained on pictures with {_seen(finding.given)}"
            )
        step = _cure(finding, stem, backbone)
        return f"{words[0].upper()}{words[1:]} do not seem to suit these weights: {why}. {step}"
    if backbone.preparation_said:
        return ""
    if finding is not None and finding.verdict == "agrees":
        return (
            f"{words[0].upper()}{words[1:]} suit these weights: by what {stem.norm} keeps, they were trained on "
            f"pictures with {_seen(finding.given)}."
        )
    return (
        f"Whether {words} suit these weights cannot be told from {stem.norm}: what it keeps is not what photographs "
        "give with any usual preparation."
    )


def of_arrays(data: Dataset, backbone: Backbone, stem: Stem) -> str:
    """Say whether arrays seem to have blue first, by their sketches; files say in which order their channels are."""
    rows = _not_test(data)
    if not len(rows):
        return ""
    colour = data.sketches[rows].mean(axis=(0, 1, 2))
    finding = judge(stem, colours_of(backbone, stem))
    if finding is None or finding.verdict != "agrees" or not blue_first(finding.given, colour):
        return ""
    if not isinstance(data.source.read(int(rows[0])), np.ndarray):
        return ""
    red, _, blue = colour.round().astype(int).tolist()
    return (
        f"Your arrays may have blue first, as OpenCV reads them: if so, their mean red is {blue} and their mean blue "
        f"{red}, as in photographs; if not, it is the other way round. If so, give pictures[..., ::-1]."
    )


def too_small(backbone: Backbone) -> str:
    """Say whether a much smaller input was asked for than the weights were trained with; empty if not."""
    asked = {name: value for name, value in backbone.settings.items() if name != "input_px"}
    if asked == backbone.settings:
        return ""
    from thawline.backbones import open_backbone

    try:
        trained = open_backbone(backbone.name, **asked).preparation
    except ThawlineError:  # weights of a bundle lie elsewhere
        return ""
    assert isinstance(trained, ImagePreparation) and isinstance(backbone.preparation, ImagePreparation)
    px, own = backbone.preparation.input_px[0], trained.input_px[0]
    if px > SMALL * own:
        return ""
    return (
        f"{px} px is {px / own:.2g} of the {own} px that {PurePath(backbone.title).name} takes: all that pictures show "
        "is that much smaller to it than in training. Leave the input size out unless speed matters more."
    )


def _without_colour(data: Dataset, backbone: Backbone, stem: Stem) -> str:
    patches = patches_in(data, backbone, stem)
    if patches is None or _is_grey(patches):
        return ""
    return (
        f"Your pictures have colours, and so had those that the weights were trained on, by what {stem.norm} keeps; "
        "what reaches the first convolution has none. Leave out what makes it grey."
    )


def _is_grey(patches: Patches) -> bool:
    n = len(patches.mean) // 3
    red, green, blue = (patches.covariance[i * n : (i + 1) * n, i * n : (i + 1) * n] for i in range(3))
    across = patches.covariance[:n, 2 * n :]
    return float(np.trace(red + blue) - 2 * np.trace(across)) < 1e-3 * float(np.trace(red + green + blue))


def _cure(finding: Finding, stem: Stem, backbone: Backbone) -> str:
    best, needed = finding.best, cure(stem, finding)
    assert best is not None
    preparation = backbone.preparation
    assert isinstance(preparation, ImagePreparation)
    alone = Normalisation(preparation.mean, preparation.std).colours
    if not stem.own.is_close(SAME) and alone.is_close(best.colours):
        return (
            "The model changes its input itself once more, which is once too often: open it without that, if it can be "
            "(--model-arg transform_input=false for torchvision's)."
        )
    if needed is None:
        return f"What reaches the first convolution should be as with {_options(best)} and nothing else."
    if not needed.swapped:
        as_photographs = "" if finding.reading is None else f", and leads to {_seen(finding.reading)}"
        return f"Of the usual ones, {_options(needed)} fits best{as_photographs}: try it."
    file, name = backbone.tensors.path, f"{backbone.tensors.prefix}{stem.conv}.weight"
    code = (  # in its folder: a report, which others may read, does not tell where that is
        "from safetensors.torch import load_file, save_file; "
        f"t = load_file({file.name!r}); t[{name!r}] = t[{name!r}].flip(1).contiguous(); "
        f"save_file(t, {f'{file.stem}-rgb.safetensors'!r})"
    )
    return (
        f"Pictures with blue first (BGR) and {_options(needed)} fit best: turn the channels round, in the folder of "
        f"the weights: {python_command(code)}"
    )


def _options(one: Normalisation) -> str:
    return f"--mean {_written(one.mean)} --std {_written(one.std)}"


def _seen(reading: Reading) -> str:
    """Describe the source: photographs have a mean pixel of 124, 116, 104, and contrast 1."""
    colour = ", ".join(f"{value:.0f}" for value in reading.colour)
    return f"a mean pixel of ({colour}) and {reading.contrast:.2f} times the contrast of photographs"


def _written(channels: tuple[float, float, float]) -> str:
    """0.5, or 0.485,0.456,0.406: as the options take it."""
    return f"{channels[0]:.6g}" if len(set(channels)) == 1 else ",".join(f"{value:.6g}" for value in channels)
