"""Is a wrong preparation noticed, and is a right one left alone? Writes benchmarks/preparation.md.

    python benchmarks/preparation.py

For each model with real weights, six wrong preparations and the right one, on five data sets: what does
``planning.preparation_check`` say? Needs THAWLINE_REAL_DATA, THAWLINE_REAL_WEIGHTS, and the extra ``keras``.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import thawline as tl
from thawline.backbones import Backbone
from thawline.data.digits import open_digits
from thawline.planning.norm_shift import norm_shift
from thawline.planning.observing import draw_pictures, observe
from thawline.planning.preparation_check import checked_on, colours_of, of_arrays, of_colours
from thawline.planning.source_memory import ColourMap, Stem, recall
from thawline.planning.stem_check import AGREES, BLAMED
from thawline.planning.stems import place_of, stem_of
from thawline.records import ImagePreparation
from thawline.runs.reporting import environment

Pictures = NDArray[np.uint8]

DATA = ("hymenoptera", "flowers5_128", "brain_mri", "fashion_mnist_small", "digits")
COLOURED = DATA[:2]
"""The others hold grey pictures: a preparation that leaves no colour does nothing to them."""
TUNED_ON = "MobileNetV2, ImageNet (timm)", "EfficientNet-Lite0, ImageNet (timm)"
N_SIZES, N_TAUGHT = 16, 32
FILES = {
    TUNED_ON[0]: "timm/mobilenetv2_100@mobilenetv2_100.imagenet.safetensors",
    "MobileNetV2, insects (timm)": "timm/mobilenetv2_100@mobilenetv2_100.inat_insect.safetensors",
    "MobileNetV2, birds (timm)": "timm/mobilenetv2_100@mobilenetv2_100.inat_bird.safetensors",
    TUNED_ON[1]: "timm/tf_efficientnet_lite0@tf_efficientnet_lite0.imagenet.safetensors",
    "MobileNetV2, ImageNet (torchvision)": "torchvision/mobilenet_v2@torchvision/mobilenet_v2-b0353104.pth",
    "MobileNet, ImageNet (Keras)": "keras/MobileNet@keras/mobilenet_1_0_224.imagenet.weights.h5",
    "MobileNetV2, dogs (Keras)": "keras/custom@keras/dog_breed_mobilenetv2.h5",
}
EMBEDDED = "ResNet-18 half, Tiny ImageNet (embedded)"
MODELS = (*FILES, EMBEDDED)


def name_of(title: str) -> str:
    if title == EMBEDDED:
        return "embedded/resnet18_half"
    model, _, file = FILES[title].partition("@")
    return f"{model}@{Path(os.environ['THAWLINE_REAL_WEIGHTS']) / file}"


def right(title: str, **settings: Any) -> Backbone:
    """A model with the preparation that its weights were trained with."""
    if "dogs" in title:  # a user's own model, which does not say: -1 to 1, 160 px
        settings = {"mean": 0.5, "std": 0.5} | settings
    return tl.open_backbone(name_of(title), **settings)


@functools.cache
def known(title: str) -> tuple[Backbone, Stem]:
    backbone = right(title)
    stem = stem_of(backbone)
    assert stem is not None
    return backbone, stem


@functools.cache
def opened(name: str) -> tl.Dataset:
    if name == "digits":
        return open_digits(30)
    return tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / name, most=2_000)


def behind(stem: Stem, matrix: Sequence[Sequence[float]], backbone: Backbone) -> Stem:
    """The same stem behind a layer that mixes the channels of the picture, as a mistake in the pixels would."""
    given = colours_of(backbone, replace(stem, own=ColourMap(np.eye(3), np.zeros(3))))
    mixed = ColourMap(np.array(matrix), np.zeros(3))
    back = given.before(given)
    assert back is not None
    inverse = np.linalg.inv(given.matrix)
    undo = ColourMap(inverse, -inverse @ given.offset)
    return replace(stem, own=stem.own.after(given.after(mixed.after(undo))))


FLIPPED = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
LUMINANCE = ((0.299, 0.587, 0.114),) * 3
FAULTS: dict[str, Callable[[ImagePreparation], dict[str, Any]]] = {
    "0..255": lambda p: {"mean": 0.0, "std": 1 / 255},
    "twice normalised": lambda p: {
        "mean": tuple(m + m * s for m, s in zip(p.mean, p.std, strict=True)), "std": tuple(s * s for s in p.std)
    },
    "mean 0": lambda p: {"mean": 0.0, "std": p.std},
    "half size": lambda p: {"input_px": p.input_px[0] // 2},
}  # fmt: skip
IN_PIXELS = {"BGR": FLIPPED, "grey": LUMINANCE}
ALL = ("BGR", "0..255", "twice normalised", "mean 0", "half size", "grey")


@dataclass(frozen=True)
class Case:
    """What is said of one preparation of one data set."""

    model: str
    data: str
    fault: str
    """Empty if the preparation is right."""
    said: tuple[str, ...]

    @property
    def noticed(self) -> bool:
        return any("do not seem to suit" in one or " px is " in one or "have colours" in one for one in self.said)

    @property
    def cured(self) -> bool:
        """Whether what is said names the preparation that the weights were trained with."""
        p = known(self.model)[0].preparation
        assert isinstance(p, ImagePreparation)
        options = [
            ",".join(f"{v:.6g}" for v in (three if len(set(three)) > 1 else three[:1])) for three in (p.mean, p.std)
        ]
        words = {
            "half size": "Leave the input size out",
            "grey": "Leave out what makes it grey",
            "BGR": "once too often",
        }
        return any(words.get(self.fault, "--mean {} --std {}".format(*options)) in one for one in self.said)

    @property
    def does_something(self) -> bool:
        return self.fault != "grey" or self.data in COLOURED


def cases() -> Iterator[Case]:
    for name in DATA:
        data = opened(name)
        for title in MODELS:
            backbone, stem = known(title)
            preparation = backbone.preparation
            assert isinstance(preparation, ImagePreparation)
            step(f"{name}, {title}")
            yield Case(title, name, "", checked_on(data, backbone))
            for fault, settings in FAULTS.items():
                yield Case(title, name, fault, checked_on(data, right(title, **settings(preparation))))
            for fault, matrix in IN_PIXELS.items():
                yield Case(title, name, fault, (of_colours(data, backbone, behind(stem, matrix, backbone)),))


def _bluish(pictures: Pictures) -> Pictures:
    return (pictures * np.array([0.6, 0.8, 1])).astype(np.uint8)


ARRAYS: dict[str, Callable[[Pictures], Pictures]] = {
    "BGR": lambda pictures: pictures[..., ::-1].copy(),
    "as they are": lambda pictures: pictures,
    "dark (x 0.3)": lambda pictures: (0.3 * pictures).astype(np.uint8),
    "reddish": lambda pictures: (pictures * np.array([1, 0.6, 0.5])).astype(np.uint8),
    "inverted": lambda pictures: 255 - pictures,
    "bluish": _bluish,
}


def arrays() -> dict[str, dict[str, float]]:
    """Data set -> what was done to its pictures -> share of models by which blue is said to come first, of 3 draws."""
    found: dict[str, dict[str, float]] = {}
    for name in (*DATA, "tiny_imagenet"):
        step(f"arrays of {name}")
        data, of_data = opened(name), {}
        drawn = [draw_pictures(data, np.arange(len(data)), known(MODELS[0])[0], 32, seed=seed) for seed in range(3)]
        for change, alter in ARRAYS.items():
            said = []
            for pictures in drawn:
                shown = tl.open_data(alter(pictures), ["a", "b"] * (len(pictures) // 2))
                said += [bool(of_arrays(shown, *known(title))) for title in MODELS]
            of_data[change] = float(np.mean(said))
        found[name] = of_data
    return found


def readings() -> Iterator[tuple[str, ...]]:
    """What the first batch norm says of the source if the preparation is right; the least misfit of a wrong one."""
    for title in MODELS:
        backbone, stem = known(title)
        preparation = backbone.preparation
        assert isinstance(preparation, ImagePreparation)
        memory = recall(stem)
        assert memory is not None
        own = memory.read(colours_of(backbone, stem))
        wrong = {}
        for fault, settings in FAULTS.items():
            if fault != "half size":
                other = right(title, **settings(preparation))
                wrong[fault] = memory.read(colours_of(other, stem)).misfit
        for fault, matrix in IN_PIXELS.items():
            wrong[fault] = memory.read(colours_of(backbone, behind(stem, matrix, backbone))).misfit
        least = min(wrong, key=lambda fault: wrong[fault])
        colour = ", ".join(f"{value:.0f}" for value in own.colour)
        yield title, f"({colour})", f"{own.contrast:.2f}", f"{own.misfit:.1f}", f"{wrong[least]:.1f} ({least})"


def hidden() -> Iterator[tuple[str, str, str, str]]:
    """GoogLeNet and Inception v3 whose statistics were taken with or without ``transform_input``, opened both ways."""
    data, shown = opened("tiny_imagenet"), opened("hymenoptera")
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ("googlenet", "inception_v3"):
            for trained in (True, False):
                args = {"weights": "none", "transform_input": trained}
                step(f"{architecture}, {trained}")
                blank = tl.open_backbone(f"torchvision/{architecture}", model_args=args)
                path = Path(folder) / f"{architecture}_{trained}.safetensors"
                save_file(taught(blank, draw_pictures(data, np.arange(len(data)), blank, N_TAUGHT)), path)
                for asked in (True, False):
                    backbone = tl.open_backbone(
                        f"torchvision/{architecture}@{path}", model_args={"transform_input": asked},
                        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
                    )  # fmt: skip
                    stem = stem_of(backbone)
                    assert stem is not None
                    yield architecture, str(trained), str(asked), of_colours(shown, backbone, stem)


def taught(backbone: Backbone, pictures: Pictures) -> dict[str, torch.Tensor]:
    """The tensors of a backbone after its first batch norm has seen pictures."""
    from thawline.inputs import kind_of

    place = place_of(backbone)
    assert place is not None
    module = backbone.build()
    module.load_state_dict(backbone.module().state_dict())
    norm = module.get_submodule(place.norm)
    assert isinstance(norm, torch.nn.BatchNorm2d)
    norm.momentum = None  # the mean over all batches
    norm.reset_running_stats()
    norm.register_forward_hook(_stop)
    to_tensors = kind_of("image").to_tensors(backbone.preparation, torch.device("cpu"))
    module.train()
    with torch.no_grad():
        for start in range(0, len(pictures), 8):
            with suppress(Stopped):
                module(to_tensors(torch.from_numpy(pictures[start : start + 8])))
    return {name: tensor.contiguous() for name, tensor in module.state_dict().items()}


class Stopped(Exception):
    """Ends a forward pass: what comes after is of no interest."""


def _stop(*_: object) -> None:
    raise Stopped


def sizes() -> Iterator[tuple[str, ...]]:
    """Shift of all batch norms at the right size and at half of it: what statistics alone say of a size."""
    for title in (*TUNED_ON, EMBEDDED):
        step(f"sizes, {title}")
        row = [title]
        for name in DATA:
            data, shifts = opened(name), []
            px = known(title)[0].preparation.input_px[0]
            for side in (px, px // 2):
                backbone = right(title, input_px=side)
                seen = observe(backbone, draw_pictures(data, np.arange(len(data)), backbone, N_SIZES))
                shifts.append(norm_shift(seen.norms).overall.value)
            row.append("{:.2f}, {:.2f}".format(*shifts))
        yield tuple(row)


def seconds() -> tuple[float, float]:
    """Median processor seconds of a check whose place is in the cache, right and wrong."""
    data = opened("hymenoptera")
    spent = []
    for settings in ({}, {"mean": 0.0}):
        times = []
        for _ in range(5):
            backbone = right(TUNED_ON[0], **settings)
            _ = backbone.weights_sha256  # known anyway: the feature store asks for it
            started = time.process_time()
            checked_on(data, backbone)
            times.append(time.process_time() - started)
        spent.append(float(np.median(times)))
    return spent[0], spent[1]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _noticed(found: Sequence[Case], title: str, fault: str) -> str:
    chosen = {one.data: one for one in found if (one.model, one.fault) == (title, fault)}
    letters = [("yes" if chosen[name].noticed else "NO") if chosen[name].does_something else "-" for name in DATA]
    return " ".join(letters) if len(set(letters)) > 1 else letters[0]


def _share(chosen: Sequence[Case], what: str) -> str:
    n = sum(getattr(one, what) for one in chosen)
    return f"{n} of {len(chosen)} ({100 * n / len(chosen):.1f} %)"


def step(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


def page(found: Sequence[Case]) -> list[str]:
    wrong = [one for one in found if one.fault and one.does_something]
    unseen = [one for one in wrong if one.model not in TUNED_ON]
    fine = [one for one in found if not one.fault]
    alarms = [one for one in fine if one.noticed]
    of_arrays = arrays()
    cost = seconds()
    return [
        "# Is a wrong preparation noticed?",
        "",
        f"Written by `python benchmarks/preparation.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        "The first batch norm keeps the mean and variance of what the first convolution gave in training. Both follow",
        "from the pictures and their preparation, so a linear system gives the mean pixel and the contrast that the",
        "source had if a preparation is right. The misfit is their squared distance from those of photographs, in",
        "standard deviations of published data sets, plus that of the channels' variances.",
        f"A misfit of at most {AGREES:g} agrees; one of {BLAMED:g} or more is wrong if a usual preparation agrees.",
        "",
        "Constants: ImageNet's mean pixel and colour covariance are published. The spread of data sets' mean pixels,",
        f"the correlation length and the thresholds were set on {' and '.join(TUNED_ON)}, with no data set in view.",
        "The other six models were only judged.",
        "",
        "## What the right preparation leads to",
        "",
        *_table(("model", "mean pixel", "contrast", "misfit", "least misfit of a wrong one"), list(readings())),
        "",
        "Photographs of ImageNet have a mean pixel of (124, 116, 104).",
        "",
        "## Six wrong preparations",
        "",
        f"On {', '.join(DATA)}, in this order if they differ.",
        "A dash: the pictures are grey already, so that a preparation that leaves no colour does nothing to them.",
        "",
        *_table(("model", *ALL), [[title, *(_noticed(found, title, fault) for fault in ALL)] for title in MODELS]),
        "",
        f"Noticed: {_share(wrong, 'noticed')}; of the six models that nothing was set on, {_share(unseen, 'noticed')}. "
        f"Of those noticed, the right cure is named for {_share([one for one in wrong if one.noticed], 'cured')}.",
        f"The right preparation is blamed in {len(alarms)} of {len(fine)}.",
        "",
        "BGR and grey are layers that change the order of channels, or leave no colour, between pixels and model. Half",
        "size is known from what the weights or the architecture say of their size, not from statistics: the shift of",
        "all batch norms does not tell, as the next table shows.",
        "",
        f"## Shift of all batch norms at the right size, and at half of it ({N_SIZES} pictures)",
        "",
        *_table(("model", *DATA), list(sizes())),
        "",
        "## Arrays in BGR",
        "",
        "Files say the order of their channels; arrays do not. How often blue is said to come first, in % of 8 models",
        "and 3 draws of 32 pictures; only the first column should be.",
        "",
        *_table(
            ("pictures", *ARRAYS),
            [[name, *(f"{100 * of_arrays[name][change]:.0f}" for change in ARRAYS)] for name in of_arrays],
        ),
        "",
        "Grey pictures have no order. Bluish and inverted photographs cannot be told from BGR: the sentence says may.",
        "",
        "## The normalisation that GoogLeNet hides",
        "",
        f"Random weights whose first batch norm saw {N_TAUGHT} pictures of tiny_imagenet, with `transform_input` or",
        "without, opened both ways.",
        "",
        *_table(("architecture", "trained with it", "opened with it", "said"), list(hidden())),
        "",
        "## What it costs",
        "",
        f"{1000 * cost[0]:.0f} ms if the preparation is right, {1000 * cost[1]:.0f} ms if it is wrong and 32 "
        "photographs are looked at (processor time, median of 5,",
        "MobileNetV2, place of the layers in the cache). The first time, the model is built on torch's meta device.",
    ]  # fmt: skip


def main() -> None:
    with suppress(RuntimeError):
        torch.set_num_threads(1)
    text = "\n".join(page(list(cases()))) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
