"""From the bytes of a picture to the backbone's input pixels: `prepare` against the plain Pillow transform.

    THAWLINE_REAL_DATA=... python benchmarks/decode.py

Before: what timm's evaluation transform does with Pillow, the whole picture decoded, resized, cropped. Limit: the
picture decoded, and nothing else (JPEG: libjpeg-turbo; PNG: zlib). The three take turns on the same pictures, in one
process, with one thread and with two. Writes decode.md.
"""

from __future__ import annotations

import io
import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thawline.inputs.image.decode import prepare
from thawline.records import ImagePreparation
from thawline.runs.reporting import environment

ROUNDS = 9
INPUT = ImagePreparation(input_px=(224, 224), resize_px=256, mean=(0.5,) * 3, std=(0.5,) * 3)


def plain(data: bytes) -> NDArray[np.uint8]:
    """Resize(256, bicubic) and CenterCrop(224) of torchvision, without torchvision."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    short, long = min(image.size), max(image.size)
    new_long = int(256 * long / short)
    image = image.resize((256, new_long) if image.width <= image.height else (new_long, 256), Image.Resampling.BICUBIC)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    return np.array(image.crop((left, top, left + 224, top + 224)))


def decode(data: bytes) -> None:
    Image.open(io.BytesIO(data)).load()


STEPS: dict[str, Callable[[bytes], object]] = {
    "before": plain,
    "after": lambda data: prepare(data, INPUT),
    "limit": decode,
}


def encoded(image: Image.Image, format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def camera_picture(photographs: list[Image.Image]) -> bytes:
    """4032 x 3024: photographs side by side, each shrunk to 448 x 336, so that it is sharp everywhere."""
    whole = Image.new("RGB", (4032, 3024))
    for i in range(81):
        tile = photographs[i % len(photographs)].resize((448, 336), Image.Resampling.LANCZOS)
        whole.paste(tile, (448 * (i % 9), 336 * (i // 9)))
    return encoded(whole, "JPEG", quality=90)


def pictures(root: Path) -> dict[str, list[bytes]]:
    """What is measured: a name, and encoded pictures of one kind."""
    chosen = random.Random(0)
    photographs = [path.read_bytes() for path in sorted((root / "hymenoptera").rglob("*.jpg"))]
    photographs = [data for data in photographs if max(Image.open(io.BytesIO(data)).size) == 500]
    flowers = sorted((root / "flowers5_128").rglob("*.jpg"))
    chosen.shuffle(photographs)
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in photographs[:100]]
    return {
        "JPEG 500 x 375 (hymenoptera)": photographs[:100],
        "JPEG 128 x 128 (flowers)": [path.read_bytes() for path in chosen.sample(flowers, 300)],
        "JPEG 4032 x 3024 (made of photographs)": [camera_picture(images[i * 20 :]) for i in range(4)],
        "PNG 500 x 375": [encoded(image, "PNG") for image in images],
    }


def rate(step: Callable[[bytes], object], data: list[bytes], threads: int) -> float:
    """Pictures/s."""
    with ThreadPoolExecutor(threads) as pool:
        shares = [data[i::threads] for i in range(threads)]
        began = time.perf_counter()
        list(pool.map(lambda share: [step(one) for one in share] and None, shares))
        return len(data) / (time.perf_counter() - began)


def ranged(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def row(name: str, data: list[bytes], threads: int) -> str:
    rates: dict[str, list[float]] = {step: [] for step in STEPS}
    for number in range(ROUNDS + 1):
        for step, run in STEPS.items():
            found = rate(run, data, threads)
            if number:  # the first round warms up
                rates[step].append(found)
    pairs = zip(rates["before"], rates["after"], rates["limit"], strict=True)
    ratios, shares = zip(*((after / before, after / limit) for before, after, limit in pairs), strict=True)
    cells = [name, str(threads), *(f"{statistics.median(rates[step]):.0f}" for step in STEPS)]
    return "| " + " | ".join([*cells, ranged(list(ratios)), f"{statistics.median(shares):.0%}"]) + " |"


def main() -> None:
    root = os.environ.get("THAWLINE_REAL_DATA")
    if not root:
        print("THAWLINE_REAL_DATA must be set: this benchmark needs real photographs. Nothing was run.")
        return
    machine = ", ".join(f"{name} {value}" for name, value in environment().items())
    lines = [
        "# From the bytes of a picture to input pixels",
        "",
        f"Written by `python benchmarks/decode.py` on {date.today()}; {machine}.",
        "",
        "Pictures per second for an input of 224 px (shorter side to 256, bicubic, centre crop); median of nine",
        "rounds in turn. Before: the plain Pillow transform, which decodes, resizes and crops the whole picture.",
        "After: `prepare`. Limit: decoding all pixels and nothing else. `prepare` decodes half of the largest JPEG in",
        "each direction, so it may pass the limit. Ratio of after to before: median (lowest to highest).",
        "",
        "| pictures | threads | before | after | limit | ratio | share of limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, data in pictures(Path(root)).items():
        for threads in (1, 2):
            lines.append(row(name, data, threads))
            print(lines[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
