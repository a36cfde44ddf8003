"""The training itself: a function of (recipe, step), so that it can be stopped and taken up anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from numpy.typing import NDArray
from pictures import crop, generator, to_input, within
from teacher import TeacherHead
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from thawline.backbones.providers.timm_import import import_timm

N_CLASSES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the weights; written into the model card."""

    name: str = "resnet18_half"
    architecture: str = "resnet18"
    channels: tuple[int, ...] = (32, 64, 128, 256)
    """Of the four stages; the usual ResNet-18 has 64, 128, 256 and 512."""
    epochs: int = 40
    sizes_px: tuple[tuple[float, int], ...] = ((0.0, 64), (0.55, 80), (0.82, 96))
    """(share of training from which it holds, side of the training picture)."""
    input_px: int = 128
    """Side at which the backbone is meant to be used; a little above the last one of training, since random crops
    enlarge what they show (Touvron et al. 2019, arXiv:1906.06423)."""
    batch_size: int = 256
    workers: int = 2
    """Processes that share a batch, each with batch statistics of its own part."""
    lr: float = 0.5
    warmup_epochs: float = 1.5
    momentum: float = 0.9
    weight_decay: float = 5e-5
    n_views: int = 3
    """Random crops of each picture that the teacher has described; an epoch takes one of them."""
    crop_scale_min: float = 0.35
    """Smallest share of the picture's area that a random crop keeps."""
    jitter: float = 0.1
    """The student sees at least 1 - jitter of each side of the teacher's crop."""
    teacher_px: int = 128
    """Side to which the teacher's pictures are enlarged."""
    teacher_share: float = 0.5
    """Share of the teacher's probabilities in the target; the rest is the label."""
    feature_weight: float = 5.0
    """Weight of the squared error of the teacher's features, standardised, as predicted linearly from the student's."""
    ema_decay: float = 0.999
    n_validation: int = 2000
    """Pictures of the training file held out to watch progress; the test file chooses nothing."""
    seed: int = 0

    @property
    def model_args(self) -> dict[str, Any]:
        """What timm has to be told besides the architecture."""
        return {"channels": list(self.channels)}


@dataclass(frozen=True, slots=True)
class Lessons:
    """What there is to learn from: pictures, labels, and what the teacher says of each view."""

    pixels: NDArray[np.uint8]
    """(N, 64, 64, 3)"""
    labels: torch.Tensor
    """int64 (N,)"""
    rows: NDArray[np.int64]
    """Pictures to train on; the others are held out."""
    boxes: Sequence[torch.Tensor]
    """For each view, which crop of every picture it is, (N, 4)."""
    views: Sequence[NDArray[np.float16]]
    """For each view the teacher's features (N, D)."""
    head: TeacherHead

    def teacher_says(self, view: int, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Standardised features (B, D) and probabilities (B, 200) of some pictures in one view."""
        features = self.head.standardised(self.views[view][rows])
        return features, self.head.linear(features).softmax(1)


def optimiser_of(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; weight decay on matrices only."""
    parameters = list(module.parameters())
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=True,
    )


class Student(nn.Module):
    """The backbone with its classifier, and a linear guess of the teacher's features that is thrown away afterwards."""

    def __init__(self, recipe: Recipe, teacher_width: int) -> None:
        super().__init__()
        self.backbone = import_timm().create_model(recipe.architecture, num_classes=N_CLASSES, **recipe.model_args)
        self.to_teacher = nn.Linear(self.backbone.num_features, teacher_width)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (B, 3, H, W) -> logits (B, 200) and the guess (B, D)."""
        features = self.backbone.forward_head(self.backbone.forward_features(batch), pre_logits=True)
        return self.backbone.get_classifier()(features), self.to_teacher(features)


class Training:
    """The whole state of one training, in each of its workers."""

    def __init__(self, recipe: Recipe, lessons: Lessons, worker: int = 0) -> None:
        torch.manual_seed(recipe.seed)  # initial weights only; every later draw has a generator of its own
        self.recipe, self.lessons, self.worker = recipe, lessons, worker
        self.steps_per_epoch = len(lessons.rows) // recipe.batch_size
        self.n_steps = recipe.epochs * self.steps_per_epoch
        self.step = 0
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self.student = Student(recipe, lessons.views[0].shape[1]).to(memory_format=torch.channels_last)
        self.ema = import_timm().utils.ModelEmaV3(self.student.backbone, decay=recipe.ema_decay, use_warmup=True)
        self.optimiser = optimiser_of(self.student, recipe)
        self._together = DistributedDataParallel(self.student) if recipe.workers > 1 else self.student

    def lr(self) -> float:
        """Linear warm-up, then linear to zero."""
        warmup = self.recipe.warmup_epochs * self.steps_per_epoch
        if self.step < warmup:
            return self.recipe.lr * (self.step + 1) / warmup
        return self.recipe.lr * (self.n_steps - self.step) / (self.n_steps - warmup)

    def size_px(self) -> int:
        return max(px for start, px in self.recipe.sizes_px if self.step >= start * self.n_steps)

    def train_step(self) -> float:
        """One step; returns this worker's loss."""
        rows, view, batch = self._batch()
        features, probabilities = self.lessons.teacher_says(view, rows)
        labels = F.one_hot(self.lessons.labels[rows], N_CLASSES).float()
        target = torch.lerp(labels, probabilities, self.recipe.teacher_share)

        for group in self.optimiser.param_groups:
            group["lr"] = self.lr()
        self.student.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits, guess = self._together(batch.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), target)
        loss = loss + self.recipe.feature_weight * F.mse_loss(guess.float(), features)
        torch.autograd.backward(loss)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.ema.update(self.student.backbone, step=self.step)
        return float(loss.detach())

    def _batch(self) -> tuple[NDArray[np.int64], int, torch.Tensor]:
        """This worker's part of the next batch: which pictures, in which view, and their pixels (B, 3, H, W)."""
        recipe, lessons = self.recipe, self.lessons
        epoch, position = divmod(self.step, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            shuffled = torch.randperm(len(lessons.rows), generator=generator(recipe.seed, 0, epoch)).numpy()
            self._order = epoch, shuffled
        start, view = position * recipe.batch_size, epoch % recipe.n_views
        rows = lessons.rows[self._order[1][start : start + recipe.batch_size]][self.worker :: recipe.workers]
        draws = generator(recipe.seed, 1, self.step, self.worker)
        boxes = within(lessons.boxes[view][rows], recipe.jitter, draws)
        flipped = torch.rand(len(rows), generator=draws) < 0.5
        return rows, view, crop(to_input(lessons.pixels[rows]), boxes, self.size_px(), flipped)

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "student": self.student.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.student.load_state_dict(state["student"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])


def accuracy(model: nn.Module, pixels: NDArray[np.uint8], labels: NDArray[np.int64], size_px: int) -> float:
    """Top-1 of ``model`` in inference mode, pictures resized bilinearly to ``size_px``."""
    model.eval()
    correct = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(labels), 500):
            batch = F.interpolate(to_input(pixels[start : start + 500]), (size_px, size_px), mode="bilinear")
            predicted = model(batch.contiguous(memory_format=torch.channels_last)).argmax(1).numpy()
            correct += int((predicted == labels[start : start + 500]).sum())
    return correct / len(labels)
