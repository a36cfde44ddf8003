"""Extraction on a CUDA card: share of its measured matrix rate, and plain timm beside it.

    make bench-gpu

Writes benchmarks/gpu/extraction.md. Pixels are in memory; decoding is measured by benchmarks/decode.py. Random
weights cost what real ones do.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

MODELS = ("resnet50", "vit_base_patch16_224")
BATCH, N_BATCHES, N_ROUNDS = 256, 20, 5


def per_second(amount: float, work: Callable[[], object]) -> float:
    """Amount per second of work that the card has finished."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return amount / (time.perf_counter() - started)


def matrix_rate() -> float:
    """Multiply-adds per second of a large bfloat16 product."""
    square = torch.ones(8192, 8192, dtype=torch.bfloat16, device="cuda")
    torch.mm(square, square)
    ten = 10 * 8192**3
    return max(per_second(ten, lambda: [torch.mm(square, square) for _ in range(10)]) for _ in range(N_ROUNDS))


def row(model: str, folder: Path) -> str:
    from safetensors.torch import save_file

    import thawline as tl
    from thawline.backbones.providers.timm_import import import_timm
    from thawline.engines.building import count_multiply_adds
    from thawline.engines.torch_engine import TorchEngine

    network = import_timm().create_model(model, num_classes=0).eval()
    path = folder / f"{model}.safetensors"
    metadata = {"architecture": model, "pretrained_cfg": json.dumps(network.pretrained_cfg)}
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path, metadata)
    backbone = tl.open_backbone(f"timm/{model}@{path}")
    work = count_multiply_adds(backbone)
    engine = TorchEngine(backbone, precision="bf16", device="cuda")
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, *backbone.preparation.input_px, 3), dtype=np.uint8)
    plain, images = network.cuda(), torch.rand(BATCH, 3, *backbone.preparation.input_px, device="cuda")
    engine.run(pixels)
    ours, theirs = [], []
    with torch.inference_mode():
        plain(images)
        for _ in range(N_ROUNDS):
            ours.append(per_second(BATCH * N_BATCHES, lambda: [engine.run(pixels) for _ in range(N_BATCHES)]))
            theirs.append(per_second(BATCH * N_BATCHES, lambda: [plain(images) for _ in range(N_BATCHES)]))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    share = 100 * statistics.median(ours) * work / matrix_rate()
    return (
        f"| {model} | {statistics.median(ours):.0f} | {share:.0f} % | {statistics.median(theirs):.0f} | {ratio:.2f} |"
    )


def main() -> None:
    if not torch.cuda.is_available():
        print("benchmarks/gpu/extraction.py needs a CUDA card that torch can use; there is none. Nothing was measured.")
        return
    with tempfile.TemporaryDirectory() as name:
        rows = [row(model, Path(name)) for model in MODELS]
    lines = [
        "# Extraction on a graphics card",
        "",
        f"Written by `make bench-gpu` on {time.strftime('%Y-%m-%d')}; {torch.cuda.get_device_name()}, torch "
        f"{torch.__version__}; pictures/s, batches of {BATCH}, median of {N_ROUNDS} rounds in turn.",
        "",
        "| model | bf16, pictures/s | share of the measured matrix rate | plain timm, float32 | times |",
        "|---|---|---|---|---|",
        *rows,
    ]
    target = Path(__file__).with_suffix(".md")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
