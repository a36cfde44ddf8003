"""The main job, by Thawline and by what people use today: the same pictures, the same weights. Writes peers.md.

    bash benchmarks/peers/setup.sh      # once: an environment per group of peers
    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python benchmarks/peers.py [--rounds 3] [--only NAME ...]

Every run is a whole process in a fresh process, timed from outside, with the whole machine to itself and every library
at its own number of threads. `thawline fit` starts with an empty cache; a second fit follows on the cache of the first.
In each round all of them run in turn, starting with another one, and the ratios are those of one round; the round is
the seed. Finished runs are kept in peers.jsonl, so that a benchmark stopped within a day resumes; each day and each
processor has a table. `--smoke` tries everything on a few pictures; run it first, and no peer is the first to read its
libraries from disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thawline.evaluation.intervals import wilson
from thawline.runs.reporting import environment
from thawline.scale.processors import processor_name

Row = dict[str, Any]
HERE = Path(__file__).parent
FOLDER = HERE / "peers"
FIT = [sys.executable, "-c", "from thawline.cli import main; main()", "fit"]
COLD, WARM = "thawline", "thawline-again"
WEIGHTS = "mobilenetv2_100.imagenet.safetensors"
THREADS = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "TF_NUM_")
"""Variables that set how many threads a library starts: dropped, so that each starts its own default."""
SMOKE_PICTURES = 8
"""Of each class, in each part."""


@dataclass(frozen=True)
class Peer:
    """A rival: what it is, which environment it runs in, and its command."""

    title: str
    group: str
    script: str
    variant: str | None = None

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return FOLDER / ".venvs" / self.group / "bin" / "python"

    def command(self, data: Path, weights: Path, seed: int, *, smoke: bool) -> list[str]:
        """Its command line."""
        variant = ["--variant", self.variant] if self.variant else []
        options = [*variant, "--seed", str(seed), *(["--smoke"] if smoke else [])]
        return [str(self.python), str(FOLDER / self.script), str(data), str(weights), *options]


PEERS = {
    "script-openvino": Peer(
        "expert's script, OpenVINO bf16, where the processor has it", "torch", "experts_script.py", "openvino"
    ),
    "script-torch": Peer("expert's script, torch float32", "torch", "experts_script.py", "torch"),
    "fastai": Peer("fastai `fine_tune(4)`", "torch", "fastai_fine_tune.py"),
    "keras": Peer("Keras, TensorFlow's tutorial", "tensorflow", "keras_tutorial.py"),
    "tutorial-fixed": Peer("PyTorch's tutorial, fixed extractor", "torch", "pytorch_tutorial.py", "fixed"),
    "tutorial-fine-tune": Peer("PyTorch's tutorial, fine-tuning", "torch", "pytorch_tutorial.py", "fine-tune"),
}
TITLES = {
    COLD: "`thawline fit`",
    WARM: "`thawline fit` again, on its cache",
    **{name: peer.title for name, peer in PEERS.items()},
}


def run_process(name: str, command: list[str], **variables: str) -> tuple[float, int, str]:
    """Run a whole process: wall seconds, bytes at the peak of its largest process, and the last line it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(THREADS)}
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=kept | variables, stdout=printed, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{name} failed with exit status {process.returncode}; it said:\n{errors.read()[-4000:]}")
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return seconds, peak, printed.read().strip().splitlines()[-1]


def run_peer(name: str, data: Path, weights: Path, seed: int, *, smoke: bool) -> list[Row]:
    """One run of a peer."""
    seconds, _, line = run_process(name, PEERS[name].command(data, weights, seed, smoke=smoke))
    return [json.loads(line) | {"peer": name, "seconds": seconds}]


