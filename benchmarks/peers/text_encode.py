"""Encode texts with sentence-transformers, as it is and by the recipes of its page on efficiency.

    .venvs/text/bin/python text_encode.py DATA ENCODER OUT --variant default|openvino|openvino-qint8 [--rounds 3]

`default` is torch in float32. `openvino` converts the encoder. `openvino-qint8` quantises weights and activations with
export_static_quantized_openvino_model and its default settings, calibrated on 300 training texts (the recipe takes them
from GLUE's sst2, which is not fetched). The test texts are encoded; the first round warms up and is not timed.
https://sbert.net/docs/sentence_transformer/usage/efficiency.html
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ["DO_NOT_TRACK"] = "1"  # nncf would send usage data

import numpy as np
import text_job
from sentence_transformers import SentenceTransformer

VARIANTS = ("default", "openvino", "openvino-qint8")


def opened(variant: str, folder: Path, data: Path) -> SentenceTransformer:
    """Open the encoder in a folder that may be written."""
    if variant == "default":
        return SentenceTransformer(str(folder), device="cpu")
    model = SentenceTransformer(str(folder), device="cpu", backend="openvino")
    if variant == "openvino":
        return model
    from sentence_transformers import export_static_quantized_openvino_model

    calibration = folder / "calibration"
    calibration.mkdir()
    shutil.copy(data / "train.csv", calibration)
    export_static_quantized_openvino_model(
        model, None, str(folder),
        dataset_name=str(calibration), dataset_config_name="default", dataset_split="train", column_name="text",
    )  # fmt: skip
    file = "openvino/openvino_model_qint8_quantized.xml"
    return SentenceTransformer(str(folder), device="cpu", backend="openvino", model_kwargs={"file_name": file})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("out", type=Path, help=".npy of float32 (N, D) to write")
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=("train", "test"), default="test")
    given = parser.parse_args()
    texts = text_job.read(given.data / f"{given.part}.csv").texts
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "encoder"
        shutil.copytree(given.encoder, folder)
        started = time.perf_counter()
        model = opened(given.variant, folder, given.data)
        opening_s = time.perf_counter() - started
        model.encode(texts[:64])
        seconds = []
        for _ in range(given.rounds):
            started = time.perf_counter()
            values = model.encode(texts)
            seconds.append(time.perf_counter() - started)
    np.save(given.out, values)
    packages = ("sentence-transformers", "torch", *(() if given.variant == "default" else ("openvino", "nncf")))
    line = {"n": len(texts), "seconds": seconds, "opening_s": opening_s, "versions": {p: version(p) for p in packages}}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
