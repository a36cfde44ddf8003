"""What every peer is given and what it must say: folders, weights, seed in; one line of JSON out."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
"""When the peer began, if it imports this file first."""
INPUT_PX, MEAN, STD = 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""As the weights were trained."""


@dataclass(frozen=True)
class Job:
    """One run of one peer."""

    train: Path
    """A folder per class, to learn from."""
    test: Path
    """A folder per class, to be judged by."""
    weights: Path
    """State dict of timm's mobilenetv2_100, safetensors."""
    seed: int
    smoke: bool
    variant: str | None
    own: argparse.Namespace
    """Options that only this peer has, beside all others."""

    @property
    def timm_arguments(self) -> dict[str, object]:
        """For ``timm.create_model``: the weights, and the preparation that goes with them."""
        overlay = {"file": str(self.weights), "mean": MEAN, "std": STD, "input_size": (3, INPUT_PX, INPUT_PX)}
        return {"pretrained": True, "pad_type": "same", "pretrained_cfg_overlay": overlay}

    def epochs(self, n: int) -> int:
        """As many as the recipe says, or one to see whether it works at all."""
        return 1 if self.smoke else n


def parse(
    description: str,
    variants: tuple[str, ...] = (),
    add_own: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> Job:
    """Read the command line of a peer; ``add_own`` adds the options that only this peer has."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "data", type=Path, help="folder that holds train/ and test/ (or val/), a folder per class in each"
    )
    parser.add_argument("weights", type=Path, help="mobilenetv2_100.imagenet.safetensors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="one epoch, to see whether it works at all")
    if variants:
        parser.add_argument("--variant", choices=variants, required=True)
    add_own(parser)
    given = parser.parse_args()
    test = next((given.data / name for name in ("test", "val") if (given.data / name).is_dir()), None)
    if test is None or not (given.data / "train").is_dir():
        parser.error(f"DATA must be a folder that holds train/ and test/ (or val/); got {given.data}.")
    variant = getattr(given, "variant", None)
    return Job(given.data / "train", test, given.weights, given.seed, given.smoke, variant, given)


def report(peer: str, accuracy: float, n_test: int, packages: tuple[str, ...], **more: Any) -> None:
    """Print the one line, with whatever more a peer tells of itself; the peak is that of the largest process."""
    kib = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    line = {
        "peer": peer,
        "test_accuracy": accuracy,
        "n_test": n_test,
        "peak_rss_bytes": kib * (1 if sys.platform == "darwin" else 1024),
        "versions": {name: version(name) for name in packages},
        **more,
    }
    print(json.dumps(line), flush=True)
