"""What a head costs, against scikit-learn's LogisticRegressionCV on the same features, folds and strengths.

    python benchmarks/heads.py [--threads 1 2]

Both are run in turn, in one process, with the same number of BLAS threads: 25 strengths x 5 folds on 5,000 x 1,280
features of 10 classes, and the default head on 244 x 1,280 of 2 classes against LogisticRegressionCV(Cs=10, cv=5), as
an expert's script would have it. The made features are class means, and eight directions of its own for each class, in
a space whose standard deviations fall as 1 / sqrt(i). With THAWLINE_REAL_DATA and THAWLINE_REAL_WEIGHTS set, the
features of an ImageNet MobileNetV2 on Fashion-MNIST (the first 5,000) and on hymenoptera are measured too. Writes
heads.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from threadpoolctl import threadpool_limits

import thawline as tl
from thawline.heads import fit_head
from thawline.heads.folds import stratified_group_folds
from thawline.heads.logistic import fit_logistic
from thawline.heads.path import N_FOLDS, PATH_TOLERANCE
from thawline.heads.row_space import scale_features
from thawline.heads.training_rows import check_rows
from thawline.runs.reporting import environment

PAIRS = 3
SMALL_PAIRS = 7
STRENGTHS = np.logspace(-6, 4, 25)
TOLERANCE = 1e-4
"""That of scikit-learn by default."""

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


def made(n: int, n_classes: int, *, seed: int = 0, d: int = 1280) -> Rows:
    """Features with class means and directions of their own, low-rank, above noise with a decaying spectrum."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    spread = (1 + np.arange(d)) ** -0.5
    means = 0.7 * rng.standard_normal((n_classes, d)) * spread * (np.arange(d) < 32)
    own = 0.5 * rng.standard_normal((n_classes, 8, d)) * spread * (np.arange(d) < 64)
    values = rng.standard_normal((n, d)) * spread + means[labels]
    values += np.einsum("nr,nrd->nd", rng.standard_normal((n, 8)), own[labels])
    return (values @ np.linalg.qr(rng.standard_normal((d, d)))[0]).astype(np.float32), labels


def photographed(name: str, n: int | None = None) -> Rows | None:
    """Features of an ImageNet MobileNetV2, where there are data and weights."""
    data, weights = (os.environ.get(f"THAWLINE_REAL_{part}") for part in ("DATA", "WEIGHTS"))
    if not data or not weights:
        return None
    samples = tl.open_data(Path(data) / name)
    model = f"timm/mobilenetv2_100@{Path(weights) / 'mobilenetv2_100.imagenet.safetensors'}"
    features = tl.extract_features(samples, tl.open_backbone(model))
    return features.values[:n], np.asarray(samples.labels)[:n]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds, and what came of it."""
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done


def paired(ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int) -> tuple[list[float], list[float], Any, Any]:
    """Seconds of both, run in turn, and their last results."""
    seconds: tuple[list[float], list[float]] = ([], [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(pairs):
            own_s, own = timed(ours)
            other_s, other = timed(theirs)
            seconds[0].append(own_s)
            seconds[1].append(other_s)
    return *seconds, own, other


def ratio(own: list[float], other: list[float]) -> str:
    """The median of the pairs' ratios, and its range."""
    ratios = [b / a for a, b in zip(own, other, strict=True)]
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"


