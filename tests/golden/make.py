"""Make the golden run of this version: a small run folder that every later version must still read.

    python tests/golden/make.py

Run it once per release, then commit the folder ``tests/golden/<version>``. Nothing in it is ever changed afterwards.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

ARCHITECTURE = "test_efficientnet"
"""99,196 parameters: 0.2 MB in fp16."""


def main() -> None:
    from conftest import TINY_CLASSES, draw_shape

    os.chdir(HERE)  # the report names the run folder as it was given
    pictures = HERE / "pictures"
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        for label, shape in enumerate(TINY_CLASSES):
            (photos / shape).mkdir(parents=True)
            for i in range(10):
                draw_shape(shape, np.random.default_rng((label, i))).save(photos / shape / f"{shape}_{i:02d}.png")
        torch.manual_seed(0)
        model = import_timm().create_model(ARCHITECTURE, num_classes=0)
        weights = Path(name) / "weights.safetensors"
        config = {"input_size": [3, 96, 96], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
        save_file(
            {k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()},
            weights,
            {"architecture": ARCHITECTURE, "model_args": "{}", "pretrained_cfg": json.dumps(config)},
        )
        data = tl.open_data(photos)
        backbone = tl.open_backbone(f"timm/{ARCHITECTURE}@{weights}")
        plan = tl.plan(data, backbone, precision="f32", device="cpu")
        run = tl.fit(data, plan, backbone=backbone, run=Path(tl.__version__))
        if not pictures.exists():
            pictures.mkdir()
            for shape in TINY_CLASSES:
                (pictures / f"{shape}.png").write_bytes((photos / shape / f"{shape}_00.png").read_bytes())
    answer = run.bundle.predict(sorted(pictures.glob("*.png"))).to_json(n_top=3)
    for prediction in answer["predictions"]:
        prediction["file"] = Path(prediction["file"]).name
    (run.folder / "expected.json").write_text(json.dumps(answer, indent=2) + "\n")


if __name__ == "__main__":
    main()
