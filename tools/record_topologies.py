"""Record the graphs of common architectures, so that a first run needs neither torch nor timm.

    python tools/record_topologies.py              # writes src/thawline/features/topologies/ anew; some ten minutes
    python tools/record_topologies.py --only densenet121 resnet18

Weights are drawn at random and not kept: a topology holds none. Run it again after a new minor release of timm, or when
conversion changes. An architecture that cannot be recorded is reported, and converted with torch as before.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from recording import record

from thawline.engines.converting.topology import FOLDER
from thawline.errors import ThawlineError

SAME: dict[str, Any] = {"pad_type": "same"}
"""What weights that were trained with TensorFlow need."""


@dataclass(frozen=True)
class Wanted:
    """One architecture to record."""

    architecture: str
    model_args: dict[str, Any] = field(default_factory=dict)
    input_px: int | None = None
    """None: what timm names."""
    first_share: float = 0.0
    """See ``Topology``."""


def _separable(*architectures: str) -> list[Wanted]:
    """Of depthwise convolutions, whose first layers stray in bfloat16 with all the weights that were tried."""
    return [Wanted(name, first_share=0.25) for name in architectures]


def _others(*architectures: str) -> list[Wanted]:
    return [Wanted(name) for name in architectures]


WANTED = [
    Wanted("resnet18", {"channels": [32, 64, 128, 256]}, input_px=128),  # embedded
    Wanted("mobilenetv2_100", SAME, first_share=0.25),
    *_separable(
        "mobilenetv2_050", "mobilenetv2_100", "mobilenetv2_140", "mobilenetv3_small_100", "mobilenetv3_large_100",
        "mnasnet_100", "ghostnet_100", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "tf_efficientnet_b0",
        "tf_efficientnet_lite0", "tf_efficientnetv2_b0", "tf_efficientnetv2_s", "efficientnet_lite0",
    ),
    *_others(
        "resnet18", "resnet26", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "wide_resnet50_2",
        "seresnet50", "regnetx_002", "regnety_002", "regnety_008", "regnety_016", "regnety_032",
        "convnext_atto", "convnext_femto", "convnext_pico", "convnext_nano", "convnext_tiny", "convnext_small",
        "convnextv2_atto", "convnextv2_nano", "convnextv2_tiny", "densenet121", "densenet169", "inception_v3",
        "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "vit_base_patch32_224",
        "deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224", "deit3_small_patch16_224",
        "mobilevit_s", "dla34", "hrnet_w18_small",
    ),
]  # fmt: skip


def _written(wanted: Wanted) -> tuple[Path | None, str]:
    """Where the topology was written, or why there is none."""
    try:
        topology = record(
            wanted.architecture,
            model_args=wanted.model_args,
            input_px=wanted.input_px,
            first_share=wanted.first_share,
        )
    except ThawlineError as error:
        return None, str(error)
    return topology.write(FOLDER), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="ARCHITECTURE", help="of those that are listed in this file")
    only = parser.parse_args().only
    written = {}
    for wanted in [wanted for wanted in WANTED if only is None or wanted.architecture in only]:
        started = time.perf_counter()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # torch keeps what it traced
            path, problem = fresh.submit(_written, wanted).result()
        if path is None:
            print(problem, file=sys.stderr, flush=True)
            continue
        written[path] = path.stat().st_size
        print(f"{path.name}: {written[path]:,} bytes, {time.perf_counter() - started:.0f} s", flush=True)
    if only is None:
        for old in set(FOLDER.glob("*.json.xz")) - written.keys():
            old.unlink()
            print(f"{old.name}: removed")
    print(f"{sum(written.values()):,} bytes in all")


if __name__ == "__main__":
    main()
