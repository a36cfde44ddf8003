"""How many texts a second are encoded, and how far the vectors stray. Writes text_encoding.md.

    bash benchmarks/peers/setup.sh      # once: an environment per group of peers
    THAWLINE_REAL_DATA=... python benchmarks/text_encoding.py [--sets NAME ...] [--rounds 3] [--only NAME ...]

sentence-transformers as it is and by its recipes for OpenVINO, and Thawline's engine, each in a process of its own, one
after the other: the same encoder, the test texts of each data set, tokenisation included. Opening, converting and
warming up are not timed. The vectors are compared with those of sentence-transformers as it is: cosine, and the share
of decisions that differ with a logistic regression fitted on the training texts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import peers
import text_rivals
import text_sets
from numpy.typing import NDArray
from peers import Row

from thawline.runs.reporting import environment

KEPT = Path(__file__).with_suffix(".jsonl")
DEFAULT = "default"
WAYS = {
    DEFAULT: "sentence-transformers",
    "openvino": "sentence-transformers, OpenVINO",
    "openvino-qint8": "sentence-transformers, OpenVINO qint8",
    "f32": "Thawline",
    "int8": "Thawline, `--precision int8`",
}
SERIES = ("data_set", "date", "processor")
MOST = 2000
"""Texts that are encoded of each data set, to learn from and to be tested on; the decisions are theirs."""


def encode(table: Path, out: Path, precision: str, rounds: int) -> None:
    """Encode a table with Thawline, and print what ``peers/text_encode.py`` prints."""
    import thawline as tl
    from thawline.store import FeatureStore

    with tempfile.TemporaryDirectory() as name:
        backbone = tl.open_backbone(f"hf/{text_sets.ENCODER}@{text_sets.encoder_folder()}")
        data = tl.open_data(table)
        seconds = []
        started, opening_s = time.perf_counter(), 0.0
        for number in range(rounds + 1):  # the first converts and warms up; rows kept in a store would not be run again
            store = FeatureStore(Path(name) / str(number))
            values = tl.extract_features(
                data, backbone, engine="openvino", precision=precision, store=store, keep_engine=True
            ).values
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
        opening_s = seconds.pop(0)
    np.save(out, values)
    print(json.dumps({"n": len(values), "seconds": seconds, "opening_s": opening_s, "versions": {}}), flush=True)


def vectors(way: str, data: Path, folder: Path, part: str, rounds: int) -> tuple[Row, NDArray[np.float32]]:
    """Encode one part of a data set in a process of its own."""
    out = folder / f"{data.name}-{way}-{part}.npy"
    if way in ("f32", "int8"):
        command = [
            sys.executable,
            str(Path(__file__)),
            "--encode",
            str(data / f"{part}.csv"),
            str(out),
            way,
            str(rounds),
        ]
    else:
        encoder = str(text_sets.encoder_folder())
        python, script = text_rivals.RIVALS["frozen"].python, peers.FOLDER / "text_encode.py"
        command = [str(python), str(script), str(data), encoder, str(out)]
        command += ["--variant", way, "--part", part, "--rounds", str(rounds)]
    _, _, line = peers.run_process(way, command, **text_rivals.OFFLINE, THAWLINE_CACHE=str(folder / "cache"))
    return json.loads(line), np.load(out)


def measure(data_set: str, ways: list[str], rounds: int, folder: Path) -> list[Row]:
    """Encode one data set every way, and judge the vectors by those of the default."""
    from sklearn.linear_model import LogisticRegression

    data = text_sets.write(data_set, folder, most_to_test=MOST, most_to_train=MOST)
    labels = {part: np.array([label for _, label in text_sets.read(data / f"{part}.csv")]) for part in text_sets.PARTS}
    rows, exact = [], {}
    for way in ways:
        timed, tested = vectors(way, data, folder, "test", rounds)
        learned = vectors(way, data, folder, "train", 1)[1]
        if way == DEFAULT:
            exact = {"train": learned, "test": tested}
            exact_head = LogisticRegression(max_iter=1000).fit(learned, labels["train"])
        own = LogisticRegression(max_iter=1000).fit(learned, labels["train"])
        lengths = np.linalg.norm(tested, axis=1) * np.linalg.norm(exact["test"], axis=1)
        cosines = (tested * exact["test"]).sum(axis=1) / lengths
        expected = exact_head.predict(exact["test"])
        rows.append({
            "data_set": data_set, **text_rivals.here(), "way": way, **timed,
            "cosine_min": float(cosines.min()), "cosine_mean": float(cosines.mean()),
            "changed_same_head": float((exact_head.predict(tested) != expected).mean()),
            "changed_own_head": float((own.predict(tested) != expected).mean()),
            "accuracy": float(own.score(tested, labels["test"])),
        })  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def report(rows: list[Row]) -> str:
    """The page."""
    dates = [row["date"] for row in rows]
    lines = [
        "# Encoding texts",
        "",
        f"Written by `python benchmarks/text_encoding.py`; measured {min(dates)} to {max(dates)}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items() if key != 'processor')}.",
        "",
        f"The others ran with {text_rivals.versions(rows)}.",
        "",
        "Texts a second with all-MiniLM-L6-v2, tokenisation included, opening and converting not: median of the rounds",
        "(lowest to highest). Cosine to the vectors of sentence-transformers as it is: mean (smallest). Changed: the",
        "share of test texts for which a logistic regression decides otherwise than the one that was fitted on those",
        "vectors of training texts: the same regression, and one that was fitted on the vectors at hand.",
    ]
    for series in dict.fromkeys(tuple(row[key] for key in SERIES) for row in rows):
        own = [row for row in rows if tuple(row[key] for key in SERIES) == series]
        default = next((row for row in own if row["way"] == DEFAULT), None)
        lines += [
            "",
            f"## {', '.join(series)}, {own[0]['n']:,} texts",
            "",
            "| | texts a second | times the default | cosine | changed, %: same head; own head | accuracy, % |",
            "|---|---|---|---|---|---|",
        ]
        for row in own:
            rates = [row["n"] / seconds for seconds in row["seconds"]]
            times = f"{np.median(default['seconds']) / np.median(row['seconds']):.2f}" if default else "-"
            changed = f"{100 * row['changed_same_head']:.1f}; {100 * row['changed_own_head']:.1f}"
            lines.append(
                f"| {WAYS[row['way']]} | {peers.spread(rates, 0)} | {times} | {row['cosine_mean']:.4f} "
                f"({row['cosine_min']:.4f}) | {changed} | {100 * row['accuracy']:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--encode"]:
        table, out, precision, rounds = sys.argv[2:]
        encode(Path(table), Path(out), precision, int(rounds))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=text_sets.SETS, default=["sst2", "banking77"], metavar="NAME")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if sentence := text_rivals.missing(["frozen"]):
        print(f"{sentence} Nothing was run.")
        return
    ways = [way for way in WAYS if way == DEFAULT or way in given.only]
    os.environ.update(text_rivals.OFFLINE)
    for data_set in given.sets:
        with tempfile.TemporaryDirectory() as name:
            rows = measure(data_set, ways, given.rounds, Path(name))
        with KEPT.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        KEPT.with_suffix(".md").write_text(report(peers.finished(KEPT)), encoding="utf-8")
    print(report(peers.finished(KEPT)))


if __name__ == "__main__":
    main()
