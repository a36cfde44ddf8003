"""Make the golden runs of this version: small run folders that every later version must still read.

    python tests/golden/make.py

Run it once per release, then commit ``tests/golden/<version>*``. Nothing in there is ever changed afterwards.

- ``<version>``: nothing thawed.
- ``<version>-thawed``: the same weights with the last blocks thawed.
- ``<version>-thawed.tar.xz``: the draft of that run, interrupted in its second stage. Resumed, it must end.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # as in the tests: sums in another order are other bits

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm
from thawline.listening import Silent
from thawline.scale.processors import processor_name

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

ARCHITECTURE = "test_efficientnet"
"""99,196 parameters: 0.2 MB in fp16."""
CONFIG = {"input_size": [3, 96, 96], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
AT = Path("/golden")
"""Where the data and the weights lie while it runs: run folders name absolute paths."""


def write_weights(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    """Write weights that describe themselves; return the name of the model."""
    described = {"architecture": ARCHITECTURE, "model_args": "{}", "pretrained_cfg": json.dumps(CONFIG)}
    save_file(tensors, path, described)
    return f"timm/{ARCHITECTURE}@{path}"


def golden_weights(version: str, path: Path) -> str:
    """Write the weights that the golden runs of ``version`` began with; return the name of the model."""
    stored = load_file(HERE / version / "model.safetensors")
    own = {name.removeprefix("backbone."): tensor for name, tensor in stored.items() if name.startswith("backbone.")}
    return write_weights(path, own)


class StopIn(Silent):
    """Interrupt a stage in the middle."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def progress(self, phase: str, done: int, total: int) -> None:
        if phase == self.stage and done == total // 2:
            raise KeyboardInterrupt


def expect(run: tl.Run) -> None:
    """Write beside a run what it says of the golden pictures, and where that was computed."""
    answer = run.bundle.predict(sorted((HERE / "pictures").glob("*.png")))
    content = answer.to_json(n_top=3)
    for prediction in content["predictions"]:
        prediction["file"] = Path(prediction["file"]).name
    content["probabilities"] = answer.probabilities.tolist()
    content["made_on"] = made_on()
    (run.folder / "expected.json").write_text(json.dumps(content, indent=2) + "\n")


def made_on() -> dict[str, str]:
    """What decides the last bits."""
    return {"processor": processor_name(), "torch": torch.__version__, "numpy": np.__version__}


def main() -> None:
    from conftest import TINY_CLASSES, draw_shape

    version, photos = tl.__version__, AT / "photos"
    os.chdir(HERE)  # the report names the run folder as it was given
    for label, shape in enumerate(TINY_CLASSES):
        (HERE / "photos" / shape).mkdir(parents=True, exist_ok=True)
        for i in range(10):
            path = HERE / "photos" / shape / f"{shape}_{i:02d}.png"
            if not path.exists():
                draw_shape(shape, np.random.default_rng((label, i))).save(path)
    shutil.copytree(HERE / "photos", photos)
    if not Path(version).exists():
        torch.manual_seed(0)
        made = import_timm().create_model(ARCHITECTURE, num_classes=0).state_dict()
        halves = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in made.items()}
        data, backbone = tl.open_data(photos), tl.open_backbone(write_weights(AT / "weights.safetensors", halves))
        plan = tl.plan(data, backbone, precision="f32", device="cpu")
        expect(tl.fit(data, plan, backbone=backbone, run=Path(version)))
    name = golden_weights(version, AT / "weights.safetensors")
    training = {"epochs": 4, "evaluations": 4}
    data = tl.open_data(photos)
    plan = tl.plan(data, tl.open_backbone(name), precision="f32", device="cpu", thaw="last:2", training=training)
    thawed = Path(f"{version}-thawed")
    try:
        tl.fit(data, plan, backbone=tl.open_backbone(name), run=thawed, listener=StopIn("last:2, all samples"))
    except KeyboardInterrupt:
        draft = f".{thawed}.unfinished"
        with tarfile.open(f"{thawed}.tar.xz", "w:xz") as archive:
            archive.add(draft)
        shutil.rmtree(draft)
    expect(tl.fit(data, plan, backbone=tl.open_backbone(name), run=thawed))


if __name__ == "__main__":
    main()
