"""fastai: `vision_learner(...).fine_tune(4)`, as its documentation teaches it.

    .venvs/torch/bin/python fastai_fine_tune.py DATA WEIGHTS

Data, augmentation (`aug_transforms`) and optimiser are fastai's defaults, and so is its head (pooling, two linear
layers, dropout); the body is timm's, normalised as the weights want it. `fine_tune(4)` is one epoch frozen and four
with everything thawed. Judged by the last epoch.
"""

from __future__ import annotations

import torchvision_ops  # noqa: F401

# isort: split
import job as benchmark
from fastai.vision.all import ImageDataLoaders, Resize, accuracy, aug_transforms, set_seed, vision_learner


def main() -> None:
    job = benchmark.parse(__doc__)
    set_seed(job.seed)
    data = ImageDataLoaders.from_folder(
        job.train.parent,
        train=job.train.name,
        valid=job.test.name,
        item_tfms=Resize(460),
        batch_tfms=aug_transforms(size=benchmark.INPUT_PX),
        bs=16 if job.smoke else 64,
    )
    learner = vision_learner(data, "mobilenetv2_100", metrics=accuracy, **job.timm_arguments)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(job.epochs(4))
        _, test_accuracy = learner.validate()
    benchmark.report("fastai", float(test_accuracy), len(data.valid_ds), ("fastai", "timm", "torch"))


if __name__ == "__main__":
    main()
