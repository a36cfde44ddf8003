"""Record the graphs of the most used architectures, so that their first fit needs neither torch nor timm.

    python tools/record_topologies.py              # writes the archive anew; some three minutes
    python tools/record_topologies.py --only resnet18 resnet50

The weights are random and are not kept: a topology holds none. Run it again after a new minor release of timm, or when
the conversion changes. An architecture that cannot be recorded is reported; it is then converted with torch.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from recording import record, write_archive

from thawline.engines.converting.topology import ARCHIVE, Topology, entry_name, read
from thawline.errors import ThawlineError


@dataclass(frozen=True)
class Wanted:
    """One architecture to record."""

    architecture: str
    model_args: dict[str, Any] = field(default_factory=dict)
    input_px: int | None = None
    """None takes what timm names."""
    first_share: float = 0.0
    """See ``Topology``."""


_STRAYS = 0.25
"""First share of networks of depthwise convolutions, whose first layers stray in bfloat16 with all weights tried."""
WANTED = (
    Wanted("resnet18", {"channels": [32, 64, 128, 256]}, input_px=128),  # embedded
    Wanted("mobilenetv2_100", first_share=_STRAYS),
    Wanted("mobilenetv2_100", {"pad_type": "same"}, first_share=_STRAYS),  # for weights trained with TensorFlow
    Wanted("mobilenetv3_large_100", first_share=_STRAYS),
    Wanted("efficientnet_b0", first_share=_STRAYS),
    Wanted("resnet18"),
    Wanted("resnet50"),
    Wanted("convnext_tiny"),
    Wanted("vit_tiny_patch16_224"),
    Wanted("vit_small_patch16_224"),
)


def _record(wanted: Wanted) -> Topology | str:
    """Return the topology, or why there is none."""
    try:
        return record(
            wanted.architecture,
            model_args=wanted.model_args,
            input_px=wanted.input_px,
            first_share=wanted.first_share,
        )
    except ThawlineError as error:
        return str(error)


def _archived() -> dict[str, Topology]:
    """Name of an entry -> its topology, for all that the archive holds."""
    with zipfile.ZipFile(ARCHIVE) as opened:
        found = {name: read(ARCHIVE, name) for name in opened.namelist()}
    return {name: topology for name, topology in found.items() if topology is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", metavar="ARCHITECTURE", help="of those that this file lists; keep the rest"
    )
    only = parser.parse_args().only
    kept = {} if only is None else _archived()
    for wanted in [wanted for wanted in WANTED if only is None or wanted.architecture in only]:
        started = time.perf_counter()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # torch keeps what it traced
            found = fresh.submit(_record, wanted).result()
        if isinstance(found, str):
            print(found, file=sys.stderr, flush=True)
            continue
        name = entry_name(found.architecture, found.model_args, found.input_px)
        kept[name] = found
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    write_archive(kept.values(), ARCHIVE)
    print(f"{ARCHIVE.name}: {len(kept)} topologies, {ARCHIVE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
