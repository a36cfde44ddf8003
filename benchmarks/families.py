"""Real weights of each library, through the whole path. Writes benchmarks/families.md.

    python benchmarks/families.py

For each model, ``thawline fit hymenoptera`` twice as a whole process with a cache of its own: with everything frozen,
and as it is by default. Beside the accuracy: what the load receipt says, and how far the features lie from those that
the model's own library computes of the same prepared pictures. Needs THAWLINE_REAL_DATA (hymenoptera),
THAWLINE_REAL_WEIGHTS, and the extra ``keras``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.providers.timm_import import import_timm, import_torchvision_models
from thawline.planning.observing import draw_pictures
from thawline.records import ImagePreparation
from thawline.runs.reporting import environment

N_PICTURES = 16
WITHIN = 1e-3
"""Largest difference of a feature, relative to the largest feature of the library's own."""


@dataclass(frozen=True)
class Model:
    """A model with real weights, and how its own library computes its features."""

    name: str
    file: str
    own: Callable[[Path, NDArray[np.uint8]], NDArray[np.float32]]
    """(file of weights, prepared pictures uint8 (N, H, W, 3)) -> features (N, D)"""

    def asked(self, weights: Path) -> str:
        """The name as ``open_backbone`` takes it."""
        return f"{self.name}@{weights / self.file}"


def by_torchvision(file: Path, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """torchvision's own module and normalisation."""
    models = import_torchvision_models()
    model = models.mobilenet_v2(weights=None).eval()
    model.load_state_dict(torch.load(file, weights_only=True))
    moments = models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (moments.mean, moments.std))
    with torch.inference_mode():
        given = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - mean) / std
        return model.features(given).mean((2, 3)).numpy()


def by_timm(file: Path, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """timm's own module; mean and standard deviation of 0.5, as the file says."""
    from safetensors.torch import load_file

    model = import_timm().create_model("mobilenetv2_100", pad_type="same").eval()
    model.load_state_dict(load_file(file))
    with torch.inference_mode():
        given = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        return model.forward_head(model.forward_features(given), pre_logits=True).numpy()


def by_keras_mobilenet(file: Path, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Keras's own model and preprocessing."""
    import keras

    whole = keras.applications.MobileNet(weights=None)
    whole.load_weights(file)
    model = keras.Model(whole.input, whole.get_layer("global_average_pooling2d").output)
    given = keras.applications.mobilenet.preprocess_input(pictures.astype(np.float32))
    return np.asarray(model.predict(given, verbose=0)).reshape(len(pictures), -1)


def by_keras_dogs(file: Path, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Keras's own loader of whole models."""
    import keras

    whole = keras.models.load_model(file, compile=False)
    model = keras.Model(whole.inputs, whole.layers[-1].input)
    given = keras.applications.mobilenet_v2.preprocess_input(pictures.astype(np.float32))
    return np.asarray(model.predict(given, verbose=0)).reshape(len(pictures), -1)


MODELS = (
    Model("timm/mobilenetv2_100", "mobilenetv2_100.imagenet.safetensors", by_timm),
    Model("torchvision/mobilenet_v2", "torchvision/mobilenet_v2-b0353104.pth", by_torchvision),
    Model("keras/MobileNet", "keras/mobilenet_1_0_224.imagenet.weights.h5", by_keras_mobilenet),
    Model("keras/custom", "keras/dog_breed_mobilenetv2.h5", by_keras_dogs),
)


def features_of(backbone: Backbone, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Thawline's features of prepared pictures, on the torch engine in float32."""
    from thawline.engines.torch_engine import TorchEngine

    return TorchEngine(backbone, precision="f32", device="cpu").run(pictures)


def difference(model: Model, data: tl.Dataset, weights: Path) -> float:
    """Largest difference of features, relative to the largest of the library's own."""
    backbone = tl.open_backbone(model.asked(weights))
    assert isinstance(backbone.preparation, ImagePreparation)
    pictures = draw_pictures(data, np.arange(len(data)), backbone, N_PICTURES)
    own = model.own(weights / model.file, pictures)
    return float(np.abs(features_of(backbone, pictures) - own).max() / np.abs(own).max())


def fit(model: Model, data: Path, weights: Path, *more: str) -> tuple[dict, float]:
    """What ``thawline fit --json`` says, and the seconds of the whole process."""
    command = [str(Path(sys.executable).with_name("thawline")), "fit", str(data), "--model", model.asked(weights)]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        ran = subprocess.run(
            [*command, *more, "--run", str(Path(folder) / "run"), "--json"],
            env=os.environ | {"THAWLINE_CACHE": str(Path(folder) / "cache")},
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(ran.stdout), time.monotonic() - begun


def accuracy(answer: dict) -> str:
    measured = answer["test"]["accuracy"]
    low, high = measured["ci95"]
    return f"{100 * measured['value']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    weights, folder = Path(os.environ["THAWLINE_REAL_WEIGHTS"]), Path(os.environ["THAWLINE_REAL_DATA"]) / "hymenoptera"
    data = tl.open_data(folder)
    rows = []
    for model in MODELS:
        frozen, frozen_s = fit(model, folder, weights, "--thaw", "none")
        default, default_s = fit(model, folder, weights)
        away = difference(model, data, weights)
        receipt = default["load_receipt"]["summary"]
        rows.append(
            f"| `{model.name}@{Path(model.file).name}` | {accuracy(frozen)}, {frozen_s:.0f} s | "
            f"{accuracy(default)}, {default_s:.0f} s | {receipt} | {away:.1e}{'' if away <= WITHIN else ' (too far)'} |"
        )
        print(rows[-1], flush=True)
    machine = ", ".join(f"{name} {value}" for name, value in environment().items())
    lines = [
        "# Real weights of each library",
        "",
        f"`python benchmarks/families.py`, {time.strftime('%Y-%m-%d')}: `thawline fit hymenoptera` with each, a whole "
        "process with nothing cached.",
        "Accuracy in % with its 95 % interval; the largest difference of a feature from the library's own, relative to",
        "the largest of these.",
        "",
        "| model | frozen | default | load receipt | difference |",
        "|---|---|---|---|---|",
        *rows,
        "",
        machine,
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
