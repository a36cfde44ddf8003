"""Baselines that guides begin with, from the same training set: an MLP and a CNN on pixels, averaged word vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thawline.evaluation import MeasuredBaseline, score
from thawline.evaluation.baselines import GUIDES, GUIDES_OF
from thawline.listening import Listener
from thawline.records import Dataset, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.planning import FitPlan

_KINDS: Mapping[str, Literal["mlp", "cnn", "words"]] = {
    "guide-mlp": "mlp",
    "guide-cnn": "cnn",
    "guide-words": "words",
}
HELD_OUT = 5
"""Of a split without a validation set, one part in so many of the training set says when to stop."""
NO_TIME = "The budget left no time to train these baselines: {titles}."


def guide_baselines(
    data: Dataset, split: Split, plan: FitPlan, state: Path, listener: Listener, *, ends_at: float | None = None
) -> tuple[tuple[MeasuredBaseline, ...], tuple[str, ...]]:
    """Train the networks of the guides on the training set and score them on the test set.

    Args:
        split: Of ``data``; training ends when the loss on its validation set no longer falls.
        plan: Says the seed and the device.
        state: Folder of checkpoints; what was finished there is not trained again.
        listener: Hears of progress.
        ends_at: When training must be over, on the clock of ``time.monotonic``.
    Returns:
        The baselines, and what a user should know of those that are missing.
    Raises:
        DataError: A sample can no longer be read, or has changed, since the data was opened.
    """
    n_classes = len(data.classes)
    learned, judged = _held_out(data, split, plan.seed)
    read, of_size = _reader(data, learned, listener)
    samples: NDArray[Any] | None = None
    measured, missing = [], []
    for name in GUIDES_OF[data.kind]:
        title = GUIDES[name]
        started, kept = time.perf_counter(), state / f"{name}.npy"
        if kept.exists():
            probabilities: NDArray[np.float64] | None = np.load(kept, allow_pickle=False)
        else:
            if samples is None:
                samples = read()
            probabilities = _trained(
                name, samples, data, (learned, judged), split.test, plan, kept, listener, ends_at=ends_at
            )
        if probabilities is None:
            missing.append(title)
            continue
        scores = score(data.labels[split.test], probabilities, n_classes, seed=plan.seed)
        seconds = time.perf_counter() - started
        title = f"{title}{of_size}"
        measured.append(MeasuredBaseline(name, title, scores, seconds, probabilities, uses_backbone=False))
    return tuple(measured), (NO_TIME.format(titles=", ".join(missing)),) if missing else ()


def _reader(data: Dataset, learned: NDArray[np.int64], listener: Listener) -> tuple[Callable[[], NDArray[Any]], str]:
    """Return what reads all samples as networks of the guides take them, and the end of their titles."""
    if data.kind == "text":
        from thawline.training.word_nets import read_words  # loads torch

        return lambda: read_words(data, learned, partial(listener.progress, "words")), ""
    from thawline.training.guide_nets import usual_side
    from thawline.training.pixel_nets import read_pixels

    side = usual_side(data, learned)
    listener.note(f"The networks of the guides learn from {side} x {side} pixels, the usual size of these pictures.")
    return lambda: read_pixels(data, partial(listener.progress, "pixels"), side), f", {side} x {side}"


def _trained(
    name: str,
    samples: NDArray[Any],
    data: Dataset,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    test: NDArray[np.int64],
    plan: FitPlan,
    kept: Path,
    listener: Listener,
    *,
    ends_at: float | None,
) -> NDArray[np.float64] | None:
    """Return (n_test, C), and keep it for a run that is stopped later; None if there was no time."""
    from thawline.engines.choices import hardware
    from thawline.scale import cache_root
    from thawline.scale.disk import written_whole
    from thawline.training.guide_nets import fit_guide

    device = hardware("f32", plan.device, memory=cache_root())[0]
    checkpoint = kept.with_suffix(".safetensors")
    fitted = fit_guide(
        _KINDS[name],
        samples,
        data.labels,
        *rows,
        len(data.classes),
        seed=plan.seed,
        device=device if device.startswith("cuda") else "cpu",
        checkpoint=checkpoint,
        ends_at=ends_at,
        progress=partial(listener.progress, name),
    )
    if fitted is None:
        return None
    probabilities = fitted.net.predict_proba(samples[test])
    with written_whole(kept, "wb") as file:
        np.save(file, probabilities, allow_pickle=False)
    checkpoint.unlink(missing_ok=True)
    return probabilities


def _held_out(data: Dataset, split: Split, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to learn from and those to stop by: training and validation set, if there is one."""
    from thawline.heads.folds import stratified_group_folds

    train = split.train
    if len(split.val):
        return train, split.val
    groups = np.unique(data.groups[train], return_inverse=True)[1].astype(np.int64)
    judged = stratified_group_folds(data.labels[train], groups, HELD_OUT, seed) == 0
    return (train, train) if judged.all() else (train[~judged], train[judged])