def run_thawline(data: Path, weights: Path, seed: int) -> list[Row]:
    """A fit with nothing cached, and the same once more."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in (COLD, WARM):
            command = [*FIT, str(data), "--model", f"timm/mobilenetv2_100@{weights}", "--seed", str(seed)]
            command += ["--json", "--quiet", "--run", str(Path(folder) / name)]
            seconds, peak, line = run_process(name, command, THAWLINE_CACHE=str(Path(folder) / "cache"))
            accuracy = json.loads(line)["test"]["accuracy"]
            rows.append({
                "peer": name, "seconds": seconds, "test_accuracy": accuracy["value"], "n_test": accuracy["n"],
                "peak_rss_bytes": peak, "versions": {},
            })  # fmt: skip
    return rows


def measure(kept: Path, data: Path, weights: Path, names: list[str], rounds: int, *, smoke: bool) -> None:
    """Run what is not done yet, round after round, and keep every row at once."""
    for number in range(1, rounds + 1):
        start = (number - 1) % len(names)
        for name in names[start:] + names[:start]:
            stamp = {"data_set": data.name, "round": number, "date": time.strftime("%Y-%m-%d")}
            stamp |= {"processor": processor_name()}
            if name in {row["peer"] for row in finished(kept) if stamp.items() <= row.items()}:
                continue
            rows = (
                run_thawline(data, weights, number)
                if name == COLD
                else run_peer(name, data, weights, number, smoke=smoke)
            )
            lines = [json.dumps(stamp | row) + "\n" for row in rows]
            with kept.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
            print(*lines, sep="", end="", file=sys.stderr, flush=True)
            kept.with_suffix(".md").write_text(report(finished(kept)), encoding="utf-8")


def finished(kept: Path) -> list[Row]:
    """Runs that were measured before, by this process or another."""
    if not kept.exists():
        return []
    return [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]


def spread(values: list[float], digits: int) -> str:
    """Median (lowest to highest)."""
    median, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low} to {high})" if len(values) > 1 else median


def table(rows: list[Row]) -> list[str]:
    """One line per peer that was run; the fastest first."""
    of = {name: [row for row in rows if row["peer"] == name] for name in TITLES}
    cold = {row["round"]: row["seconds"] for row in of[COLD]}
    lines = [
        "| | runs | seconds | times `thawline fit` | test accuracy, % | peak memory, GB |",
        "|---|---|---|---|---|---|",
    ]
    ran = [name for name in TITLES if of[name]]
    for name in sorted(ran, key=lambda name: statistics.median(row["seconds"] for row in of[name])):
        found = of[name]
        ratios = [row["seconds"] / cold[row["round"]] for row in found if row["round"] in cold]
        n_test = found[0]["n_test"]
        mean = statistics.mean(row["test_accuracy"] for row in found)
        low, high = wilson(round(mean * n_test), n_test)
        lines.append(
            f"| {TITLES[name]} | {len(found)} | {spread([row['seconds'] for row in found], 1)} | "
            f"{spread(ratios, 2) if ratios else 'not run together'} | "
            f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f}), n={n_test} | "
            f"{max(row['peak_rss_bytes'] for row in found) / 1e9:.2f} |"
        )
    return lines


def _series(row: Row) -> tuple[str, ...]:
    """What stands in one table: data set, day and, where it was noted, processor."""
    return tuple(row[key] for key in ("data_set", "date", "processor") if key in row)


def report(rows: list[Row]) -> str:
    """The page: a table per data set."""
    dates = [row["date"] for row in rows]
    versions = sorted({f"{name} {number}" for row in rows for name, number in row["versions"].items()})
    lines = [
        "# Thawline and its peers",
        "",
        f"Written by `python benchmarks/peers.py`; measured {min(dates)} to {max(dates)}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items() if key != 'processor')}. A table",
        "names its processor where that was noted.",
        "",
        f"The peers ran with {', '.join(versions)}.",
        "",
        "All tools get the same photographs and the same ImageNet MobileNetV2. They run in turn, as whole processes",
        "from start to exit, each with its own default number of threads. Seconds, and their ratio to `thawline fit`",
        "in the same round: median (lowest to highest). Accuracy: mean over the runs (95 % Wilson interval for the",
        "test samples of one run). Memory: the largest process of a run. Each file in `benchmarks/peers/` names the",
        "guide that it follows and the places in which it departs from it.",
    ]  # fmt: skip
    for series in sorted({_series(row) for row in rows}):
        lines += ["", f"## {', '.join(series)}", "", *table([row for row in rows if _series(row) == series])]
    return "\n".join([*lines, ""])


def missing(names: list[str], data_set: str) -> str | None:
    """One sentence on what must be there and is not."""
    absent = [name for name in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(name)]
    if absent:
        return f"{' and '.join(absent)} must be set: this benchmark needs real data and weights."
    data = Path(os.environ["THAWLINE_REAL_DATA"]) / data_set
    if not (data / "train").is_dir() or not any((data / name).is_dir() for name in ("test", "val")):
        return (
            f"--data-set must name a folder of {data.parent} that holds train/ and test/ (or val/); got {data_set!r}."
        )
    weights = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / WEIGHTS
    if not weights.is_file():
        return f"THAWLINE_REAL_WEIGHTS must name a folder that holds {WEIGHTS}; {weights.parent} does not."
    groups = sorted({PEERS[name].group for name in names if name != COLD and not PEERS[name].python.exists()})
    if groups:
        return (
            f"The environment(s) {' and '.join(groups)} are missing from {FOLDER / '.venvs'}: "
            f"run `bash {FOLDER / 'setup.sh'}`, or choose with --only."
        )
    return None


def few_pictures(data: Path, folder: Path) -> Path:
    """A copy of a data set with the first pictures of each class in each part."""
    for part in (data / name for name in ("train", "val", "test") if (data / name).is_dir()):
        for label in sorted(part.iterdir()):
            target = folder / data.name / part.name / label.name
            target.mkdir(parents=True)
            for picture in sorted(label.glob("*.jpg"))[:SMOKE_PICTURES]:
                shutil.copy(picture, target)
    return folder / data.name


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[COLD, *PEERS], default=[COLD, *PEERS], metavar="NAME",
                        help=f"of {', '.join([COLD, *PEERS])}; without {COLD}, there are no ratios")  # fmt: skip
    parser.add_argument("--data-set", default="hymenoptera", help="folder of $THAWLINE_REAL_DATA with train/ and test/")
    parser.add_argument("--smoke", action="store_true", help="few pictures, one epoch, one round; nothing is kept")
    given = parser.parse_args()
    names = [name for name in (COLD, *PEERS) if name in given.only]
    if sentence := missing(names, given.data_set):
        print(f"{sentence} Nothing was run.")
        return
    data = Path(os.environ["THAWLINE_REAL_DATA"]) / given.data_set
    weights = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / WEIGHTS
    with tempfile.TemporaryDirectory() as folder:
        kept = HERE / "peers.jsonl"
        if given.smoke:
            kept, data = Path(folder) / "peers.jsonl", few_pictures(data, Path(folder))
        measure(kept, data, weights, names, 1 if given.smoke else given.rounds, smoke=given.smoke)
        print(report(finished(kept)))


if __name__ == "__main__":
    main()
