"""Open damaged and harmful files of weights: each may be refused in a sentence or read, and nothing else may happen.

    python benchmarks/hostile_weights.py                            2,000 files; writes hostile_weights.md
    python benchmarks/hostile_weights.py --only .onnx --at 17       one of them again, with its traceback

A fault is: the canary is written, the process ends, something else than a `ThawlineError` is raised, a file takes more
than 200 s, or the process or one that it starts grows beyond 3 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from in_children import outcomes

COUNTS = {".safetensors": 450, ".onnx": 200, ".pt2": 50, ".pt, old": 75, ".pt, new": 75, ".h5": 800, ".keras": 350}
SEED, SLOW_S, SILENT_S, GROWN_KIB = 0, 200, 400, 3 * 2**20
MODELS = {".h5": "keras/custom", ".keras": "keras/custom", ".onnx": "onnx/own"}
"""Kind -> what it is opened as; the others as a model of timm."""
LONGEST = 900
"""Characters of a sentence, a path of this benchmark included."""


def attempt(kind: str, number: int, seed: int, folder: Path) -> tuple[str, str]:
    """Open one file; returns ``read``, the name of a refusal, or ``fault`` and what it was."""
    from hostile_files import MODEL, make

    import thawline as tl
    from thawline.errors import ThawlineError

    canary = folder / "canary"
    name, content = make(kind, number, seed, canary)
    (folder / name).write_bytes(content)
    began = time.monotonic()
    try:
        backbone = tl.open_backbone(f"{MODELS.get(kind, f'timm/{MODEL}')}@{folder / name}")
        assert backbone.weights_sha256
        assert backbone.module() is not None
        outcome = "read"
    except ThawlineError as error:
        outcome = type(error).__name__
        if not 20 <= len(str(error)) <= LONGEST:
            return "fault", f"{outcome} of {len(str(error))} characters"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "fault", f"{type(error).__name__}: {str(error)[:120]} ({Path(frame.filename).name}:{frame.lineno})"
    finally:
        written, took = canary.exists(), time.monotonic() - began
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    if written:
        return "fault", "the canary was written"
    return ("fault", f"took {took:.0f} s") if took > SLOW_S else (outcome, "")


def grown_kib() -> int:
    """Largest size of this process and of those that it has started."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def work(kind: str, start: int, stop: int, seed: int) -> None:
    """Open some files in this process, a JSON line for each: number, outcome, what a fault was, seconds, KiB."""
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"THAWLINE_CACHE": str(Path(name) / "cache"), "HF_HUB_OFFLINE": "1", "KERAS_BACKEND": "torch"}
        folder = Path(name) / "files"
        folder.mkdir()
        for number in range(start, stop):
            began = time.monotonic()
            outcome, what = attempt(kind, number, seed, folder)
            if (kib := grown_kib()) > GROWN_KIB:
                outcome, what = "fault", f"a process grew to {kib / 2**20:.1f} GiB"
            print(json.dumps([number, outcome, what, time.monotonic() - began, kib]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=COUNTS, help="one kind of file; nothing is written")
    parser.add_argument("--at", type=int, help="with --only: this file alone, with its traceback")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--share", type=float, default=1.0, help="of the files of each kind")
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work is not None:
        work(asked.only, *asked.work, asked.seed)
        return
    if asked.at is not None:
        again(asked.only, asked.at, asked.seed)
        return
    began, rows, faults = time.monotonic(), [], []
    for kind in [asked.only] if asked.only else COUNTS:
        found, slowest, largest = Counter[str](), 0.0, 0
        n = round(COUNTS[kind] * asked.share)
        for number, outcome, what, *spent in outcomes(__file__, kind, n, asked.seed, silent_s=SILENT_S):
            found[outcome] += 1
            if spent:  # a process that ended tells nothing
                slowest, largest = max(slowest, spent[0]), max(largest, spent[1])
            if outcome == "fault":
                faults.append(f"{kind} {number}: {what}")
                print(faults[-1], flush=True)
        rows.append((kind, found, slowest, largest))
        print(kind, dict(found), f"{time.monotonic() - began:.0f} s", flush=True)
    page = report(rows, faults, asked.seed, time.monotonic() - began)
    print(page)
    if not asked.only and asked.share == 1:
        Path(__file__).with_suffix(".md").write_text(page, encoding="utf-8")


def again(kind: str, number: int, seed: int) -> None:
    """Open one file outside of any protection of this benchmark."""
    from hostile_files import MODEL, make

    import thawline as tl

    with tempfile.TemporaryDirectory() as name:
        os.environ["THAWLINE_CACHE"] = str(Path(name) / "cache")
        file, content = make(kind, number, seed, Path(name) / "canary")
        (Path(name) / file).write_bytes(content)
        tl.open_backbone(f"{MODELS.get(kind, f'timm/{MODEL}')}@{Path(name) / file}").module()


def report(rows: list[tuple[str, Counter[str], float, int]], faults: list[str], seed: int, seconds: float) -> str:
    """The page."""
    from hostile_files import EVERY

    from thawline.runs.reporting import environment

    total = sum(found.total() for _, found, *_ in rows)
    lines = [
        "# Hostile files of weights", "",
        f"Written by `python benchmarks/hostile_weights.py` on {time.strftime('%Y-%m-%d')} in {seconds / 60:.0f} min, "
        f"seed {seed};",
        f"{', '.join(f'{name} {value}' for name, value in environment().items())}.", "",
        f"**{len(faults)} faults in {total:,} files.** One file in {EVERY} was made to do harm: pickles that write a "
        "file, run a command,",
        "open a connection or import a module; archives and data sets that expand; tensors larger than their file; ",
        "links to other files; graphs without end. The others are sound files with changed bytes. A fault would be: a ",
        f"file is written, the process ends, anything but a `ThawlineError` is raised, {SLOW_S} s, or "
        f"{GROWN_KIB / 2**20:.0f} GiB in one process.", "",
        "| kind | files | not refused | refused in a sentence | faults | slowest | largest process |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for kind, found, slowest, largest in rows:
        refused = "; ".join(f"{name} {n:,}" for name, n in found.most_common() if name not in ("read", "fault"))
        lines.append(
            f"| `{kind}` | {found.total():,} | {found['read']:,} | {refused or 'none'} | {found['fault']} "
            f"| {slowest:.0f} s | {largest / 2**20:.1f} GiB |"
        )
    lines += [
        "",
        "A file that is not refused holds other numbers than the sound one, or differs where nothing is read.",
    ]
    return "\n".join([*lines, *([""] if faults else []), *(f"- {fault}" for fault in faults)]) + "\n"


if __name__ == "__main__":
    main()
