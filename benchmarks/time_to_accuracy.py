"""How long until it is accurate? Thawline beside the expert's LP-FT script and fastai. Writes time_to_accuracy.md.

    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python benchmarks/time_to_accuracy.py [OPTIONS]

    (none), or --must-show    400 pictures to learn from, upper half thawed, five data sets: given, default, script
    --all-thawed              the same with everything thawed
    --every-cell              six data sets; 100, 400 and 1,000 pictures; three lines; fastai too. Days
    --cells TEXT ...          of these, the cells in whose name ("brain_mri, 400, half") a TEXT stands
    --only WAY ...            only these ways
    --before SRC              another checkout's src folder: its ways stand beside those of this one, in alternation
    --epochs K ...            `given` and `script` once more with shorter schedules: accuracy against steps and seconds
    --curve                   the script is tested after every epoch; the time that takes is subtracted
    --precision f32           passed to all but fastai
    --rounds 3                the round is the seed of sample, split and training
    --series NAME             what was measured together, by default today's date; a stopped series resumes
    --smoke                   a few pictures, one epoch, one round; nothing is kept. Run it first

A cell is a data set, a number of pictures to learn from, a thaw line, a seed. Its pictures are written once, as a
folder per class under train/ and test/, and all ways read these files. Every run is a whole process on an empty cache,
timed from outside; in each round the ways run in turn, starting with another one, and ratios are those of one round.
Use a quiet machine. The script takes `benchmarks/peers/.venvs/torch` if `peers/setup.sh` made it, else Thawline's own
environment; fastai needs the former. `brain_mri` and the shuffled tiles are held out: nothing is tuned to them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import judgement
import numpy as np
import peers
import time_to_accuracy_page as page
from PIL import Image
from time_to_accuracy_page import BEFORE, KEPT, SCRIPT, Row

import thawline as tl
from thawline.backbones.lines import thaw_lines
from thawline.data import subset
from thawline.randomness import generator
from thawline.scale.processors import processor_name

HALF = "from:blocks.3.1"
LINES = ("last", "half", "all")
GIVEN, DEFAULT, FASTAI = "given", "default", "fastai"
FULL = 10**9
SIZES = {
    "hymenoptera": (100, FULL),
    "flowers5_128": (100, 400, 1_000),
    "fashion_mnist_small": (100, 400, 1_000),
    "brain_mri": (100, FULL),
    "flowers5_128 shuffled tiles": (100, 400, 1_000),
    "flowers5_128 inverted, noisy": (100, 400, 1_000),
}
"""Data set -> pictures to learn from; the full sets have 244 and about 190."""
MUST_SHOW = tuple(SIZES)[:5]
LEAST_TO_TEST = 400
SMOKE_PICTURES = 24
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}
"""Formats whose files all ways read; torchvision's ImageFolder passes others over."""


@dataclass(frozen=True)
class Cell:
    """What is learned from how much, and where the line stands."""

    data: str
    n: int
    line: str

    @property
    def name(self) -> str:
        """As ``--cells`` looks for it."""
        return f"{self.data}, {'full' if self.n == FULL else self.n}, {self.line}"


@dataclass(frozen=True)
class Job:
    """One run: a way, the line if the way is told it, and epochs if not its own number."""

    way: str
    line: str | None
    epochs: int | None = None


@dataclass(frozen=True)
class Bench:
    """What holds for every run."""

    weights: Path
    settings: dict[str, str]
    """Line -> thaw setting."""
    before: Path | None
    precision: str | None
    curve: bool
    smoke: bool


def source(bench: Bench, way: str) -> Path:
    """The src folder whose Thawline runs."""
    return bench.before if bench.before and way.endswith(BEFORE) else Path(str(tl.__file__)).parents[1]


