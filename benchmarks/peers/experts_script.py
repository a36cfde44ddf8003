"""What an expert would write: features of the frozen network once, then a logistic regression.

    .venvs/torch/bin/python experts_script.py DATA WEIGHTS --variant openvino|torch

`openvino` runs the network converted, with the hint bf16; `torch` runs it eagerly in float32. The head is
LogisticRegressionCV of scikit-learn with its default ten strengths, five folds, and room to converge; no scaler. The
other arguments are its defaults, spelled out because they are about to change.
"""

from __future__ import annotations

import torchvision_ops  # noqa: F401

# isort: split
import os
from collections.abc import Callable
from pathlib import Path

import job as benchmark
import numpy as np
import timm
import torch
from sklearn.linear_model import LogisticRegressionCV
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder


def openvino_bf16(model: torch.nn.Module) -> Callable[[torch.Tensor], np.ndarray]:
    """Compile the network for the processor."""
    import openvino as ov

    converted = ov.convert_model(model, example_input=torch.zeros(1, 3, 224, 224), input=[-1, 3, 224, 224])
    compiled = ov.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    return lambda images: compiled(images.numpy())[0]


def main() -> None:
    job = benchmark.parse(__doc__, ("openvino", "torch"))
    model = timm.create_model("mobilenetv2_100", num_classes=0, **job.timm_arguments).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.inference_mode():
        network = openvino_bf16(model) if job.variant == "openvino" else lambda images: model(images).numpy()

        def features(folder: Path) -> tuple[np.ndarray, np.ndarray]:
            loader = DataLoader(ImageFolder(folder, transform), batch_size=32, num_workers=os.cpu_count() or 1)
            parts = [(network(images), labels.numpy()) for images, labels in loader]
            values, labels = zip(*parts, strict=True)
            return np.concatenate(values), np.concatenate(labels)

        train, test = features(job.train), features(job.test)
    head = LogisticRegressionCV(
        Cs=10, cv=5, max_iter=1000, scoring="accuracy", l1_ratios=(0.0,), use_legacy_attributes=False
    ).fit(*train)
    packages = ("timm", "torch", "scikit-learn", *(["openvino"] if job.variant == "openvino" else []))
    benchmark.report(f"script-{job.variant}", float(head.score(*test)), len(test[1]), packages)


if __name__ == "__main__":
    main()
