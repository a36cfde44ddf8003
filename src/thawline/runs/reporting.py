"""Gather what a run measured into what its report says."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from thawline.bundles.answers import JOINED, predictions_of
from thawline.data.copies import CopyPair, alike_pairs, copy_counts, copy_pairs
from thawline.data.listing import SET_NAMES
from thawline.errors import UndecodableError
from thawline.inputs import kind_of
from thawline.naming import shell_word
from thawline.records import PARTS, Part, Target
from thawline.runs.report import MAX_MISTAKES, MAX_PAIRS, THUMBNAIL_PX
from thawline.runs.report_rows import CopiesShown, Mistake, ReportData, Twin
from thawline.scale.processors import allowed_processors, processor_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thawline.records import Dataset, ValueScale
    from thawline.runs.measure import Measured

_PACKAGES = ("thawline", "torch", "timm", "tokenizers", "numpy", "pillow", "scikit-learn")
_NEW = {"image": ("photo.jpg", "a new picture"), "text": ("new.csv", "the texts of a table")}
"""Kind of input -> what to predict next, and what that is."""


def report_data(measured: Measured, folder: Path) -> ReportData:
    """Gather what the report of a run says.

    Args:
        measured: Everything that the run measured.
        folder: Where the run folder will stand, for the commands to try next.
    """
    fitted, data = measured.fitted, measured.data
    kind = kind_of(data.kind)
    trainable, frozen = _learned(measured)
    return ReportData(
        title=data.name,
        verdict=measured.verdict,
        model=measured.backbone.title,
        thaw=_thaw(measured),
        trainable=trainable,
        frozen=frozen,
        classes=data.outputs,
        target=data.target,
        sizes={part: len(getattr(measured.split, part)) for part in PARTS},
        counts=_counts(measured),
        split_origin=measured.split.origin,
        test=measured.test,
        val=measured.val,
        receipt=measured.status,
        preparation=measured.backbone.preparation,
        skipped=data.skipped,
        warnings=data.warnings,
        baselines=measured.baselines,
        head_path=_path(measured),
        head_c=None if fitted.probe is None else fitted.probe.chosen,
        stages=fitted.stages,
        receipts=measured.receipts,
        loaded=measured.loaded,
        seconds=measured.seconds,
        computed=measured.features.computed if measured.features else 0,
        reused=measured.features.reused if measured.features else 0,
        copies=_copies(measured),
        noun=kind.NOUN,
        same=kind.SAME,
        mistakes=_mistakes(measured),
        environment=environment(),
        commands=_commands(folder, data.kind),
    )


def _learned(measured: Measured) -> tuple[int, int]:
    """Parameters that learned and that did not, of the model that ships."""
    kept = [stage for stage in measured.fitted.stages if stage.kept]
    last = max(kept, key=lambda stage: stage.trainable)
    return last.trainable, last.frozen


def _thaw(measured: Measured) -> str:
    asked, kept = measured.plan.thaw, measured.fitted.kept
    return asked if asked == kept else f"{asked} (kept: {kept})"


def environment() -> dict[str, str]:
    """Return machine and versions, which a reader needs to repeat the numbers."""
    found = {
        "system": platform.platform(),
        "Python": platform.python_version(),
        "processor": processor_name(),
        "CPU cores": str(allowed_processors()),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _path(measured: Measured) -> tuple[dict[str, float], ...]:
    """Return the strengths that were tried, as the chart takes them; only logistic regression has C."""
    if measured.plan.head != "logistic" or measured.fitted.probe is None:
        return ()
    steps = measured.fitted.probe.path
    return tuple({"C": s["C"], "log_loss": s["mean"], "se": s["standard_error"]} for s in steps)


def _counts(measured: Measured) -> dict[Part, list[int]]:
    import numpy as np

    labels, n_classes = measured.data.labels, len(measured.data.classes)
    if measured.data.target == "labels":
        return {part: measured.data.truth[getattr(measured.split, part)].sum(axis=0).tolist() for part in PARTS}
    if measured.data.target == "number":
        return {part: [len(getattr(measured.split, part))] for part in PARTS}
    return {part: np.bincount(labels[getattr(measured.split, part)], minlength=n_classes).tolist() for part in PARTS}


def _mistakes(measured: Measured) -> tuple[Mistake, ...]:
    """Return the wrong predictions on the test set, the most confident first."""
    import numpy as np

    if measured.data.targets is not None:
        return _farthest(measured)
    probabilities, rows = measured.predictions.probabilities, measured.split.test
    guesses, labels = probabilities.argmax(1), measured.data.labels[rows]
    wrong = np.flatnonzero(guesses != labels)
    order = wrong[np.argsort(-probabilities[wrong, guesses[wrong]], kind="stable")][:MAX_MISTAKES]
    return tuple(
        Mistake(
            file=measured.data.files[rows[i]],
            true=measured.data.classes[labels[i]],
            predicted=measured.data.classes[guesses[i]],
            probability=float(probabilities[i, guesses[i]]),
            shown=_shown(measured.data, int(rows[i]), measured.backbone.preparation.scales),
        )
        for i in order
    )


def _farthest(measured: Measured) -> tuple[Mistake, ...]:
    """Return the answers on the test set that lost most, of samples with a wrong label or of numbers."""
    import numpy as np

    from thawline.heads import task_for

    data, said, rows = measured.data, measured.predictions, measured.split.test
    task, truth, outputs = task_for(data.target), data.truth[rows], said.probabilities
    logits = task.logits(outputs)
    losses = task.row_losses(logits, truth)
    losses[task.right(logits, truth) == 1] = -1
    order = np.argsort(-losses, kind="stable")[:MAX_MISTAKES]
    true = predictions_of(said.answers, said.files, said.classes, truth.astype(np.float64), ())
    return tuple(
        Mistake(
            file=data.files[rows[i]],
            true=_in_words(true.labels[i], data.target),
            predicted=_in_words(said.labels[i], data.target),
            probability=float(outputs[i].max()) if data.target == "labels" else 0.0,
            shown=_shown(data, int(rows[i]), measured.backbone.preparation.scales),
        )
        for i in order
        if losses[i] >= 0
    )


def _in_words(answer: str, target: Target) -> str:
    """Write an answer for people."""
    if target == "labels":
        return answer.replace(JOINED, ", ") or "none of the labels"
    return ", ".join(f"{float(number):.4g}" for number in answer.split(JOINED))


def _copies(measured: Measured) -> CopiesShown:
    import numpy as np

    data, scales = measured.data, measured.backbone.preparation.scales
    part = np.full(len(data), "left out", dtype=object)
    for name in PARTS:
        part[getattr(measured.split, name)] = SET_NAMES[name]

    def twins(pair: CopyPair) -> tuple[Twin, Twin]:
        a, b = (
            Twin(data.files[row], data.classes[data.labels[row]], part[row], _shown(data, row, scales))
            for row in pair.rows
        )
        return a, b

    return CopiesShown(
        copy_counts(data),
        copies=tuple(map(twins, copy_pairs(data, MAX_PAIRS))),
        alike=tuple(map(twins, alike_pairs(data, MAX_PAIRS // 2))),
    )


def _shown(data: Dataset, row: int, scales: Sequence[ValueScale]) -> bytes | str | None:
    try:
        return kind_of(data.kind).show(data.source.read(row), THUMBNAIL_PX, scales)
    except UndecodableError:  # the file is gone since the data were opened: the report does without it
        return None


def _commands(folder: Path, kind: str) -> tuple[tuple[str, str], ...]:
    run, (new, words) = shell_word(folder), _NEW[kind]
    return (
        (f"thawline predict {run} {new}", f"predict {words}"),
        (f"thawline evaluate {run} NEW_DATA", "test the model on other labelled data"),
        (f"thawline fit DATA --plan {run}/plan.toml", "repeat this run, or edit its plan first"),
    )
