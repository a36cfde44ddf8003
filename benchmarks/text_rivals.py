"""Run Thawline and its rivals on texts: whole processes that are given the same tables and the same encoder."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import peers
import text_sets
from peers import Peer, Row

from thawline.scale.processors import processor_name

THAWLINE = "thawline"
RIVALS = {
    "tfidf": Peer("TF-IDF of words and characters, logistic regression", "text", "text_tfidf.py"),
    "frozen": Peer("frozen encoder, logistic regression", "text", "text_frozen.py", "plain"),
    "frozen-search": Peer("the same, strength searched", "text", "text_frozen.py", "search"),
    "setfit": Peer("SetFit", "text", "text_setfit.py"),
    "fine-tune": Peer("fine-tuning, transformers' Trainer", "text", "text_fine_tune.py"),
}
TITLES = {THAWLINE: "`thawline fit`", **{name: rival.title for name, rival in RIVALS.items()}}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def missing(names: Iterable[str]) -> str | None:
    """One sentence on what must be there and is not."""
    if sentence := text_sets.missing():
        return sentence
    python = RIVALS["tfidf"].python
    if any(name in RIVALS for name in names) and not python.exists():
        return f"{python} is missing: run `bash {peers.FOLDER / 'setup.sh'}`, or choose with --only."
    return None


def run(name: str, data: Path, seed: int, *, smoke: bool = False) -> Row:
    """Run one of ``TITLES`` once; Thawline with nothing in its cache."""
    encoder = text_sets.encoder_folder()
    assert encoder is not None
    if name != THAWLINE:
        command = RIVALS[name].command(data, encoder, seed, smoke=smoke)
        seconds, _, line = peers.run_process(name, command, **OFFLINE)
        return json.loads(line) | {"peer": name, "seconds": round(seconds, 2)}
    with tempfile.TemporaryDirectory() as folder:
        command = [*peers.FIT, str(data), "--model", f"hf/{text_sets.ENCODER}@{encoder}", "--seed", str(seed)]
        command += ["--json", "--quiet", "--run", str(Path(folder) / "run")]
        seconds, peak, line = peers.run_process(name, command, **OFFLINE, THAWLINE_CACHE=str(Path(folder) / "cache"))
    printed = json.loads(line)
    accuracy = printed["test"]["accuracy"]
    return {
        "peer": name, "seconds": round(seconds, 2), "test_accuracy": accuracy["value"], "n_test": accuracy["n"],
        "peak_rss_bytes": peak, "versions": {}, "thaw": printed["thaw"], "head": printed.get("head"),
        "parts_s": printed.get("seconds"),
    }  # fmt: skip


def measure(kept: Path, jobs: Iterable[tuple[Row, Callable[[], Row]]], report: Callable[[list[Row]], str]) -> None:
    """Do the jobs that are not done, keep each row at once, and write the page beside the rows.

    Args:
        jobs: (what sets a job apart from all others, what does it).
    """
    for mark, work in jobs:
        if any(mark.items() <= row.items() for row in peers.finished(kept)):
            continue
        row = mark | work()
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print({key: value for key, value in row.items() if key != "versions"}, file=sys.stderr, flush=True)
        kept.with_suffix(".md").write_text(report(peers.finished(kept)), encoding="utf-8")


def here() -> dict[str, str]:
    """Return what rows that may be compared in time share."""
    return {"date": time.strftime("%Y-%m-%d"), "processor": processor_name()}


def versions(rows: list[Row]) -> str:
    """Say which versions the rivals ran with."""
    return ", ".join(sorted({f"{name} {number}" for row in rows for name, number in row["versions"].items()}))


def mean_percent(values: Iterable[float]) -> str:
    """Mean in %, and the standard deviation if there are several."""
    found = [100 * value for value in values]
    spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.1f}{spread}"


def seconds_between(rows: list[Row], name: str, other: str, together: tuple[str, ...]) -> list[float]:
    """Ratios of the seconds of ``name`` to those of ``other``, for runs that were made together."""

    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[part] for part in together)

    of = {key(row): row["seconds"] for row in rows if row["peer"] == other}
    return [row["seconds"] / of[key(row)] for row in rows if row["peer"] == name and key(row) in of]
