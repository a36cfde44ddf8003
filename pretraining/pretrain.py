"""Pre-train the backbone that ships inside Thawline, on Tiny ImageNet (100,000 pictures of 64 px, 200 classes).

One command, resumable at any moment (start it again with the same arguments):

    python pretraining/pretrain.py --data PATH/tiny_imagenet --teacher PATH/mobilenetv2_100.imagenet.safetensors \\
        --out build/pretraining

It writes under --out: ``pixels.npy`` (the decoded pictures), ``view-K.npy`` (what the teacher says of them),
``checkpoint.pt``, ``log.jsonl`` (one line per epoch) and, at the end, ``<name>.safetensors`` (fp16) with its metadata
and ``<name>.md``, its model card.

The schedule is the short-budget one of FFCV (https://github.com/libffcv/ffcv-imagenet): SGD with Nesterov momentum,
learning rate 0.5 per 256 pictures, weight decay 5e-5 on matrices only, random resized crop and flip, resolution that
grows during training; plus an exponential moving average of the weights, which is what ships. What it learns is half
the label and half what a MobileNetV2 trained on ImageNet says of the same crop, and that network's features as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from pictures import MEAN, STD, decode
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from scipy.stats import binomtest
from teacher import WHOLE, Teacher, boxes_of_view, fitted_head, taught
from torch.distributed import FileStore
from torch.multiprocessing.spawn import spawn

from thawline.backbones import open_backbone
from thawline.scale.allocator import keep_freed_memory
from training import N_CLASSES, Lessons, Recipe, Training, accuracy

CHECKPOINT_STEPS = 200


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things are."""

    data: Path
    teacher: Path
    out: Path

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    @property
    def log(self) -> Path:
        return self.out / "log.jsonl"


