"""Does the first batch norm tell a wrong preparation from a right one? Writes benchmarks/preparation.md.

    python benchmarks/preparation.py

For weights whose preparation is known, the same weights rewritten for every usual preparation, and pictures that are
near their source or far from it, as they are and altered: how often is the preparation that was taken blamed, and does
the one that is named instead have the right scale? Needs THAWLINE_REAL_DATA and THAWLINE_REAL_WEIGHTS.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from thawline.planning.assumptions import examine, stem_of

import thawline as tl
from thawline.backbones import Backbone
from thawline.data.digits import open_digits
from thawline.planning.observing import draw_pictures
from thawline.planning.stem_check import (
    FEWEST_PICTURES,
    N_PICTURES,
    USUAL,
    Finding,
    Normalisation,
    Patches,
    Stem,
    judge,
    patches_of,
)
from thawline.records import ImagePreparation
from thawline.runs.reporting import environment

Pictures = NDArray[np.uint8]

SEEDS = (0, 1, 2, 3, 4)
DATA = ("hymenoptera", "tiny_imagenet", "flowers5_128", "brain_mri", "fashion_mnist_small", "digits", "brain_mri_black")
FILES = {
    "MobileNetV2, ImageNet": ("mobilenetv2_100", "mobilenetv2_100.imagenet"),
    "MobileNetV2, insects": ("mobilenetv2_100", "mobilenetv2_100.inat_insect"),
    "MobileNetV2, birds": ("mobilenetv2_100", "mobilenetv2_100.inat_bird"),
    "EfficientNet-Lite0, ImageNet": ("tf_efficientnet_lite0", "tf_efficientnet_lite0.imagenet"),
}
TORCHVISION = "MobileNetV2, torchvision"
NAMES = dict(zip(USUAL, ("ImageNet's", "-1 to 1", "0 to 1", "0 to 255", "0 to 255 less the mean"), strict=False))
PLAIN = USUAL[: len(NAMES)]


def _noisy(pictures: Pictures) -> Pictures:
    noise = np.random.default_rng(0).normal(0, 0.15 * 255, pictures.shape)
    return np.clip(pictures + noise, 0, 255).astype(np.uint8)


def _grey(pictures: Pictures) -> Pictures:
    return np.repeat(pictures.mean(-1, keepdims=True), 3, -1).astype(np.uint8)


ALTERED: dict[str, Callable[[Pictures], Pictures]] = {
    "as they are": lambda pictures: pictures,
    "inverted": lambda pictures: 255 - pictures,
    "grey": _grey,
    "noisy (0.15)": _noisy,
    "dark (x 0.3)": lambda pictures: (0.3 * pictures).astype(np.uint8),
    "bright (x 1.5, cut)": lambda pictures: np.clip(1.5 * pictures.astype(float), 0, 255).astype(np.uint8),
    "pale (0.2 + 0.6 x)": lambda pictures: (51 + 0.6 * pictures).astype(np.uint8),
    "reddish": lambda pictures: (pictures * np.array([1, 0.6, 0.5])).astype(np.uint8),
}


@dataclass(frozen=True)
class Case:
    """One verdict."""

    weights: str
    data: str
    altered: str
    right: Normalisation
    taken: Normalisation
    finding: Finding | None

    @property
    def blamed(self) -> bool:
        return self.finding is not None and self.finding.better is not None

    @property
    def named_right(self) -> bool:
        """Whether the preparation that is named instead has the scale and the order of the right one."""
        better = None if self.finding is None else self.finding.better
        if better is None:
            return False
        return better.swapped == self.right.swapped and 0.5 < better.std[0] / self.right.std[0] < 2


def opened(name: str) -> tl.Dataset:
    if name == "digits":
        return open_digits(30)
    return tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / name, most=2_000)


def stems() -> dict[str, tuple[Stem, Normalisation]]:
    """Title -> the stem, and the preparation that the weights were trained with."""
    folder = Path(os.environ["THAWLINE_REAL_WEIGHTS"])
    found = {}
    for title, (architecture, file) in FILES.items():
        backbone = tl.open_backbone(f"timm/{architecture}@{folder / file}.safetensors")
        stem, preparation = stem_of(backbone), backbone.preparation
        assert stem is not None and isinstance(preparation, ImagePreparation)
        found[title] = stem, Normalisation(preparation.mean, preparation.std)
    state = torch.load(folder / "torchvision" / "mobilenet_v2-b0353104.pth", weights_only=True)
    tensors = {key: value.double().numpy() for key, value in state.items() if key.startswith("features.0.")}
    weight, mean, variance = (tensors[f"features.0.{name}"] for name in ("0.weight", "1.running_mean", "1.running_var"))
    found[TORCHVISION] = Stem("features.0.0", "features.0.1", weight, np.zeros(len(weight)), mean, variance), USUAL[0]
    return found


def rewritten(stem: Stem, own: Normalisation, other: Normalisation) -> Stem:
    """The same function of pixels, for inputs that are prepared in another way."""
    (own_mean, own_std), (mean, std) = ((np.array(one.mean), np.array(one.std)) for one in (own, other))
    weight = stem.weight * (std / own_std)[None, :, None, None]
    shift = np.einsum("oihw,i->o", stem.weight, (mean - own_mean) / own_std)
    weight = weight[:, ::-1] if other.swapped else weight  # moments of the three channels are nearly alike
    return replace(stem, weight=np.ascontiguousarray(weight), mean=stem.mean - shift)


def cases(of_data: Sequence[str] = DATA) -> Iterator[Case]:
    known = stems()
    folder = Path(os.environ["THAWLINE_REAL_WEIGHTS"])
    backbone = tl.open_backbone(f"timm/mobilenetv2_100@{folder / FILES[next(iter(FILES))][1]}.safetensors")
    for name in of_data:
        data = opened(name)
        rows = np.arange(len(data)) if data.given is None else np.flatnonzero(data.given != "test")
        for seed in SEEDS:
            pictures = draw_pictures(data, rows, backbone, N_PICTURES, seed=seed)
            for altered, alter in ALTERED.items():
                patches = patches_of(alter(pictures), 3, 3, seed=seed)
                yield from judged(known, patches, name, altered)


def judged(known: dict[str, tuple[Stem, Normalisation]], patches: Patches, name: str, altered: str) -> Iterator[Case]:
    for title, (stem, own) in known.items():
        for right in PLAIN if altered == "as they are" else (own,):
            of_right = stem if right == own else rewritten(stem, own, right)
            for taken in PLAIN:
                yield Case(title, name, altered, right, taken, judge(of_right, patches, taken))
            swapped = rewritten(of_right, right, replace(right, swapped=True))
            finding = judge(swapped, patches, right)
            yield Case(title, name, altered, replace(right, swapped=True), right, finding)


def share(chosen: Sequence[Case]) -> str:
    if not chosen:
        return "-"
    return f"{100 * np.mean([one.blamed for one in chosen]):.0f}"


def _words(chosen: Sequence[Case]) -> str:
    found = [one.finding for one in chosen if one.finding is not None]
    if not found:
        return "too plain"
    low, high = min(one.distance for one in found), max(one.distance for one in found)
    n = sum(one.agrees for one in found)
    said = "agrees" if n == len(found) else "not told" if not n else f"agrees in {n} of {len(found)}"
    blamed = sum(one.better is not None for one in found)
    return f"{low:.2f} to {high:.2f}, {said}" + (f", BLAMED {blamed}" if blamed else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def scale(one: Normalisation) -> str:
    return "0 to 255" if one.std[0] < 0.01 else "0 to 1" if one.std[0] == 1 else "normalised"


def mistakes(found: Sequence[Case]) -> list[tuple[str, list[Case]]]:
    """Kinds of mistakes, from coarse to fine."""
    plain = [one for one in found if one.altered == "as they are" and one.right != one.taken]
    order = [one for one in plain if one.right.swapped]
    others = [one for one in plain if not one.right.swapped]
    coarse = [one for one in others if "0 to 255" in (scale(one.right), scale(one.taken))
              and scale(one.right) != scale(one.taken)]  # fmt: skip
    middle = [one for one in others if {scale(one.right), scale(one.taken)} == {"0 to 1", "normalised"}]
    fine = [one for one in others if scale(one.right) == scale(one.taken) == "normalised"]
    return [
        ("0 to 255 taken for anything else, or the other way round", coarse),
        ("0 to 1 taken for normalised, or the other way round", middle),
        ("ImageNet's taken for -1 to 1, or the other way round", fine),
        ("blue first taken for red first", order),
    ]


def seconds(backbone: Backbone, data: tl.Dataset) -> tuple[float, float]:
    """Median processor seconds of finding the two layers, and of looking at the pictures."""
    of_stem, of_pictures = [], []
    for seed in SEEDS:
        started = time.process_time()
        stem = stem_of(backbone)
        of_stem.append(time.process_time() - started)
        assert stem is not None
        started = time.process_time()
        examine(data, backbone, stem, seed=seed)
        of_pictures.append(time.process_time() - started)
    return float(np.median(of_stem)), float(np.median(of_pictures))


def page(found: Sequence[Case], cost: tuple[float, float]) -> list[str]:
    right = [one for one in found if one.right == one.taken]
    own = [one for one in right if one.right == (USUAL[0] if one.weights == TORCHVISION else USUAL[1])]
    as_they_are = [one for one in own if one.altered == "as they are"]
    weights = [*FILES, TORCHVISION]
    named = [one for _, chosen in mistakes(found) for one in chosen if one.blamed]
    return [
        "# What the first batch norm tells of a preparation",
        "",
        f"Written by `python benchmarks/preparation.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        f"{N_PICTURES} pictures, {len(SEEDS)} draws of each data set. The distance is the mean over channels of the "
        "squared difference of means, in source variances,",
        "plus the squared logarithm of the ratio of standard deviations, each at most 9. The first four weights were",
        "trained on pictures from -1 to 1, the last on ImageNet's mean and standard deviation. Fewer than "
        f"{FEWEST_PICTURES} pictures, or",
        "pictures of one tone, are not judged.",
        "",
        "## With the right preparation: distance, and what is said",
        "",
        *_table(
            ("weights", *DATA),
            [
                [title, *(_words([c for c in as_they_are if (c.weights, c.data) == (title, name)]) for name in DATA)]
                for title in weights
            ],
        ),
        "",
        "## With the right preparation and altered pictures: how often it is blamed, %",
        "",
        *_table(
            ("pictures", *DATA),
            [
                [altered, *(share([c for c in own if (c.altered, c.data) == (altered, name)]) for name in DATA)]
                for altered in ALTERED
            ],
        ),
        "",
        f"Blamed wrongly: {sum(one.blamed for one in own):,} of {len(own):,}; with the weights rewritten for the other "
        f"preparations, {sum(one.blamed for one in right):,} of {len(right):,}.",
        "",
        "## With a wrong preparation: how often it is blamed, %",
        "",
        "Each of the weights as it is and rewritten for the other usual preparations, which changes no output.",
        "",
        *_table(
            ("mistake", "cases", *DATA),
            [
                [title, f"{len(chosen):,}", *(share([c for c in chosen if c.data == name]) for name in DATA)]
                for title, chosen in mistakes(found)
            ],
        ),
        "",
        f"Of {len(named):,} mistakes that were blamed, {sum(one.named_right for one in named):,} were told the right "
        "scale and order instead. If nothing is",
        "blamed and the distance is above 0.25, the note says that it cannot be told. A wrong padding moves these "
        "statistics too little.",
        "",
        "## What it costs",
        "",
        f"{1000 * cost[0]:.0f} ms to find the two layers and {1000 * cost[1]:.0f} ms for {N_PICTURES} photographs of "
        "hymenoptera, of one processor (MobileNetV2, median). It is done",
        "only for weights that do not say their mean and standard deviation.",
    ]  # fmt: skip


def main() -> None:
    found = list(cases())
    folder = Path(os.environ["THAWLINE_REAL_WEIGHTS"])
    backbone = tl.open_backbone(f"timm/mobilenetv2_100@{folder / FILES[next(iter(FILES))][1]}.safetensors")
    cost = seconds(backbone, opened("hymenoptera"))
    text = "\n".join(page(found, cost)) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
