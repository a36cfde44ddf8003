"""From JPEG files to stored features: share of the machine's limit, and how it grows. Writes benchmarks/extraction.md.

    python benchmarks/extraction.py
    python benchmarks/extraction.py --page extraction_avx2    (writes benchmarks/extraction_avx2.md)
    python benchmarks/extraction.py --growth-only             (prints how cost and memory grow; writes nothing)

Needs THAWLINE_REAL_DATA (hymenoptera and flowers5_128, taken together) and, for the MobileNetV2, THAWLINE_REAL_WEIGHTS;
the other two models have random weights, which cost the same. Every figure comes from a process of its own; what is
compared takes turns. The limit is 1 / (t_decode + t_engine), both measured on their own with all processors in the same
round: what a machine that wastes nothing between the two would reach.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from thawline.records import Precision

N_ROUNDS = 3
N_PICTURES, N_EAGER = 1024, 96
EAGER = ("eager", "eager-tuned")
MODELS = {"mobilenetv2_100": {"pad_type": "same"}, "resnet50": {}, "vit_small_patch16_224": {}}
KEPT = Path(__file__).with_suffix(".part.json")
"""What a run that was stopped has measured already."""
SIZES = (1_000, 2_000, 4_000, 16_000, 20_000, 64_000)
N_START = 64
"""Pictures by which the start is timed: that of threads, and reading the converted model and preparing it to run."""


@dataclass(frozen=True)
class Files:
    """Encoded pictures; beyond their number they come again with other bytes behind their end, so as new content."""

    paths: tuple[Path, ...]
    n: int
    first: int = 0

    def read(self, index: int) -> bytes:
        again, place = divmod(self.first + index, len(self.paths))
        return self.paths[place].read_bytes() + (again.to_bytes(4, "little") if again else b"")

    def __len__(self) -> int:
        return self.n


@dataclass(frozen=True)
class Samples:
    """What ``extract_features`` takes."""

    files: tuple[str, ...]
    source: Any
    digests: tuple[str, ...]


def samples(folder: Path, n: int, first: int = 0) -> Samples:
    from thawline.data.scan import digest_of

    source = Files(tuple(sorted(folder.glob("*.jpg"))), n, first)
    return Samples(tuple(f"{i}.jpg" for i in range(n)), source, tuple(digest_of(source.read(i)) for i in range(n)))


def opened(model: str, folder: Path) -> Any:
    """The backbone: real weights where there are some, else random ones."""
    import thawline as tl

    if model == "embedded":
        return tl.open_backbone()
    return tl.open_backbone(f"timm/{model}@{folder / model}.safetensors", model_args=MODELS[model])


def computes_in() -> Precision:
    """What Thawline computes in here unless it is asked for something else: bf16 where there is hardware for it."""
    from thawline.engines.choices import hardware

    return hardware()[1]


def part_decode(model: str, folder: Path, n: int) -> dict[str, float]:
    """Decode, resize and crop with all processors."""
    from thawline.inputs.image.decode import prepare
    from thawline.scale.processors import usable_processors

    preparation, chosen = opened(model, folder).preparation, samples(folder, n)
    with ThreadPoolExecutor(usable_processors()) as pool:
        list(pool.map(lambda i: prepare(chosen.source.read(i), preparation), range(64)))
        return timed(lambda: list(pool.map(lambda i: prepare(chosen.source.read(i), preparation).sum(), range(n))), n)


def part_engine(model: str, folder: Path, n: int) -> dict[str, float]:
    """The engine alone, pixels in memory, with all processors."""
    from thawline.engines.building import ConvertedBackbone
    from thawline.engines.openvino_engine import OpenVINOEngine
    from thawline.store.store import FeatureStore

    backbone = opened(model, folder)
    engine = OpenVINOEngine(
        ConvertedBackbone(FeatureStore().root, backbone, ("pooled",)).opened(computes_in()), computes_in()
    )
    pixels = np.random.default_rng(0).integers(0, 256, (32, *backbone.preparation.input_px, 3), dtype=np.uint8)
    with ThreadPoolExecutor(engine.workers) as pool:
        list(pool.map(lambda _: engine.run(pixels), range(4)))
        return timed(lambda: list(pool.map(lambda _: engine.run(pixels), range(n // 32))), n)


def part_whole(model: str, folder: Path, n: int) -> dict[str, float]:
    """Files to stored features; the backbone is converted already, its engine is built on the clock."""
    from thawline.features.extract import extract_features
    from thawline.store.store import FeatureStore

    backbone, chosen, store = opened(model, folder), samples(folder, n), FeatureStore()
    backbone.weights_sha256  # noqa: B018 - read once for each process
    figures = timed(lambda: extract_features(chosen, backbone, engine="openvino", store=store), n)
    store.clear()
    return figures


def part_eager(model: str, folder: Path, n: int, *, tuned: bool = False) -> dict[str, float]:
    """What everybody writes: timm, its transform, a DataLoader with defaults, float32."""
    if tuned:
        from thawline.scale.allocator import keep_freed_memory

        keep_freed_memory()
    import torch
    from PIL import Image

    from thawline.backbones.providers.timm_import import import_timm

    timm = import_timm()
    path = str(folder / f"{model}.safetensors")
    network = timm.create_model(model, num_classes=0, checkpoint_path="", **MODELS[model]).eval()
    from safetensors.torch import load_file

    network.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    paths = sorted(folder.glob("*.jpg"))[:n]

    class Pictures(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            picture: torch.Tensor = transform(Image.open(paths[index]).convert("RGB"))
            return picture

    with torch.inference_mode():
        network(torch.zeros(32, 3, 224, 224))
        return timed(lambda: [network(batch) for batch in torch.utils.data.DataLoader(Pictures(), batch_size=32)], n)


def part_size(model: str, folder: Path, n: int) -> dict[str, float]:
    """As ``part_whole``, of any number of pictures, without gathering the features at the end; a few tell the start."""
    from thawline.features.extract import fill_store
    from thawline.store.store import FeatureStore

    backbone, chosen, store = opened(model, folder), samples(folder, n), FeatureStore()
    before = peak_mb()

    def seconds(some: Samples) -> float:
        started = time.perf_counter()
        fill_store(some, backbone, ("pooled",), store=store)
        return time.perf_counter() - started

    few_s, many_s = seconds(samples(folder, N_START, first=n)), seconds(chosen)
    store.clear()
    each_s = (many_s - few_s) / (n - N_START)
    return {"each_s": each_s, "start_s": few_s - N_START * each_s, "peak_mb": peak_mb(), "before_mb": before}


def peak_mb() -> float:
    """Largest resident memory of this process so far; getrusage would count its parent's, from before the exec."""
    line = next(line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def timed(work: Callable[[], object], n: int) -> dict[str, float]:
    started = time.perf_counter()
    work()
    return {"per_s": n / (time.perf_counter() - started)}


PARTS: dict[str, Callable[..., dict[str, float]]] = {
    "decode": part_decode,
    "engine": part_engine,
    "whole": part_whole,
    "eager": part_eager,
    "eager-tuned": lambda *args: part_eager(*args, tuned=True),
    "size": part_size,
}


def in_a_process(part: str, model: str, folder: Path, n: int) -> dict[str, float]:
    """Run one part in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--model", model, "--folder", str(folder), "--n", str(n)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    environment["THAWLINE_CACHE"] = str(folder / "cache")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{part} {model}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def write_pictures(data: Path, folder: Path) -> None:
    """Every JPEG of hymenoptera and flowers5_128 as a file, in an order that mixes the two."""
    import thawline as tl

    places = []
    for name in ("hymenoptera", "flowers5_128"):
        opened_data = tl.open_data(data / name)
        places += [(opened_data, i) for i, file in enumerate(opened_data.files) if not file.lower().endswith(".gif")]
    order = np.random.default_rng(0).permutation(len(places))
    for number, place in enumerate(order[: max(N_PICTURES, 4_000)]):
        source, i = places[place]
        payload = source.source.read(i)
        if bytes(payload[:3]) == b"\xff\xd8\xff":
            (folder / f"{number:05d}.jpg").write_bytes(payload)


def write_weights(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from thawline.backbones.providers.timm_import import import_timm

    real = os.environ.get("THAWLINE_REAL_WEIGHTS")
    for model, arguments in MODELS.items():
        target = folder / f"{model}.safetensors"
        if model == "mobilenetv2_100" and real:
            target.symlink_to(Path(real).resolve() / "mobilenetv2_100.imagenet.safetensors")
            continue
        torch.manual_seed(0)
        network = import_timm().create_model(model, num_classes=0, **arguments)
        metadata = {"architecture": model, "pretrained_cfg": json.dumps(network.pretrained_cfg)}
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, target, metadata)


def spread(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def speed_rows(folder: Path, models: list[str]) -> list[str]:
    rows = []
    for model in models:
        in_a_process("engine", model, folder, 64)  # converts it
        rounds = []
        for _ in range(N_ROUNDS):
            counts = dict.fromkeys(("decode", "engine", "whole"), N_PICTURES) | dict.fromkeys(EAGER, N_EAGER)
            rounds.append({part: in_a_process(part, model, folder, size)["per_s"] for part, size in counts.items()})
            print(model, {name: round(value) for name, value in rounds[-1].items()}, flush=True)
        limits = [1 / (1 / r["decode"] + 1 / r["engine"]) for r in rounds]
        shares = [100 * r["whole"] / limit for r, limit in zip(rounds, limits, strict=True)]
        cells = [spread([r[part] for r in rounds]) for part in ("decode", "engine")]
        cells += [spread(limits), spread([r["whole"] for r in rounds]), spread(shares)]
        for part in EAGER:
            cells.append(spread([r[part] for r in rounds]))
            cells.append(spread([r["whole"] / r[part] for r in rounds], 1))
        rows.append(f"| {model} | {' | '.join(cells)} |")
    return rows


def size_rows(folder: Path, sizes: list[int]) -> list[str]:
    in_a_process("engine", "embedded", folder, 64)
    rows, totals = [], []
    for n in sizes:
        figures = in_a_process("size", "embedded", folder, n)
        print(n, figures, flush=True)
        each, start = figures["each_s"], figures["start_s"]
        cost = f"{1e3 * each:.2f} | {start:.2f} | {1e3 * (each + start / n):.2f}"
        rows.append(f"| {n:,} | {cost} | {figures['peak_mb']:.0f} | {figures['before_mb']:.0f} |")
        totals.append(start + each * n)
    return [*rows, "", *straight(sizes, totals)]


def straight(sizes: list[int], totals: list[float]) -> list[str]:
    """How far the seconds are from a start and so much for each picture, by least squares of the relative errors."""
    if len(sizes) < 3:
        return []
    terms = np.stack([np.ones(len(sizes)), sizes], axis=1) / np.array(totals)[:, None]
    (start, each), *_ = np.linalg.lstsq(terms, np.ones(len(sizes)))
    off = np.abs(terms @ (start, each) - 1).max()
    return [
        f"{start:.2f} s and {1e3 * each:.2f} ms for every picture describe them all, the worst to {100 * off:.1f} %:",
        "part of the start is spent while the first pictures are decoded.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("part", "model", "folder"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--page", default="extraction", help="name of the page; one for each processor")
    parser.add_argument("--growth-only", action="store_true", help="print how cost and memory grow; write nothing")
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(PARTS[asked.part](asked.model, Path(asked.folder), asked.n)))
        return
    if not os.environ.get("THAWLINE_REAL_DATA"):
        print("THAWLINE_REAL_DATA is not set: benchmarks/extraction.py needs hymenoptera and flowers5_128.")
        return
    from thawline.runs.reporting import environment
    from thawline.scale.processors import processor_name

    rows: dict[str, Callable[[Path], list[str]]] = {
        "speed": lambda folder: speed_rows(folder, asked.models),
        "size": lambda folder: size_rows(folder, asked.sizes),
    }
    made: dict[str, list[str]] = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(Path(os.environ["THAWLINE_REAL_DATA"]), folder)
        if asked.growth_only:
            print("\n".join(size_rows(folder, asked.sizes)))
            return
        write_weights(folder)
        for part in [part for part in rows if part not in made]:
            made[part] = rows[part](folder)
            KEPT.write_text(json.dumps(made), "utf-8")
        lines = [
            f"# Extraction ({processor_name()})",
            "",
            f"Written by `python benchmarks/extraction.py` on {time.strftime('%Y-%m-%d')}; "
            f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
            "",
            f"Pictures per second: median of {N_ROUNDS} rounds (lowest to highest). Every figure comes from a process "
            "of its own, without imports and conversion. Pictures: hymenoptera and flowers5_128 mixed, 224 px, "
            f"{computes_in()}.",
            "",
            "| model | decode | engine | limit | files to stored features | % of limit "
            "| eager f32 | times | eager, allocator tuned | times |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *made["speed"],
            "",
            "How cost and memory grow, with the embedded model at its own size (one process each):",
            "",
            "| pictures | ms a picture | s to start | ms a picture, with the start "
            "| peak memory, MB | of that before extraction, MB |",
            "|---|---|---|---|---|---|",
            *made["size"],
        ]
    target = Path(__file__).with_name(f"{asked.page}.md")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    KEPT.unlink()
    print(target.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
