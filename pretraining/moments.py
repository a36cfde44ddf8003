"""Measure what the embedded backbone says of pictures it was trained on; the file goes beside its weights.

Command (from the root of the project, a minute on two CPU cores):

    python pretraining/moments.py --data PATH/tiny_imagenet

``thawline.planning.similarity`` compares new data with it. Make it anew whenever the weights change: the file knows the
digest of those that it was made with, and is refused by others.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from thawline.backbones import POOLED, open_backbone
from thawline.data import open_data
from thawline.planning.observing import draw_pictures, observe
from thawline.planning.reference_moments import measure_moments, moments_path, write_moments

N_PICTURES = 6_000
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with train.parquet.")
    parser.add_argument("--out", type=Path, help="The file to write; beside the weights by default.")
    asked = parser.parse_args()

    backbone = open_backbone()
    data = open_data(asked.data / "train.parquet")
    pictures = draw_pictures(data, np.arange(len(data)), backbone, N_PICTURES, seed=SEED)
    last_of_stage = {rung.stage: rung.read_at for rung in backbone.ladder.rungs if rung.name not in ("input", POOLED)}
    below_pooled = list(last_of_stage.values())[:-1]  # the last stage, averaged over positions, is what is pooled
    seen = observe(backbone, pictures, [*below_pooled, POOLED])
    moments = measure_moments(seen.features, f"{len(pictures):,} training pictures of Tiny ImageNet")
    path = asked.out or moments_path(backbone.tensors.path)
    write_moments(path, moments, backbone)
    print(f"{path}: {path.stat().st_size:,} bytes, rungs {', '.join(moments.rungs)}, {asdict(backbone.preparation)}")


if __name__ == "__main__":
    main()
