"""Which pictures are taken for copies: planted copies, natural ones, fixed cameras, and 60,000 sketches.

    THAWLINE_REAL_DATA=... python benchmarks/copies.py

Three methods group the same pictures. Before: sketches of 16 x 16 pixels within 5 grey levels, joined by chains. After:
``find_copies``. Rival: the perceptual hash of imagededup (32 x 32 grey, discrete cosine transform, 64 bits, at most 10
bits apart, its default), joined by chains, and the same with at most 4 bits. Writes copies.md.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.fft import dct

from thawline.data.duplicates import find_copies
from thawline.evaluation.intervals import wilson
from thawline.inputs.components import components
from thawline.inputs.image.decode import open_image
from thawline.inputs.image.kind import look
from thawline.inputs.image.sketches import near_pairs
from thawline.inputs.kind import digest_of
from thawline.runs.reporting import environment

HERE = Path(__file__).parent
N_PLANTED = 60
FOLDERS = {"hymenoptera": "hymenoptera", "flowers5_128": "flowers5_128/all", "brain_mri": "brain_mri/all"}
SAME_DETAIL = 0.8
"""Correlation of fine detail from which two pictures show one photograph. Looked at by eye: all pairs above it do, and
below 0.6 nearly none."""
SAME_COLOUR = 8
"""Grey levels, mean absolute difference of 64 x 64 pixels, up to which it was saved again; beyond, it was edited."""

Groups = NDArray[np.int64]
Method = Callable[[list[bytes], NDArray[np.int64]], Groups]


def before(files: list[bytes], labels: NDArray[np.int64]) -> Groups:
    del labels
    sketches = np.stack([look(file)[0] for file in files])
    return joined(near_pairs(sketches), len(files))


def after(files: list[bytes], labels: NDArray[np.int64]) -> Groups:
    sketches = np.stack([look(file)[0] for file in files])
    return find_copies([digest_of(file) for file in files], sketches, labels=labels)[0]


def perceptual_hash(most: int) -> Method:
    def method(files: list[bytes], labels: NDArray[np.int64]) -> Groups:
        del labels
        bits = np.stack([hash_of(file) for file in files]).astype(np.float32)
        apart = 64 - (bits @ bits.T + (1 - bits) @ (1 - bits).T)
        return joined([np.argwhere(np.triu(apart <= most, 1))], len(files))

    return method


def hash_of(file: bytes) -> NDArray[np.bool_]:
    grey = np.asarray(open_image(file).convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    low = dct(dct(grey, axis=0), axis=1)[:8, :8].ravel()
    return low >= np.median(low[1:])


METHODS: dict[str, Method] = {
    "before": before,
    "after": after,
    "hash, 10 bits": perceptual_hash(10),
    "hash, 4 bits": perceptual_hash(4),
}


def joined(found: Iterator[NDArray[np.int64]] | list[NDArray[np.int64]], n: int) -> Groups:
    pairs = np.concatenate([np.empty((0, 2), np.int64), *found])
    return components(pairs, n)


def linked(groups: Groups) -> set[tuple[int, int]]:
    order = np.argsort(groups, kind="stable")
    sets = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return {pair for rows in sets if len(rows) > 1 for pair in combinations(sorted(rows.tolist()), 2)}


def encoded(image: Image.Image, format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def half(image: Image.Image) -> Image.Image:
    return image.resize((max(image.width // 2, 1), max(image.height // 2, 1)), Image.Resampling.BICUBIC)


SAVED_AGAIN: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG, quality 90": lambda image: encoded(image, "JPEG", quality=90),
    "JPEG, quality 70": lambda image: encoded(image, "JPEG", quality=70),
    "half the size": lambda image: encoded(half(image), "JPEG", quality=90),
    "PNG": lambda image: encoded(image, "PNG"),
    "JPEG, quality 30": lambda image: encoded(image, "JPEG", quality=30),
    "WebP, quality 60": lambda image: encoded(image, "WEBP", quality=60),
    "2 % brighter": lambda image: encoded(image.point(lambda v: min(255, round(v * 1.02))), "JPEG", quality=90),
}
ASKED = 4
"""The first of these must all be found."""


def detail(file: bytes) -> NDArray[np.float64]:
    """Grey, 64 x 64, less its surroundings, of length 1."""
    grey = np.asarray(open_image(file).convert("L").resize((64, 64), Image.Resampling.BOX), dtype=float)
    padded = np.pad(grey, 2, mode="edge")
    fine = grey - sum(padded[y : y + 64, x : x + 64] for y in range(5) for x in range(5)) / 25
    return fine.ravel() / max(float(np.linalg.norm(fine)), 1e-9)


def relation(one: bytes, other: bytes) -> str:
    """Say what two files are: ``saved again``, ``edited`` (other light or colours) or ``different``."""
    if float(detail(one) @ detail(other)) < SAME_DETAIL:
        return "different"
    a, b = (np.asarray(open_image(file).convert("RGB").resize((64, 64)), dtype=float) for file in (one, other))
    return "saved again" if float(np.abs(a - b).mean()) <= SAME_COLOUR else "edited"


def share(hits: int, n: int) -> str:
    if not n:
        return "-"
    low, high = wilson(hits, n)
    return f"{hits} of {n} ({low:.3f} to {high:.3f})"


def read(root: Path, folder: str) -> tuple[list[bytes], NDArray[np.int64]]:
    """Read each content once, and the class of each."""
    paths = sorted(path for path in (root / folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    contents = {path.read_bytes(): path.parent.name for path in paths}
    return list(contents), np.unique(list(contents.values()), return_inverse=True)[1].astype(np.int64)


def real_sets(root: Path) -> list[str]:
    """Planted copies are copies; pairs of other pictures are judged by their detail."""
    lines = [
        "| data | method | planted copies found: 90, 70, half, PNG | other ways of saving | natural copies found "
        "| edited versions linked | linked pairs that show one photograph | largest group |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, folder in FOLDERS.items():
        files, labels = read(root, folder)
        rng = np.random.default_rng(0)
        chosen = rng.choice(len(files), N_PLANTED, replace=False)
        of, kinds, planted = [], [], []
        for row in chosen:
            image = open_image(files[row]).convert("RGB")
            for kind, (_, save) in enumerate(SAVED_AGAIN.items()):
                planted.append(save(image))
                of.append(int(row))
                kinds.append(kind)
        n, everything = len(files), [*files, *planted]
        all_labels = np.concatenate([labels, labels[of]])
        origin = np.concatenate([np.arange(n), of])
        found = {method: linked(group(everything, all_labels)) for method, group in METHODS.items()}
        # of natural pairs nothing is known: whatever any method links is judged
        natural = {
            (min(origin[a], origin[b]), max(origin[a], origin[b]))
            for pairs in found.values() for a, b in pairs if origin[a] != origin[b]
        }  # fmt: skip
        judged = {(int(a), int(b)): relation(files[a], files[b]) for a, b in natural}
        copies, edited = ({pair for pair, is_ in judged.items() if is_ == word} for word in ("saved again", "edited"))
        for method, pairs in found.items():
            hits = [(origin[n + i], n + i) in pairs for i in range(len(of))]
            asked = [hit for hit, kind in zip(hits, kinds, strict=True) if kind < ASKED]
            others = [hit for hit, kind in zip(hits, kinds, strict=True) if kind >= ASKED]
            right = sum(
                origin[a] == origin[b] or (min(origin[a], origin[b]), max(origin[a], origin[b])) in copies | edited
                for a, b in pairs
            )
            largest = max((len(rows) for rows in sets_of(pairs)), default=1)
            lines.append(
                f"| {name} | {method} | {share(sum(asked), len(asked))} | {share(sum(others), len(others))} "
                f"| {share(len(copies & pairs), len(copies))} | {len(edited & pairs)} of {len(edited)} "
                f"| {share(right, len(pairs))} | {largest} |"
            )
    return lines


def sets_of(pairs: set[tuple[int, int]]) -> list[set[int]]:
    sets: dict[int, set[int]] = {}
    for a, b in pairs:
        sets.setdefault(a, {a}).add(b)
    return list(sets.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A scene that is photographed again and again."""

    size: tuple[int, int] = (128, 128)
    noise: float = 3
    lamp: float = 0.02
    """Largest change of the light, as a share."""
    jitter: float = 0
    """Pixels that a picture is off, standard deviation."""
    drift: float = 0
    """Pixels that the camera moves between two pictures."""
    light: float = 1
    """Of the scene, as a share."""
    grey: bool = False
    day: float = 0
    """Change of the light from the first to the last picture, as a share."""
    scene: str = "photograph"


