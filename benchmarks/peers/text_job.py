"""What every rival on texts is given: two tables and an encoder; it says what ``job.report`` prints."""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class Part:
    """Texts and their labels, (N,) each."""

    texts: list[str]
    labels: list[str]


@dataclass(frozen=True)
class Job:
    """One run of one rival."""

    train: Part
    test: Part
    encoder: Path
    """Folder that sentence-transformers wrote."""
    seed: int
    smoke: bool
    variant: str | None


def read(table: Path) -> Part:
    """Read a CSV of text,label."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return Part([row["text"] for row in rows], [row["label"] for row in rows])


def parse(description: str, variants: tuple[str, ...] = ()) -> Job:
    """Read the command line of a rival."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds train.csv and test.csv, each with text,label")
    parser.add_argument("encoder", type=Path, help="folder of a sentence encoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="few steps, to see whether it works at all")
    if variants:
        parser.add_argument("--variant", choices=variants, required=True)
    given = parser.parse_args()
    train, test = (read(given.data / f"{part}.csv") for part in ("train", "test"))
    return Job(train, test, given.encoder, given.seed, given.smoke, getattr(given, "variant", None))
