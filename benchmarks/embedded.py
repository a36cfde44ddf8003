"""How far does the backbone that ships inside go? Writes benchmarks/embedded.md.

    python benchmarks/embedded.py

Frozen features and a logistic head, with the embedded backbone, an ImageNet MobileNetV2, the embedded architecture with
random weights, and without a backbone (16 x 16 pixels); the same training and test pictures for all. Needs
THAWLINE_REAL_DATA (hymenoptera, flowers5_128, fashion_mnist_small, brain_mri) and THAWLINE_REAL_WEIGHTS.
"""

from __future__ import annotations

import io
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import thawline as tl
from thawline.backbones import DEFAULT_MODEL, Backbone
from thawline.data.digits import open_digits
from thawline.evaluation import baselines
from thawline.heads import fit_head
from thawline.inputs.image.kind import simple_features
from thawline.planning.contenders import open_contender
from thawline.randomness import generator
from thawline.runs.reporting import environment

SEEDS = (0, 1, 2)
"""Each draws its own pictures to train on, and its own random weights."""
SHARES = {"hymenoptera": 0.6, "flowers5_128": 0.2, "brain_mri": 0.5}
"""Of the pictures that are trained on; the rest is tested on."""
MODELS = ("embedded", "ImageNet MobileNetV2", "random weights", "pixels")
N_RESAMPLES = 2_000
WANTED_WAY = 0.85
"""Of the way from random weights to the ImageNet MobileNetV2, on photographs."""
PHOTOGRAPHS = ("hymenoptera", "flowers5_128")
SIZED, PRETRAINED_PX = "hymenoptera", 64


@dataclass(frozen=True)
class Task:
    """What is learned from what."""

    data: str
    per_class: int | None = None

    @property
    def title(self) -> str:
        return self.data + (f", {self.per_class} a class" if self.per_class else f", {SHARES[self.data]:.0%} to train")

    def draw(self, seed: int) -> tuple[tl.Dataset, NDArray[np.int64], NDArray[np.int64]]:
        """The data, the rows to train on and the rows to test on."""
        if self.data == "digits":
            data = open_digits(self.per_class or 0, seed=seed)
            assert data.given is not None
            return data, np.flatnonzero(data.given == "train"), np.flatnonzero(data.given == "test")
        data = tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / self.data)
        if self.per_class is None:
            share = SHARES[self.data]
            split = tl.split_data(replace(data, given=None), fractions=(share, 0.0, 1 - share), seed=seed)
            return data, split.train, split.test
        split = tl.split_data(data)
        shuffled = generator(seed, "benchmark", self.data).permutation(split.train)
        of_class = [shuffled[data.labels[shuffled] == label] for label in range(len(data.classes))]
        return data, np.sort(np.concatenate([rows[: self.per_class] for rows in of_class])), split.test


TASKS = (
    *(Task("digits", n) for n in (10, 30, 100)),
    Task("fashion_mnist_small", 100),
    Task("hymenoptera"),
    Task("flowers5_128"),
    Task("brain_mri"),
)


def imagenet(input_px: int | None = None) -> Backbone:
    weights = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / "mobilenetv2_100.imagenet.safetensors"
    return tl.open_backbone(f"timm/mobilenetv2_100@{weights}", input_px=input_px)


def models(seed: int) -> dict[str, Backbone]:
    embedded = tl.open_backbone(DEFAULT_MODEL)
    return {
        "embedded": embedded,
        "ImageNet MobileNetV2": imagenet(),
        "random weights": open_contender(f"random/{embedded.architecture}@{embedded.tensors.path}", seed),
    }


