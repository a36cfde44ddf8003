"""Pre-train the backbone that ships inside Thawline, on Tiny ImageNet (100,000 pictures of 64 px, 200 classes).

One command, resumable at any moment (start it again with the same arguments):

    python pretraining/pretrain.py --data PATH/tiny_imagenet --out build/pretraining

It writes under --out: ``pixels.npy`` (the decoded pictures), ``checkpoint.pt``, ``log.jsonl`` (one line per epoch) and,
at the end, ``<name>.safetensors`` (fp16) with its metadata and ``<name>.md``, its model card.

The recipe is the short-budget one of FFCV (https://github.com/libffcv/ffcv-imagenet): SGD with Nesterov momentum,
learning rate 0.5 per 256 pictures, weight decay 5e-5 on matrices only, label smoothing 0.1, random resized crop and
flip, resolution that grows during training; plus an exponential moving average of the weights, which is what ships.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from scipy.stats import binomtest

from thawline.backbones.timm_import import import_timm
from thawline.scale.allocator import keep_freed_memory

SOURCE_PX = 64
MEAN = STD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the weights; written into the model card."""

    architecture: str = "regnetx_002"
    epochs: int = 18
    sizes_px: tuple[tuple[float, int], ...] = ((0.0, 64), (0.4, 80), (0.75, 96))
    """(share of training from which it holds, side of the training picture)."""
    input_px: int = 96
    """Side at which the backbone is meant to be used."""
    batch_size: int = 256
    lr: float = 0.5
    warmup_epochs: float = 1.5
    momentum: float = 0.9
    weight_decay: float = 5e-5
    label_smoothing: float = 0.1
    crop_scale_min: float = 0.35
    """Smallest share of the picture's area that a random crop keeps."""
    ema_decay: float = 0.999
    n_validation: int = 2000
    """Pictures of the training file held out to watch progress; the test file chooses nothing."""
    seed: int = 0