def commit(folder: Path) -> str:
    """Of the checkout; with a digest of what is not committed."""
    git = ["git", "-C", str(folder)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changes = subprocess.run([*git, "diff", "HEAD", "--", "."], capture_output=True)
    if head.returncode or changes.returncode:
        return "no checkout"
    return head.stdout.strip() + (f"+{hashlib.sha256(changes.stdout).hexdigest()[:6]}" if changes.stdout else "")


def script_python() -> Path:
    """The peers' interpreter, or this one."""
    own = peers.PEERS[FASTAI].python
    return own if own.exists() else Path(sys.executable)


def command(bench: Bench, job: Job, data: Path, seed: int, run: Path) -> list[str]:
    """The command line of a run."""
    precision = ["--precision", bench.precision] if bench.precision else []
    epochs = ["--epochs", str(job.epochs)] if job.epochs else []
    if job.way == FASTAI:
        return peers.PEERS[FASTAI].command(data, bench.weights, seed, smoke=bench.smoke)
    if job.way == SCRIPT:
        line = bench.settings[str(job.line)].removeprefix("from:")
        start = [str(script_python()), str(peers.FOLDER / "lp_ft.py"), str(data), str(bench.weights), "--line", line]
        return [*start, "--seed", str(seed), *precision, *epochs, *(["--curve"] if bench.curve else [])]
    thaw = ["--thaw", bench.settings[job.line]] if job.line else []
    start = [*peers.FIT, str(data), "--model", f"timm/mobilenetv2_100@{bench.weights}", "--run", str(run)]
    return [*start, *thaw, *precision, *epochs, "--seed", str(seed), "--json", "--quiet"]


def measure(bench: Bench, job: Job, data: Path, seed: int) -> Row:
    """Run one whole process with nothing cached."""
    with tempfile.TemporaryDirectory() as folder:
        run, variables = Path(folder) / "run", {"THAWLINE_CACHE": str(Path(folder) / "cache")}
        thawline = job.way not in (SCRIPT, FASTAI)
        if thawline:
            variables["PYTHONPATH"] = str(source(bench, job.way))
        before = _children_s()
        seconds, peak, line = peers.run_process(job.way, command(bench, job, data, seed, run), **variables)
        cpu_s = _children_s() - before
        said = fitted(run, seconds) | {"commit": commit(source(bench, job.way))} if thawline else json.loads(line)
    testing_s = said.get("parts_s", {}).get("testing", 0.0) if said.get("curve") else 0.0
    return said | {
        "seconds": seconds - testing_s,
        # the tests along a curve cannot be told from the rest
        "cpu_s": None if testing_s else cpu_s,
        "peak_rss_bytes": peak,
    }


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fitted(run: Path, seconds: float) -> Row:
    """What the run folder of a fit says.

    Args:
        seconds: Of the whole process; the curve counts from its start, and a run's own clock starts after the imports.
    """
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    late = max(0.0, seconds - events[-1]["seconds"])
    test = metrics["test"]
    return {
        "test_accuracy": test["accuracy"]["value"],
        "n_test": test["accuracy"]["n"],
        "test_log_loss": test["log_loss"]["value"],
        "n_train": metrics["n"]["train"] + metrics["n"]["val"],
        "thawed": metrics["thawed"],
        "steps": sum(int(stage["details"].get("steps") or 0) for stage in metrics["stages"]),
        "parts_s": metrics["seconds"],
        "curve": [
            {"step": event["step"], "seconds": event["seconds"] + late, "val_accuracy": event["val_accuracy"]}
            for event in events
            if event["event"] == "evaluation" and event.get("val_accuracy") is not None
        ],
    }


def write_cell(name: str, n: int, seed: int, folder: Path, *, most_to_test: int) -> Path:
    """Write the pictures of a cell as train/CLASS/ and test/CLASS/: files as they are, arrays as PNG."""
    data = judgement.load(name, n, seed)
    rows = np.flatnonzero(data.given == "test")
    spare = generator(seed, "to test").permutation(rows)[most_to_test:]
    data = subset(data, np.setdiff1d(np.arange(len(data)), spare))
    target = folder / name.replace(", ", "-").replace(" ", "-")
    for row in range(len(data)):
        payload, extension = _file(data.source.read(row))
        part = target / str(data.given[row]) / data.classes[data.labels[row]].replace("/", "-")
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{row:05d}.{extension}").write_bytes(payload)
    return target


def _file(payload: bytes | np.ndarray) -> tuple[bytes, str]:
    """Bytes and extension of a picture: a file as it is; an array, or a format that not all ways read, as PNG."""
    if not isinstance(payload, np.ndarray):
        with Image.open(io.BytesIO(payload)) as picture:
            if picture.format in EXTENSIONS:
                return bytes(payload), EXTENSIONS[picture.format]
            payload = np.asarray(picture.convert("RGB"))
    written = io.BytesIO()
    Image.fromarray(payload).save(written, "PNG")
    return written.getvalue(), "png"


def wanted(given: argparse.Namespace) -> list[Cell]:
    """The cells that were asked for."""
    if given.every_cell:
        cells = [Cell(data, n, line) for data, sizes in SIZES.items() for n in sizes for line in LINES]
    else:
        lines = ["half"] * (given.must_show or not given.all_thawed) + ["all"] * given.all_thawed
        cells = [Cell(data, 400 if 400 in SIZES[data] else FULL, line) for data in MUST_SHOW for line in lines]
    return [cell for cell in cells if not given.cells or any(text in cell.name for text in given.cells)]


def jobs(lines: list[str], ways: list[str], epochs: list[int], *, before: bool) -> list[Job]:
    """What runs on the pictures of one cell in one round."""
    found = []
    for way in ways:
        names = [way, way + BEFORE] if before and way in (GIVEN, DEFAULT) else [way]
        told = lines if way in (GIVEN, SCRIPT) else [None]
        counts = [None, *epochs] if way in (GIVEN, SCRIPT) else [None]
        found += [Job(name, line, count) for line in told for count in counts for name in names]
    return found


def measure_all(kept: Path, bench: Bench, cells: list[Cell], ways: list[str], given: argparse.Namespace) -> None:
    """Run what is not done yet, round after round, and keep every row at once."""
    for number in range(1, given.rounds + 1):
        for data, n in dict.fromkeys((cell.data, cell.n) for cell in cells):
            lines = [cell.line for cell in cells if (cell.data, cell.n) == (data, n)]
            stamp = {"series": given.series, "data": data, "n": n, "round": number, "processor": processor_name()}
            stamp |= {"asked_precision": bench.precision or "auto"}
            todo = list(undone(kept, stamp, jobs(lines, ways, given.epochs, before=bench.before is not None)))
            if not todo:
                continue
            with tempfile.TemporaryDirectory() as folder:
                size, most = (SMOKE_PICTURES, SMOKE_PICTURES) if bench.smoke else (n, max(LEAST_TO_TEST, min(n, 1_000)))
                pictures = write_cell(data, size, number, Path(folder), most_to_test=most)
                start = (number - 1) % len(todo)
                for job in todo[start:] + todo[:start]:
                    row = measure(bench, replace(job, epochs=1) if bench.smoke else job, pictures, number)
                    row = stamp | {"way": job.way, "line": job.line, "epochs": job.epochs} | row
                    keep(kept, row | {"date": time.strftime("%Y-%m-%d")})


def undone(kept: Path, stamp: Row, todo: list[Job]) -> Iterator[Job]:
    """Jobs that no row of the series tells of."""
    done = {(r["way"], r["line"], r["epochs"]) for r in peers.finished(kept) if stamp.items() <= r.items()}
    return (job for job in todo if (job.way, job.line, job.epochs) not in done)


def keep(kept: Path, row: Row) -> None:
    """Add a row, and write the page anew."""
    with kept.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    short = {key: value for key, value in row.items() if key not in ("curve", "versions", "parts_s")}
    print(json.dumps(short), file=sys.stderr, flush=True)
    kept.with_suffix(".md").write_text(page.report(peers.finished(kept)), encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], epilog="See the top of this file for what the options do."
    )
    parser.add_argument("--must-show", action="store_true", help="the upper half of five data sets (default)")
    parser.add_argument("--all-thawed", action="store_true", help="the same with everything thawed")
    parser.add_argument("--every-cell", action="store_true", help="all data sets, sizes and lines, and fastai")
    parser.add_argument("--cells", nargs="+", default=[], metavar="TEXT", help="of these, those with TEXT in the name")
    parser.add_argument("--only", nargs="+", choices=(GIVEN, DEFAULT, SCRIPT, FASTAI), metavar="WAY")
    parser.add_argument("--before", type=Path, metavar="SRC", help="src folder of another checkout of Thawline")
    parser.add_argument("--epochs", nargs="+", type=int, default=[], metavar="K", help="shorter schedules, beside")
    parser.add_argument("--curve", action="store_true", help="test the script after every epoch, not counted")
    parser.add_argument("--precision", choices=("f32", "bf16"), help="for all but fastai")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--series", default=time.strftime("%Y-%m-%d"))
    parser.add_argument("--smoke", action="store_true", help="a few pictures, one round; nothing is kept")
    given = parser.parse_args()
    if given.before and not (given.before / "thawline" / "__init__.py").is_file():
        parser.error(f"--before must be a src folder that holds thawline/; got {given.before}.")
    return given


