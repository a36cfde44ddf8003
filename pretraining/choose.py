"""Which small network learns most in the same processor time? Writes pretraining/architectures.md.

    python pretraining/choose.py --data PATH/tiny_imagenet --out build/pretraining

Each candidate is trained from random weights on one core for the same seconds of processor time, on labels alone, the
pictures growing from 64 to 96 px; then it is judged on 5,000 held-out training pictures. A candidate has at most 5
million parameters without a classifier. That is a short trial: it shows what learns fast, which is what a budget of an
hour or two on two cores asks for, and not what would win in a week.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pictures import crop, decode, draw_boxes, generator, to_input

from thawline.backbones.providers.timm_import import import_timm
from thawline.runs.reporting import environment
from thawline.scale.allocator import keep_freed_memory
from training import N_CLASSES, Recipe, accuracy, optimiser_of

CANDIDATES: dict[str, dict[str, Any]] = {
    "regnetx_002": {},
    "regnetx_004": {},
    "fasternet_t0": {},
    "resnet18": {"channels": [32, 64, 128, 256]},
}
SECONDS = 230.0
BATCH = 128
N_HELD_OUT = 5_000
SIZES_PX = (64, 64, 80, 96)
WARMUP = 0.08
"""Share of the time in which the learning rate rises."""


def tried(name: str, arguments: dict[str, Any], pixels: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Train one candidate for ``SECONDS`` and judge it."""
    recipe = Recipe()
    timm = import_timm()
    order = np.random.default_rng(0).permutation(len(labels))
    held_out, rows = np.sort(order[:N_HELD_OUT]), order[N_HELD_OUT:]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=N_CLASSES, **arguments).to(memory_format=torch.channels_last)
    average = timm.utils.ModelEmaV3(model, decay=0.998, use_warmup=True)
    optimiser = optimiser_of(model, recipe)
    draws, picks = generator(0, 4), np.random.default_rng(1)
    used_s, step = 0.0, 0
    model.train()
    while used_s < SECONDS:
        started, done = time.process_time(), used_s / SECONDS
        for group in optimiser.param_groups:
            group["lr"] = max(recipe.lr * BATCH / recipe.batch_size * min(done / WARMUP, 1) * (1 - done), 1e-4)
        part = rows[picks.integers(0, len(rows), BATCH)]
        boxes = draw_boxes(BATCH, recipe.crop_scale_min, draws)
        flipped = torch.rand(BATCH, generator=draws) < 0.5
        batch = crop(to_input(pixels[part]), boxes, SIZES_PX[int(done * len(SIZES_PX))], flipped)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch.contiguous(memory_format=torch.channels_last))
        targets = torch.from_numpy(labels[part])
        torch.autograd.backward(F.cross_entropy(logits.float(), targets, label_smoothing=0.1))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        average.update(model, step=step)
        used_s += time.process_time() - started
    classifier = model.pretrained_cfg["classifier"]
    return {
        "name": name,
        "arguments": arguments,
        "parameters": sum(p.numel() for k, p in model.named_parameters() if not k.startswith(f"{classifier}.")),
        "pictures": step * BATCH,
        "accuracy": accuracy(average.module, pixels[held_out], labels[held_out], SIZES_PX[-1]),
    }


def page(found: list[dict[str, Any]]) -> list[str]:
    rows = []
    for one in sorted(found, key=lambda one: -one["accuracy"]):
        arguments = ", ".join(f"{key} {value}" for key, value in one["arguments"].items())
        rows.append(
            f"| {one['name']} {arguments} | {one['parameters'] / 1e6:.2f} | {one['pictures']:,} | "
            f"{100 * one['accuracy']:.1f} |"
        )
    return [
        "# Small networks, the same processor time each",
        "",
        f"Written by `python pretraining/choose.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        f"{SECONDS:.0f} seconds of one core, from random weights, on labels alone; then top-1 on {N_HELD_OUT:,}",
        "held-out pictures (a standard error is 0.5 points).",
        "",
        "| architecture (timm) | million parameters | pictures seen | top-1, % |",
        "|---|---|---|---|",
        *rows,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder for the decoded pictures")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    torch.set_num_threads(1)
    pixels, labels = decode(asked.data / "train.parquet", asked.out / "pixels.npy")
    found = []
    for name, arguments in CANDIDATES.items():
        found.append(tried(name, arguments, pixels, labels))
        print(json.dumps(found[-1]), flush=True)
    Path(__file__).with_name("architectures.md").write_text("\n".join(page(found)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