CAMERAS = {
    "inspection line, 128 px": Camera(),
    "the same, 640 x 480": Camera(size=(640, 480)),
    "sensor almost without noise": Camera(noise=0.5, lamp=0.002),
    "noisy sensor": Camera(noise=8),
    "lamp ±5 %": Camera(lamp=0.05),
    "camera trap at night: grey, dark": Camera(grey=True, light=0.2),
    "tripod that shakes": Camera(jitter=0.5, lamp=0.01, noise=2),
    "camera that moves slowly": Camera(drift=0.15, lamp=0.005, noise=2),
    "time lapse, 640 x 480": Camera(size=(640, 480), day=0.4, lamp=0.005, noise=2),
    "object on a conveyor": Camera(scene="conveyor", noise=2),
    "tiles of one texture": Camera(scene="texture", noise=2),
    "forms on white paper": Camera(scene="form", noise=1, lamp=0.005),
    "two cameras": Camera(scene="two"),
}
N_FRAMES, N_COPIED = 60, 8


def frames(camera: Camera, photographs: list[Image.Image], seed: int) -> Iterator[Image.Image]:
    rng = np.random.default_rng(seed)
    width, height = camera.size
    large = (width + 40, height + 40)
    scenes = [photograph.resize(large, Image.Resampling.BICUBIC) for photograph in photographs]
    for i in range(N_FRAMES):
        image = scenes[i % 2 if camera.scene == "two" else 0]
        if camera.scene == "form":
            image = Image.new("RGB", large, (252, 252, 250))
            draw = ImageDraw.Draw(image)
            for line in range(24, height, 12):
                draw.line([(30, line), (width, line)], fill=(120, 120, 120))
                x = int(rng.integers(30, width - 20))
                draw.line([(x, line - 3), (x + int(rng.integers(8, 40)), line - 4)], fill=(30, 30, 60), width=3)
        if camera.scene == "texture":
            grain = np.random.default_rng(7).normal(0, 25, (large[1], large[0], 1)) + 128
            texture = np.repeat(grain, 3, axis=2).clip(0, 255).astype(np.uint8)
            image = Image.fromarray(np.roll(texture, rng.integers(0, height, 2), axis=(0, 1)))
        dx, dy = rng.normal(0, camera.jitter, 2) if camera.jitter else (0.0, 0.0)
        dx += camera.drift * i
        if dx or dy:
            image = image.transform(large, Image.Transform.AFFINE, (1, 0, dx, 0, 1, dy), Image.Resampling.BICUBIC)
        image = image.crop((20, 20, 20 + width, 20 + height))
        if camera.scene == "conveyor":
            x = int(rng.integers(10, width - 40))
            ImageDraw.Draw(image).ellipse([x, height // 2, x + 24, height // 2 + 24], fill=(150, 60, 40))
        elif i % 3 == 0 and camera.scene != "form":
            x, y = (int(rng.integers(side // 6, side * 4 // 6)) for side in (width, height))
            ImageDraw.Draw(image).line([(x, y), (x + width // 8, y + height // 12)], (15, 15, 15), max(2, width // 64))
        values = np.asarray(image, dtype=float) * camera.light * (1 + camera.day * i / N_FRAMES)
        if camera.grey:
            values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
        values *= rng.uniform(1 - camera.lamp, 1 + camera.lamp)
        values += rng.normal(0, camera.noise, (*values.shape[:2], 1 if camera.grey else 3))
        yield Image.fromarray(values.clip(0, 255).astype(np.uint8))


def cameras(root: Path) -> list[str]:
    """Frames are no copies; of eight, the same pixels are there once more in another file, and at quality 95."""
    photographs = [Image.open(path).convert("RGB") for path in sorted((root / "hymenoptera").rglob("*.jpg"))[3:5]]
    lines = [
        f"| {N_FRAMES} pictures | " + " | ".join(f"{name}: largest group, wrong links" for name in METHODS)
        + " | after: same pixels found, JPEG 95 found |",
        "|---" * (len(METHODS) + 2) + "|",
    ]  # fmt: skip
    labels = np.concatenate([np.arange(N_FRAMES) % 3 == 0, np.zeros(2 * N_COPIED, bool)]).astype(np.int64)
    for name, camera in CAMERAS.items():
        images = list(frames(camera, photographs, seed=0))
        copied = range(0, N_FRAMES, N_FRAMES // N_COPIED + 1)
        files = [encoded(image, "PNG") for image in images]
        files += [encoded(images[row], "BMP") for row in copied]
        files += [encoded(images[row], "JPEG", quality=95) for row in copied]
        origin = [*range(N_FRAMES), *copied, *copied]
        cells, found = [], [0, 0]
        for method, group in METHODS.items():
            groups = group(files, labels[: len(files)])
            pairs = linked(groups)
            wrong = sum(origin[a] != origin[b] for a, b in pairs)
            cells.append(f"{np.bincount(groups).max()}, {wrong}")
            if method == "after":
                n = len(copied)
                found = [sum((row, N_FRAMES + at * n + i) in pairs for i, row in enumerate(copied)) for at in (0, 1)]
        lines.append(f"| {name} | {' | '.join(cells)} | {found[0]} of {len(copied)}, {found[1]} of {len(copied)} |")
    return lines


def large_data(root: Path) -> list[str]:
    """Time of the search alone, in sketches that are there already."""
    import pyarrow.parquet as pq

    rows = pq.read_table(root / "fashion_mnist_small" / "train.parquet", columns=["image"])["image"].to_pylist()
    garments = np.stack([look(row["bytes"] if isinstance(row, dict) else row)[0] for row in rows])
    rng = np.random.default_rng(0)
    many = np.concatenate([garments] * 10).astype(np.int16)
    many = (many + rng.integers(-12, 13, many.shape)).clip(0, 255).astype(np.uint8)
    scene = rng.integers(0, 256, (1, 16, 16, 3)) * rng.uniform(0.98, 1.02, (4000, 1, 1, 1))
    camera = (scene + rng.normal(0, 0.5, scene.shape)).clip(0, 255).astype(np.uint8)
    lines = ["| sketches | before, s | after, s | linked after |", "|---|---|---|---|"]
    for name, sketches in (
        ("fashion-MNIST, 6,000", garments),
        ("fashion-MNIST, 60,000", many),
        ("one camera, 4,000", camera),
    ):
        digests, labels = [f"{row}" for row in range(len(sketches))], np.arange(len(sketches)) % 10
        started = time.perf_counter()
        joined_before(sketches)
        middle = time.perf_counter()
        groups, _ = find_copies(digests, sketches, labels=labels)
        ended = time.perf_counter()
        lines.append(
            f"| {name} | {middle - started:.1f} | {ended - middle:.1f} | {len(sketches) - len(np.unique(groups))} |"
        )
    return lines


def joined_before(sketches: NDArray[np.uint8]) -> Groups:
    """Chains, pair by pair as they were found: no more memory than a block of them."""
    labels = np.arange(len(sketches), dtype=np.int64)
    for pairs in near_pairs(sketches):
        apart = labels[pairs]
        apart = apart[apart[:, 0] != apart[:, 1]]
        if len(apart):
            labels = components(apart, len(labels))[labels]
    return labels


def main() -> None:
    root = Path(os.environ["THAWLINE_REAL_DATA"])
    page = [
        "# Copies", "", __doc__.split("\n\n", 2)[2].strip().replace("``", "`"), "",
        f"Measured {date.today()} on {', '.join(f'{key} {value}' for key, value in environment().items())}.", "",
        "## Copies among real pictures", "",
        f"{N_PLANTED} pictures of each set, drawn with seed 0, are saved again in {len(SAVED_AGAIN)} ways: JPEG of "
        "quality 90, 70 and 30, half the size, PNG, WebP of quality 60, 2 % brighter. A copy is found if it shares a "
        "group with its picture. Pairs of different files that any method links are judged by the correlation of their "
        f"detail (64 x 64 grey, less the mean of 5 x 5): from {SAME_DETAIL} on they show one photograph. It is a "
        f"natural copy if its colours differ by at most {SAME_COLOUR} grey levels, else an edited version (other "
        "light, other colours, black and white), which is no copy here. Intervals are Wilson's, 95 %.", "",
        *real_sets(root), "",
        "## Pictures of one camera", "",
        f"{N_FRAMES} pictures of a scene; on every third is a scratch, or the object lies elsewhere. None is a copy of "
        f"another. {N_COPIED} are there twice more: the same pixels in another file, and as JPEG of quality 95. Wrong "
        "links are pairs of different frames in one group.", "", *cameras(root), "",
        "## Large data", "", "The search among sketches that were read before, on two cores.", "",
        *large_data(root), "",
    ]  # fmt: skip
    (HERE / "copies.md").write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))


if __name__ == "__main__":
    main()