def main() -> None:
    given = parse()
    if missing := [n for n in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(n)]:
        print(f"{' and '.join(missing)} must be set: this benchmark needs real data and weights. Nothing was run.")
        return
    cells = wanted(given)
    if not cells:
        print(f"No cell has {' or '.join(map(repr, given.cells))} in its name. Nothing was run.")
        return
    ways = given.only or [GIVEN, DEFAULT, SCRIPT, *([FASTAI] if given.every_cell else [])]
    if FASTAI in ways and not peers.PEERS[FASTAI].python.exists():
        print(f"fastai is left out: run `bash {peers.FOLDER / 'setup.sh'}` to make its environment.", file=sys.stderr)
        ways = [way for way in ways if way != FASTAI]
    weights = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / peers.WEIGHTS
    last = thaw_lines(tl.open_backbone(f"timm/mobilenetv2_100@{weights}").ladder)[0]
    settings = dict(zip(LINES, (last, HALF, "all"), strict=True))
    before = given.before.resolve() if given.before else None
    bench = Bench(weights, settings, before, given.precision, given.curve, given.smoke)
    with tempfile.TemporaryDirectory() as folder:
        kept = KEPT
        if given.smoke:
            kept, given.rounds = Path(folder) / KEPT.name, 1
            given.epochs = given.epochs[:1]
        measure_all(kept, bench, cells, ways, given)
        print(page.report(peers.finished(kept)))


if __name__ == "__main__":
    main()