def head_is_right(
    data: tl.Dataset, backbone: Backbone, train: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    """Of which test pictures a logistic head on frozen features is right."""
    values, y = tl.extract_features(data, backbone).values, data.labels
    head = fit_head("logistic", values[train], y[train], len(data.classes), groups=data.groups[train], seed=seed).head
    return head.logits(values[test]).argmax(axis=1) == y[test]


def right(task: Task, seed: int) -> dict[str, NDArray[np.bool_]]:
    """For each model, which test pictures it is right about."""
    data, train, test = task.draw(seed)
    y, n_classes = data.labels, len(data.classes)
    found = {}
    for name, backbone in models(seed).items():
        found[name] = head_is_right(data, backbone, train, test, seed)
    pixels = simple_features(data.sketches)
    simple = baselines(
        None, pixels[train], y[train], None, pixels[test], y[test], n_classes, seed=seed,
        groups=data.groups[train],
    )  # fmt: skip
    of_pixels = next(one for one in simple if one.name == "pixels")
    return found | {"pixels": of_pixels.probabilities.argmax(axis=1) == y[test]}


class Measured:
    """What came of one task, over all seeds."""

    def __init__(self, task: Task) -> None:
        self.task = task
        drawn = [right(task, seed) for seed in SEEDS]
        self.n_test = len(drawn[0]["pixels"])
        self._right = {name: [of_seed[name] for of_seed in drawn] for name in MODELS}
        draws = generator(0, "benchmark", "resample")
        resampled: list[list[float]] = [[] for _ in MODELS]
        for _ in range(N_RESAMPLES):
            rows = [draws.integers(0, len(of_seed["pixels"]), len(of_seed["pixels"])) for of_seed in drawn]
            for i, name in enumerate(MODELS):
                resampled[i].append(
                    float(np.mean([one[row].mean() for one, row in zip(self._right[name], rows, strict=True)]))
                )
        self._resampled = {name: np.array(values) for name, values in zip(MODELS, resampled, strict=True)}

    def mean(self, name: str) -> float:
        return float(np.mean([one.mean() for one in self._right[name]]))

    def cell(self, name: str) -> str:
        low, high = np.quantile(self._resampled[name], [0.025, 0.975])
        return f"{100 * self.mean(name):.1f} ({100 * low:.1f} to {100 * high:.1f})"

    @property
    def way(self) -> float:
        """Of the way from random weights to the ImageNet MobileNetV2."""
        start = self.mean("random weights")
        return (self.mean("embedded") - start) / (self.mean("ImageNet MobileNetV2") - start)

    def way_cell(self) -> str:
        start = self._resampled["random weights"]
        ways = (self._resampled["embedded"] - start) / (self._resampled["ImageNet MobileNetV2"] - start)
        low, high = np.quantile(ways, [0.025, 0.975])
        return f"{100 * self.way:.0f} ({100 * low:.0f} to {100 * high:.0f})"

    @property
    def ahead(self) -> bool:
        return self.mean("embedded") > max(self.mean("random weights"), self.mean("pixels"))


def reduced(data: tl.Dataset, px: int) -> tl.Dataset:
    """The same pictures, of so many pixels a side."""
    pictures = (Image.open(io.BytesIO(bytes(data.source.read(row)))) for row in range(len(data)))
    return tl.open_data(np.stack([np.asarray(one.convert("RGB").resize((px, px))) for one in pictures]), data.labels)


def row_of_sizes(title: str, backbone: Backbone) -> str:
    """Mean accuracy on large photographs as they are, and on the same made as small as Tiny ImageNet's."""
    whole, small = [], []
    for seed in SEEDS:
        data, *parts = Task(SIZED).draw(seed)
        whole.append(head_is_right(data, backbone, *parts, seed).mean())
        small.append(head_is_right(reduced(data, PRETRAINED_PX), backbone, *parts, seed).mean())
    return f"| {title} | {backbone.preparation.input_px[0]} | {100 * np.mean(whole):.1f} | {100 * np.mean(small):.1f} |"


def sizes() -> list[str]:
    embedded = tl.open_backbone(DEFAULT_MODEL)
    own_px = embedded.preparation.input_px[0]
    return [
        f"What the size of the pictures costs: {SIZED} as above, the photographs as they are and reduced to",
        f"{PRETRAINED_PX} px, the size of the pictures that the embedded backbone was trained on.",
        "",
        f"| backbone | reads them at, px | photographs | reduced to {PRETRAINED_PX} px |",
        "|---|---|---|---|",
        row_of_sizes("ImageNet MobileNetV2", imagenet()),
        row_of_sizes("ImageNet MobileNetV2", imagenet(own_px)),
        row_of_sizes("embedded", embedded),
    ]


def page(measured: list[Measured], of_sizes: list[str]) -> list[str]:
    behind = [one.task.title for one in measured if not one.ahead]
    short = [one.task.title for one in measured if one.task.data in PHOTOGRAPHS and one.way < WANTED_WAY]
    return [
        "# The embedded backbone",
        "",
        f"Written by `python benchmarks/embedded.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        f"A logistic head on four kinds of features: those of `{DEFAULT_MODEL}`, of the ImageNet MobileNetV2 at 224",
        "px, of the embedded architecture with random weights, and 16 x 16 pixels. Test accuracy in %, mean of",
        f"{len(SEEDS)} seeds (95 % interval from resampled test pictures). Each seed draws its own training pictures,",
        "and its own split if the task takes a share of them. The way: how much of the distance between random",
        "weights and the ImageNet MobileNetV2 the embedded model covers.",
        "",
        "| task | test pictures | " + " | ".join(MODELS) + " | the way, % |",
        "|---" * (len(MODELS) + 3) + "|",
        *(
            f"| {one.task.title} | {one.n_test:,} | {' | '.join(map(one.cell, MODELS))} | {one.way_cell()} |"
            for one in measured
        ),
        "",
        f"Ahead of random weights and of pixels on all: {'yes' if not behind else 'not on ' + '; '.join(behind)}. "
        f"At least {WANTED_WAY:.0%} of the way on photographs: {'yes' if not short else 'not on ' + '; '.join(short)}.",
        "",
        *of_sizes,
    ]


def main() -> None:
    missing = [name for name in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(name)]
    if missing:
        print(f"{' and '.join(missing)} must be set: benchmarks/embedded.py needs real data and weights.")
        return
    measured = []
    for task in TASKS:
        measured.append(Measured(task))
        print(
            task.title, *(f"{name} {measured[-1].cell(name)}" for name in MODELS), measured[-1].way_cell(), flush=True
        )
    Path(__file__).with_suffix(".md").write_text("\n".join(page(measured, sizes())) + "\n", "utf-8")


if __name__ == "__main__":
    main()