def split(n: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Rows held out to watch progress, and rows to train on."""
    order = np.random.default_rng(recipe.seed).permutation(n)
    return np.sort(order[: recipe.n_validation]), order[recipe.n_validation :]


def open_teacher(paths: Paths, recipe: Recipe) -> Teacher:
    backbone = open_backbone(f"timm/mobilenetv2_100@{paths.teacher}", input_px=recipe.teacher_px)
    return Teacher(backbone, paths.out / "engines")


def open_lessons(paths: Paths, recipe: Recipe) -> Lessons:
    """Read what there is to learn; what is not there yet is computed and kept."""
    pixels, labels = decode(paths.data / "train.parquet", paths.out / "pixels.npy")
    rows, targets = split(len(labels), recipe)[1], torch.from_numpy(labels)
    boxes = [boxes_of_view(view, len(pixels), recipe.crop_scale_min, recipe.seed) for view in range(recipe.n_views)]
    files = [paths.out / f"view-{view}.npy" for view in range(recipe.n_views)]
    ask = partial(open_teacher, paths, recipe)
    views = [taught(ask, pixels, *place) for place in zip(boxes, files, strict=True)]
    head = fitted_head(views, targets, rows, recipe.seed, paths.out / "teacher_head.safetensors")
    return Lessons(pixels, targets, rows, boxes, views, head)


def teacher_reaches(paths: Paths, recipe: Recipe, lessons: Lessons) -> float:
    """Top-1 of the teacher with its classifier, on the test pictures."""
    pixels, labels = decode(paths.data / "test.parquet", paths.out / "test_pixels.npy")
    ask, file = partial(open_teacher, paths, recipe), paths.out / "test-view.npy"
    return lessons.head.accuracy(taught(ask, pixels, WHOLE.expand(len(pixels), 4), file), labels)


def work(worker: int, recipe: Recipe, paths: Paths, rendezvous: Path) -> None:
    """One of the processes that train together; the first one also writes, and shows progress."""
    keep_freed_memory()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {mine[worker % len(mine)]})
    if recipe.workers > 1:
        store = FileStore(str(rendezvous), recipe.workers)
        torch.distributed.init_process_group(
            "gloo", store=store, rank=worker, world_size=recipe.workers, timeout=timedelta(minutes=10)
        )
    run = Training(recipe, open_lessons(paths, recipe), worker)
    if paths.checkpoint.exists():
        run.load(paths.checkpoint)
    if worker == 0:
        lead(run, paths)
    else:
        while run.step < run.n_steps:
            run.train_step()
    if recipe.workers > 1:
        torch.distributed.destroy_process_group()


def lead(run: Training, paths: Paths) -> None:
    """Train, and write a checkpoint every so many steps and a line for each epoch."""
    lessons, recipe = run.lessons, run.recipe
    held_out = split(len(lessons.pixels), recipe)[0]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("pre-training", total=run.n_steps, completed=run.step)
        losses: list[float] = []
        started = time.monotonic()
        while run.step < run.n_steps:
            size_px = run.size_px()
            losses.append(run.train_step())
            progress.update(task, completed=run.step, description=f"loss {np.mean(losses[-50:]):.3f}")
            ended = run.step % run.steps_per_epoch == 0
            if ended or run.step % CHECKPOINT_STEPS == 0:
                run.save(paths.checkpoint)
            if not ended:
                continue
            seen = lessons.pixels[held_out], lessons.labels[held_out].numpy()
            line = {
                "epoch": run.step // run.steps_per_epoch,
                "size_px": size_px,
                "loss": round(float(np.mean(losses)), 4),
                "validation_accuracy": accuracy(run.ema.module, *seen, recipe.input_px),
                "seconds": round(time.monotonic() - started, 1),
            }
            losses, started = [], time.monotonic()
            with paths.log.open("a") as log:
                log.write(json.dumps(line) + "\n")
            progress.console.print(line)


CARD = """# {name}

A {architecture} of timm with {arguments}, {parameters:,} parameters without its classifier,
trained from random weights on Tiny ImageNet by `pretraining/pretrain.py`, with a teacher that was trained on ImageNet.
It ships as fp16 safetensors ({megabytes:.1f} MB).

| | |
|---|---|
| SHA-256 | `{sha256}` |
| input | {px} x {px} px RGB, mean = std = 0.5, bilinear |
| features | {dim} per picture, pooled |
| trained on | Tiny ImageNet: {n_train:,} pictures of 64 x 64 px, 200 classes (a part of ImageNet, recompressed) |
| top-1 on the {n_validation:,} held-out training pictures | {validation:.3f} |
| top-1 on the {n_test:,} test pictures, read once, after training | {test:.3f} (95 % {low:.3f} to {high:.3f}) |
| the teacher's on the same | {teacher:.3f} |
| teacher | MobileNetV2 (timm mobilenetv2_100) trained on ImageNet, {teacher_px} px, with a linear classifier |
| recipe | {recipe} |
| cost | {hours:.1f} hours of wall-clock time on 2 CPU cores that had other work as well |
| made | {date} |

**What it is for.** A first look, tests, and places without a network: it is small and was trained on small pictures.
For results that matter, compare it with a model trained on ImageNet at full size (`thawline models mobilenet`).

**Limits.** It has seen 64 px pictures of 200 everyday kinds of things, and nothing else (its teacher: ImageNet). Fine
texture, text, medical and satellite pictures are foreign to it. The classes, and their biases, are ImageNet's.

**Licence.** The weights are released under Apache-2.0, like this project. The pictures that they were trained on are
ImageNet's, whose terms allow non-commercial research and education; weigh that for your use.
"""


def export(run: Training, recipe: Recipe, out: Path, reached: dict[str, float]) -> Path:
    """Write the averaged weights as fp16 safetensors with the keys that timm's hub ``config.json`` carries."""
    name = f"{recipe.name}.tiny_imagenet"
    model = run.ema.module
    classifier = model.pretrained_cfg["classifier"]
    config = {
        "input_size": [3, recipe.input_px, recipe.input_px],
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "num_classes": N_CLASSES,
        "pool_size": None,
        "first_conv": model.pretrained_cfg["first_conv"],
        "classifier": classifier,
    }
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    path = out / f"{name}.safetensors"
    path.unlink(missing_ok=True)
    save_file(
        {k: v.contiguous() for k, v in tensors.items()},
        path,
        {
            "architecture": recipe.architecture,
            "num_classes": str(N_CLASSES),
            "model_args": json.dumps(recipe.model_args),
            "pretrained_cfg": json.dumps(config),
        },
    )
    path.chmod(0o644)
    low, high = binomtest(round(reached["test"] * reached["n_test"]), int(reached["n_test"])).proportion_ci(
        method="wilson"
    )
    parameters = sum(p.numel() for k, p in model.named_parameters() if not k.startswith(f"{classifier}."))
    card = CARD.format(
        name=name,
        architecture=recipe.architecture,
        arguments=", ".join(f"{key} {value}" for key, value in recipe.model_args.items()),
        parameters=parameters,
        megabytes=path.stat().st_size / 1e6,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        px=recipe.input_px,
        dim=model.num_features,
        n_validation=recipe.n_validation,
        recipe=", ".join(f"{key} {value}" for key, value in asdict(recipe).items()),
        low=low,
        high=high,
        teacher_px=recipe.teacher_px,
        date=time.strftime("%Y-%m-%d"),
        **reached,
    )
    path.with_suffix(".md").write_text(card)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--teacher", type=Path, required=True, help="weights of timm's mobilenetv2_100, safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, log and weights")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    asked = parser.parse_args()
    paths = Paths(asked.data, asked.teacher, asked.out)
    paths.out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(epochs=asked.epochs)

    lessons = open_lessons(paths, recipe)
    rendezvous = paths.out / f"rendezvous-{os.getpid()}"
    try:
        spawn(work, (recipe, paths, rendezvous), nprocs=recipe.workers)
    finally:
        rendezvous.unlink(missing_ok=True)

    run = Training(replace(recipe, workers=1), lessons)
    run.load(paths.checkpoint)
    held_out, _ = split(len(lessons.pixels), recipe)
    test_pixels, test_labels = decode(paths.data / "test.parquet", paths.out / "test_pixels.npy")
    history = [json.loads(line) for line in paths.log.read_text().splitlines()]
    model = run.ema.module
    reached = {
        "validation": accuracy(model, lessons.pixels[held_out], lessons.labels[held_out].numpy(), recipe.input_px),
        "test": accuracy(model, test_pixels, test_labels, recipe.input_px),
        "teacher": teacher_reaches(paths, recipe, lessons),
        "n_test": len(test_labels),
        "n_train": len(lessons.rows),
        "hours": sum(line["seconds"] for line in history) / 3600,
    }
    print(export(run, recipe, paths.out, reached), reached)


if __name__ == "__main__":
    main()