def path_row(name: str, rows: Rows, threads: int) -> str:
    """25 strengths x 5 folds, ours and theirs, both on globally scaled features and the same folds."""
    values, labels = rows
    checked = check_rows(values, labels, int(labels.max()) + 1)
    fold = stratified_group_folds(labels, checked.groups, N_FOLDS, 0)
    folds = [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(N_FOLDS)]
    scaled = scale_features(values).centred
    model = LogisticRegressionCV(
        Cs=STRENGTHS,
        cv=folds,
        scoring="neg_log_loss",
        tol=TOLERANCE,
        max_iter=1000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    own_s, other_s, own, _ = paired(
        lambda: fit_logistic(checked, strengths=STRENGTHS), lambda: model.fit(scaled, labels), PAIRS
    )
    head, path = own
    theirs = -np.asarray(model.scores_).reshape(N_FOLDS, -1).mean(axis=0)
    chosen = float(model.C_)
    ours = {step["C"]: step["mean"] for step in path.steps}
    tight = LogisticRegression(C=path.strength, tol=1e-9, max_iter=20_000).fit(scaled, labels)
    gap = np.abs(head.predict_proba(values) - tight.predict_proba(scaled)).max()
    return (
        f"| {name} | {threads} | {statistics.median(own_s):.1f} | {statistics.median(other_s):.1f} | "
        f"{ratio(own_s, other_s)} | {path.strength:.2g}, {ours[path.strength]:.4f} | "
        f"{chosen:.2g}, {theirs.min():.4f} | {gap:.0e} |"
    )


def small_row(name: str, rows: Rows, threads: int) -> str:
    """The default head against the usual script."""
    values, labels = rows
    usual = LogisticRegressionCV(
        Cs=10, cv=5, max_iter=1000, scoring="accuracy", l1_ratios=(0.0,), use_legacy_attributes=False
    )
    own_s, other_s, _, _ = paired(
        lambda: fit_head("logistic", values, labels, 2), lambda: usual.fit(values, labels), SMALL_PAIRS
    )
    return (
        f"| {name} | {len(values)} | {threads} | {statistics.median(own_s):.3f} | {statistics.median(other_s):.3f} | "
        f"{ratio(own_s, other_s)} |"
    )


def imports_s(module: str) -> float:
    """Seconds of a process that imports one module, above one that imports NumPy: the median of nine."""
    times = [
        timed(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))[0]
        - timed(lambda: subprocess.run([sys.executable, "-c", "import numpy"], check=True))[0]
        for _ in range(9)
    ]
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    thread_counts = parser.parse_args().threads
    large = [("made", made(5000, 10)), ("Fashion-MNIST", photographed("fashion_mnist_small/train.parquet", 5000))]
    small = [("made", made(244, 2)), ("hymenoptera", photographed("hymenoptera/train"))]
    small_rows, path_rows = [], []
    for threads in thread_counts:
        with threadpool_limits(limits=threads):
            small_rows += [small_row(name, rows, threads) for name, rows in small if rows]
            path_rows += [path_row(name, rows, threads) for name, rows in large if rows]
    lines = [
        "# Heads",
        "",
        f"Written by `python benchmarks/heads.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        "Both run in turn. Seconds are medians; the ratio is the median over the pairs (lowest to highest). "
        f"scikit-learn stops when the largest entry of the gradient is {TOLERANCE:g}, Thawline's path at "
        f"{PATH_TOLERANCE:g} in coordinates in which the Hessian is close to the identity.",
        "",
        f"25 strengths x 5 folds on 5,000 x 1,280 features of 10 classes, then a fit on all rows; {PAIRS} pairs. Log "
        "loss: the mean over the held-out rows, at the C that each path chose. Difference: the largest one, over all "
        "rows and classes, between the probabilities of Thawline's last fit and those of scikit-learn's "
        "LogisticRegression at the same C and a tolerance of 1e-9.",
        "",
        "| features | threads | Thawline, s | LogisticRegressionCV, s | ratio | our C, its log loss | their C, its log "
        "loss | difference |",
        "|---|---|---|---|---|---|---|---|",
        *path_rows,
        "",
        "The default head on 1,280 features of few samples in 2 classes, against "
        f"`LogisticRegressionCV(Cs=10, cv=5, max_iter=1000)`; {SMALL_PAIRS} pairs.",
        "",
        "| features | samples | threads | Thawline, s | LogisticRegressionCV, s | ratio |",
        "|---|---|---|---|---|---|",
        *small_rows,
        "",
        f"Importing the logistic head takes {imports_s('thawline.heads.logistic'):.2f} s more than importing NumPy; "
        f"importing scikit-learn's takes {imports_s('sklearn.linear_model'):.2f} s more.",
    ]
    target = Path(__file__).with_suffix(".md")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