def decode(parquet: Path, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 pixels (N, 64, 64, 3), memory-mapped, and int64 labels (N,); decode once into ``cache``."""
    table = pq.read_table(parquet)
    labels = table["label"].to_numpy().astype(np.int64)
    if not cache.exists():
        partial = cache.with_suffix(".partial.npy")
        pixels = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(labels), SOURCE_PX, SOURCE_PX, 3))
        for row, blob in enumerate(table["image"]):
            with Image.open(BytesIO(blob.as_py())) as image:
                pixels[row] = np.asarray(image.convert("RGB"))
        pixels.flush()
        partial.replace(cache)
    return np.load(cache, mmap_mode="r"), labels


def to_input(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W), normalised."""
    batch = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float()
    return batch.div_(255).sub_(MEAN).div_(STD)


def random_crops(batch: torch.Tensor, size_px: int, scale_min: float, generator: torch.Generator) -> torch.Tensor:
    """Random resized crop (aspect ratio 3/4 to 4/3) and horizontal flip, each picture its own; (B, 3, size, size)."""
    n = len(batch)

    def draw(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    area, aspect = draw(scale_min, 1.0), draw(np.log(3 / 4), np.log(4 / 3)).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = width * (torch.rand(n, generator=generator) < 0.5).float().mul(2).sub(1)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = draw(-1, 1) * (1 - width)
    theta[:, 1, 2] = draw(-1, 1) * (1 - height)
    grid = F.affine_grid(theta, [n, 3, size_px, size_px], align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def accuracy(model: torch.nn.Module, pixels: np.ndarray, labels: np.ndarray, size_px: int) -> float:
    """Top-1 of ``model`` in inference mode, pictures resized bilinearly to ``size_px``."""
    model.eval()
    correct = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(labels), 500):
            batch = F.interpolate(to_input(pixels[start : start + 500]), (size_px, size_px), mode="bilinear")
            predicted = model(batch.contiguous(memory_format=torch.channels_last)).argmax(1).numpy()
            correct += int((predicted == labels[start : start + 500]).sum())
    return correct / len(labels)


class Pretraining:
    """The whole state of one pre-training, a function of (recipe, step)."""

    def __init__(self, recipe: Recipe, n_train: int) -> None:
        torch.manual_seed(recipe.seed)  # initial weights only; every later draw has a generator of its own
        timm = import_timm()
        self.recipe = recipe
        self.steps_per_epoch = n_train // recipe.batch_size
        self.n_steps = recipe.epochs * self.steps_per_epoch
        self.step = 0
        self.model = timm.create_model(recipe.architecture, num_classes=200).to(memory_format=torch.channels_last)
        self.ema = timm.utils.ModelEmaV3(self.model, decay=recipe.ema_decay, use_warmup=True)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.SGD(
            [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=True,
        )

    def lr(self) -> float:
        """Linear warm-up, then linear to zero."""
        warmup = self.recipe.warmup_epochs * self.steps_per_epoch
        if self.step < warmup:
            return self.recipe.lr * (self.step + 1) / warmup
        return self.recipe.lr * (self.n_steps - self.step) / (self.n_steps - warmup)

    def size_px(self) -> int:
        return max(px for start, px in self.recipe.sizes_px if self.step >= start * self.n_steps)

    def generator(self, *purpose: int) -> torch.Generator:
        digest = hashlib.sha256(repr((self.recipe.seed, *purpose)).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def train_step(self, pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr()
        batch = random_crops(
            to_input(pixels[rows]), self.size_px(), self.recipe.crop_scale_min, self.generator(1, self.step)
        )
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model(batch.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(
            logits.float(), torch.from_numpy(labels[rows]), label_smoothing=self.recipe.label_smoothing
        )
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.ema.update(self.model, step=self.step)
        return float(loss.detach())

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])


CARD = """# {name}

A {architecture} (timm) without further changes, {parameters:,} parameters without its classifier, trained from random
weights on Tiny ImageNet by `pretraining/pretrain.py`. It ships as fp16 safetensors ({megabytes:.1f} MB).

| | |
|---|---|
| SHA-256 | `{sha256}` |
| input | {px} x {px} px RGB, mean = std = 0.5, bilinear |
| features | {dim} per picture, pooled |
| trained on | Tiny ImageNet: {n_train:,} pictures of 64 x 64 px, 200 classes (a part of ImageNet, recompressed) |
| top-1 on the {n_validation:,} held-out training pictures | {validation:.3f} |
| top-1 on the {n_test:,} test pictures, read once, after training | {test:.3f} (95 % {low:.3f} to {high:.3f}) |
| recipe | {recipe} |
| cost | {hours:.1f} hours of wall-clock time on 2 CPU cores that had other work as well |
| made | {date} |

**What it is for.** A first look, tests, and places without a network: it is small and was trained on small pictures.
For results that matter, compare it with a model trained on ImageNet at full size (`thawline models mobilenet`).

**Limits.** It has seen 64 px pictures of 200 everyday kinds of things, and nothing else: fine texture, text, medical
and satellite pictures are foreign to it. The classes, and their biases, are ImageNet's.

**Licence.** The weights are released under Apache-2.0, like this project. The pictures that they were trained on are
ImageNet's, whose terms allow non-commercial research and education; weigh that for your use.
"""


def export(run: Pretraining, out: Path, reached: dict[str, float]) -> Path:
    """Write the averaged weights as fp16 safetensors with the keys that timm's hub ``config.json`` carries."""
    name = f"{run.recipe.architecture}.tiny_imagenet"
    classifier = run.model.pretrained_cfg["classifier"]
    config = {
        "input_size": [3, run.recipe.input_px, run.recipe.input_px],
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "num_classes": 200,
        "pool_size": None,
        "first_conv": run.model.pretrained_cfg["first_conv"],
        "classifier": classifier,
    }
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in run.ema.module.state_dict().items()}
    path = out / f"{name}.safetensors"
    path.unlink(missing_ok=True)
    save_file(
        {k: v.contiguous() for k, v in tensors.items()},
        path,
        {
            "architecture": run.recipe.architecture,
            "num_classes": "200",
            "model_args": "{}",
            "pretrained_cfg": json.dumps(config),
        },
    )
    path.chmod(0o644)
    low, high = binomtest(round(reached["test"] * reached["n_test"]), int(reached["n_test"])).proportion_ci(
        method="wilson"
    )
    parameters = sum(p.numel() for k, p in run.model.named_parameters() if not k.startswith(f"{classifier}."))
    card = CARD.format(
        name=name,
        architecture=run.recipe.architecture,
        parameters=parameters,
        megabytes=path.stat().st_size / 1e6,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        px=run.recipe.input_px,
        dim=run.model.num_features,
        n_validation=run.recipe.n_validation,
        recipe=", ".join(f"{key} {value}" for key, value in asdict(run.recipe).items()),
        low=low,
        high=high,
        date=time.strftime("%Y-%m-%d"),
        **reached,
    )
    path.with_suffix(".md").write_text(card)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, log and weights")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()

    recipe = Recipe(epochs=arguments.epochs)
    pixels, labels = decode(arguments.data / "train.parquet", arguments.out / "pixels.npy")
    order = np.random.default_rng(recipe.seed).permutation(len(labels))
    held_out, train = np.sort(order[: recipe.n_validation]), order[recipe.n_validation :]
    run = Pretraining(recipe, len(train))
    checkpoint = arguments.out / "checkpoint.pt"
    if checkpoint.exists():
        run.load(checkpoint)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("pre-training", total=run.n_steps, completed=run.step)
        losses: list[float] = []
        started = time.monotonic()
        while run.step < run.n_steps:
            epoch, first = divmod(run.step, run.steps_per_epoch)
            shuffled = torch.randperm(len(train), generator=run.generator(0, epoch)).numpy()
            for position in range(first, run.steps_per_epoch):
                start = position * recipe.batch_size
                losses.append(run.train_step(pixels, labels, train[shuffled[start : start + recipe.batch_size]]))
                progress.update(task, completed=run.step, description=f"loss {np.mean(losses[-50:]):.3f}")
                if run.step % 100 == 0:
                    run.save(checkpoint)
            run.save(checkpoint)
            line = {
                "epoch": epoch + 1,
                "size_px": run.size_px(),
                "loss": round(float(np.mean(losses)), 4),
                "validation_accuracy": accuracy(run.ema.module, pixels[held_out], labels[held_out], recipe.input_px),
                "seconds": round(time.monotonic() - started, 1),
            }
            losses, started = [], time.monotonic()
            with (arguments.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            progress.console.print(line)

    test_pixels, test_labels = decode(arguments.data / "test.parquet", arguments.out / "test_pixels.npy")
    history = [json.loads(line) for line in (arguments.out / "log.jsonl").read_text().splitlines()]
    reached = {
        "validation": accuracy(run.ema.module, pixels[held_out], labels[held_out], recipe.input_px),
        "test": accuracy(run.ema.module, test_pixels, test_labels, recipe.input_px),
        "n_test": len(test_labels),
        "n_train": len(train),
        "hours": sum(line["seconds"] for line in history) / 3600,
    }
    print(export(run, arguments.out, reached), reached)


if __name__ == "__main__":
    main()
