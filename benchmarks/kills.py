"""Kill fits with `kill -9` at random moments, default and progressive ones, and compare what they end with.

    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python benchmarks/kills.py

Each run is killed some times, anywhere from its start-up to its last stage, and each time resumed with
`thawline fit --resume`; then it may end. The default fit is killed in its trials, too. Its `model.safetensors` must
have the bytes of the run that was never killed. Writes kills.md.
Every run has a cache of its own, so that extraction is interrupted, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from thawline.runs.reporting import environment

THAWLINE = [sys.executable, "-c", "from thawline.cli import main; main()"]
KILLS_PER_RUN = 4
SETTINGS = {
    "--input-px 96 --quiet": 20,
    "--thaw progressive --epochs 2 --views 2 --input-px 96 --set evaluations=4 --quiet": 12,
}
"""Settings of a fit -> how often fits with them are killed."""


def start(arguments: list[str], cache: Path) -> subprocess.Popen[bytes]:
    """Start one session."""
    return subprocess.Popen(
        [*THAWLINE, "fit", *arguments],
        env=os.environ | {"THAWLINE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def digest(run: Path) -> str:
    """SHA-256 of the weights that a run ended with."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def where(draft: Path) -> str:
    """What a killed session was doing, as its folder tells."""
    if (draft.parent / "run").exists():
        return "when all was done"
    if not (draft / "request.json").exists():
        return "before the run was begun"
    if list(draft.glob("state/.*.partial")):
        return "while a checkpoint was being written"
    events = [json.loads(line) for line in (draft / "events.jsonl").read_text().splitlines() if line.endswith("}")]
    if not any(event["event"] == "plan" for event in events):
        return "while the plan was being made"
    last = [event for event in events if event["event"] in ("start", "resume", "plan", "phase", "evaluation")][-1]
    if last["event"] == "evaluation":
        return "on all samples" if last["stage"].endswith("all samples") else "with samples held out"
    done = [event["name"] for event in events if event["event"] == "phase"]
    if last["event"] == "phase" and last["name"] in ("training", "evaluation"):
        return "after training"
    return "before a first evaluation" if "features" in done else "during extraction"


def one_run(command: list[str], folder: Path, chance: random.Random, seconds: float, kills: int) -> tuple[str, Counter]:
    """Kill a run some times at random, let it end; returns the digest of its weights and where it was killed."""
    run, cache = folder / "run", folder / "cache"
    draft, found = folder / ".run.unfinished", Counter()
    while not run.exists():  # a kill may come just after the run has taken its place
        begun = (draft / "request.json").exists()
        session = start(["--resume", str(run), "--quiet"] if begun else [*command, "--run", str(run)], cache)
        if sum(found.values()) == kills:
            break
        try:
            session.wait(timeout=chance.uniform(0.1, seconds))
        except subprocess.TimeoutExpired:
            session.kill()
            session.wait()
            found[where(draft)] += 1
            continue
        break
    _, errors = session.communicate()
    if session.returncode > 0:
        raise SystemExit(f"a resumed run failed:\n{errors.decode()}")
    return digest(run), found


def main() -> None:
    if missing := [n for n in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(n)]:
        print(f"{' and '.join(missing)} must be set: this benchmark needs real data and weights. Nothing was run.")
        return
    weights = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / "mobilenetv2_100.imagenet.safetensors"
    data = str(Path(os.environ["THAWLINE_REAL_DATA"]) / "hymenoptera")
    lines = [
        "# Killed and resumed",
        "",
        f"Written by `python benchmarks/kills.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
    ]
    for settings, kills in SETTINGS.items():
        command = [data, "--model", f"timm/mobilenetv2_100@{weights}", *settings.split()]
        runs, equal, found = killed(command, kills)
        lines += [
            "",
            f"`thawline fit hymenoptera {settings}` with an ImageNet MobileNetV2 was killed",
            f"{sum(found.values())} times with `kill -9` in {runs} runs; **{equal} of {runs}** ended with the weights,",
            "bit for bit, of the run that was never killed.",
            "",
            "| killed | times |",
            "|---|---|",
            *(f"| {place} | {times} |" for place, times in found.most_common()),
        ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def killed(command: list[str], kills: int) -> tuple[int, int, Counter[str]]:
    """Kill fits so often; returns how many runs that took, how many were equal, and where they were killed."""
    chance, found, equal, runs = random.Random(0), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        session = start([*command, "--run", str(folder / "whole")], folder / "cache")
        _, errors = session.communicate()
        if session.returncode:
            raise SystemExit(errors.decode())
        seconds, expected = time.monotonic() - began, digest(folder / "whole")
        print(f"uninterrupted: {seconds:.0f} s, {expected[:12]}", flush=True)
        while sum(found.values()) < kills:
            place = folder / f"run-{runs}"
            place.mkdir()
            wanted = min(KILLS_PER_RUN, kills - sum(found.values()))
            # shorter than the run, so that most sessions are killed and every one gets somewhere
            got, where_killed = one_run(command, place, chance, 0.6 * seconds, wanted)
            runs, equal, found = runs + 1, equal + (got == expected), found + where_killed
            print(
                f"run {runs}: killed {sum(where_killed.values())} times, {'equal' if got == expected else 'DIFFERENT'}",
                flush=True,
            )
            shutil.rmtree(place)
    return runs, equal, found


if __name__ == "__main__":
    main()
