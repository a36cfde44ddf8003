"""Print what a version of Thawline decides, measures and trains, to compare it with another version.

    python tools/same_numbers.py > now.json
    python tools/same_numbers.py --source ../before/src > before.json
    python tools/same_numbers.py --compare before.json now.json

It runs fits, a comparison and the demo, each in a process of its own with an empty cache. Of every run it prints the
plan without its sentences and forecasts, the scores, and digests of the predictions and of the tensors that ship. Two
versions that compute the same print the same on the same machine. Needs THAWLINE_REAL_DATA and THAWLINE_REAL_WEIGHTS;
takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

MAIN = "from thawline.cli import main; main()"
WEIGHTS = "mobilenetv2_100.imagenet.safetensors"
SAMPLES = 200
"""Of fashion_mnist_small, to train on."""
_FORECASTS_AND_SENTENCES = ("reasons", "verdict", "why", "seconds", "bytes", "memory", "model", "otherwise")
_SCORES = ("test", "val", "baselines", "confusion", "per_class")


def cases(data: Path, weights: Path, folder: Path) -> dict[str, list[str]]:
    """Name of a case -> what is typed after ``thawline``; each writes its runs below ``folder / name``."""
    model = ["--model", f"timm/mobilenetv2_100@{weights / WEIGHTS}"]
    scans = ["fit", str(data / "brain_mri" / "all"), *model, "--input-px", "96"]
    few = folder / "fashion"
    _few_garments(data / "fashion_mnist_small", few)
    return {
        "hymenoptera, auto": ["fit", str(data / "hymenoptera"), *model],
        "brain_mri, auto": scans,
        "brain_mri, progressive": [*scans, "--thaw", "progressive", "--epochs", "1"],
        "fashion_mnist_small, 200 samples, auto": ["fit", str(few), *model],
        "hymenoptera, compare": [
            "compare", str(data / "hymenoptera"), *model, "--input-px", "64", "--only", "plan,last-layer,half",
        ],
        "demo": ["demo"],
    }  # fmt: skip


def _few_garments(source: Path, target: Path) -> None:
    """Copy the tables, the one to train on cut to its first rows."""
    import pyarrow.parquet as pq

    target.mkdir()
    for part in ("train", "test"):
        table = pq.read_table(source / f"{part}.parquet")
        pq.write_table(table.slice(0, SAMPLES) if part == "train" else table, target / f"{part}.parquet")


def results(folder: Path) -> dict[str, Any]:
    """Run folder, relative to ``folder`` -> what came of it."""
    found = {}
    for metrics in sorted(folder.rglob("metrics.json")):
        run = metrics.parent
        content = json.loads(metrics.read_text(encoding="utf-8"))
        plan = tomllib.loads((run / "plan.toml").read_text(encoding="utf-8"))
        found[str(run.relative_to(folder))] = {
            "plan": _without(plan, _FORECASTS_AND_SENTENCES),
            "thaw": content.get("thaw"),
            "scores": _without({name: content.get(name) for name in _SCORES}, ("seconds", "title", "origin")),
            "predictions": hashlib.sha256((run / "predictions.csv").read_bytes()).hexdigest(),
            "tensors": tensors_digest(run / "model.safetensors"),
        }
    return found


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {name: _without(inner, names) for name, inner in value.items() if name not in names}
    return [_without(inner, names) for inner in value] if isinstance(value, list) else value


def tensors_digest(path: Path) -> str:
    """SHA-256 (hex) of every tensor's name, type, shape and bytes, in the order of names."""
    from safetensors import safe_open

    digest = hashlib.sha256()
    with safe_open(path, framework="np") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            digest.update(f"{name} {tensor.dtype} {tensor.shape}\0".encode() + tensor.tobytes())
    return digest.hexdigest()


def run(case: list[str], folder: Path, source: Path | None) -> None:
    """Run one case in an empty folder, with a cache of its own."""
    folder.mkdir(parents=True)
    environment = os.environ | {"THAWLINE_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    command = [sys.executable, "-c", MAIN, *case, "--quiet"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def compare(before: Path, now: Path) -> int:
    """Say what differs; return how many runs do."""
    first, second = (json.loads(path.read_text(encoding="utf-8")) for path in (before, now))
    different = 0
    for case in first.keys() ^ second.keys():
        print(f"{case}: not compared, as only one of the files has it")
    for case in [case for case in first if case in second]:
        for name in first[case] | second[case]:
            a, b = first[case].get(name, {}), second[case].get(name, {})
            unequal = [key for key in a | b if a.get(key) != b.get(key)]
            different += bool(unequal)
            print(f"{case}: {name}: {'differs in ' + ', '.join(unequal) if unequal else 'the same'}")
    return different


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, help="the src folder of the version to run (default: the installed one)")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="cases that begin so")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "NOW"), help="two files it printed")
    asked = parser.parse_args()
    if asked.compare:
        sys.exit(min(compare(*asked.compare), 1))
    data, weights = Path(os.environ["THAWLINE_REAL_DATA"]), Path(os.environ["THAWLINE_REAL_WEIGHTS"])
    source = None if asked.source is None else asked.source.resolve()
    printed = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, case) in enumerate(cases(data, weights, Path(temporary)).items()):
            if asked.only and not name.startswith(tuple(asked.only)):
                continue
            print(name, file=sys.stderr, flush=True)
            folder = Path(temporary) / str(number)
            run(case, folder, source)
            printed[name] = results(folder)
    print(json.dumps(printed, indent=1))


if __name__ == "__main__":
    main()
