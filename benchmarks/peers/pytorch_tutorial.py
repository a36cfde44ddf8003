"""PyTorch's "Transfer Learning for Computer Vision Tutorial": the fixed feature extractor, or fine-tuning.

    .venvs/torch/bin/python pytorch_tutorial.py DATA WEIGHTS --variant fixed|fine-tune

Its transforms, batches of 4, SGD (learning rate 0.001, momentum 0.9), a tenth of it after 7 epochs, both parts run in
every epoch; in `fixed`, too, batch normalisation is in training mode, as in the tutorial. What differs: the network
(the tutorial's is ResNet-18) and the normalisation that it wants, 10 epochs instead of 25 (kinder in time), no more
workers than cores, and the last epoch is judged: the tutorial keeps the epoch that was best on the very pictures it
reports.
"""

from __future__ import annotations

import torchvision_ops  # noqa: F401

# isort: split
import os

import job as benchmark
import timm
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import (
    CenterCrop,
    Compose,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)


def main() -> None:
    job = benchmark.parse(__doc__, ("fixed", "fine-tune"))
    torch.manual_seed(job.seed)
    pixels = [ToTensor(), Normalize(benchmark.MEAN, benchmark.STD)]
    train = ImageFolder(job.train, Compose([RandomResizedCrop(224), RandomHorizontalFlip(), *pixels]))
    test = ImageFolder(job.test, Compose([Resize(256), CenterCrop(224), *pixels]))
    n_workers = min(4, os.cpu_count() or 1)
    loaders = {
        "train": DataLoader(train, batch_size=4, shuffle=True, num_workers=n_workers),
        "test": DataLoader(test, batch_size=4, shuffle=True, num_workers=n_workers),
    }

    model = timm.create_model("mobilenetv2_100", **job.timm_arguments)
    if job.variant == "fixed":
        model.requires_grad_(False)
    model.classifier = nn.Linear(model.classifier.in_features, len(train.classes))
    learning = model.classifier.parameters() if job.variant == "fixed" else model.parameters()
    criterion = nn.CrossEntropyLoss()
    optimizer = SGD(learning, lr=0.001, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)

    for _ in range(job.epochs(10)):
        model.train()
        for images, labels in loaders["train"]:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loaders["test"])

    benchmark.report(f"tutorial-{job.variant}", right / len(test), len(test), ("torch", "torchvision", "timm"))


if __name__ == "__main__":
    main()
