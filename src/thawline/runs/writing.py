"""Write the files of a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.bundles import save_bundle
from thawline.data.copies import copy_counts
from thawline.evaluation import to_json
from thawline.naming import as_json, written
from thawline.planning import write_plan
from thawline.records import PARTS, Dataset, Features, Split
from thawline.runs import folder as run_folder
from thawline.runs.run import FORMAT
from thawline.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thawline.runs.measure import Measured


def write_run(draft: Path, measured: Measured, target: Path) -> None:
    """Write everything that a run folder holds; ``target`` is where the folder will stand."""
    import numpy as np

    from thawline.runs.report import render_report
    from thawline.runs.reporting import report_data

    data, split = measured.data, measured.split
    save_bundle(measured.bundle, draft)
    write_plan(measured.plan, draft / run_folder.PLAN)
    _write_json(draft / run_folder.METRICS, metrics(measured))
    _write_json(draft / run_folder.RECEIPT, {"status": measured.status, "stages": measured.receipts})
    _write_json(draft / run_folder.LOAD_RECEIPT, measured.loaded.to_json())
    with (draft / run_folder.PREDICTIONS).open("w", encoding="utf-8", newline="") as file:
        truth = data.truth[split.test]
        measured.predictions.write_csv(
            file, [data.classes[label] for label in truth] if data.targets is None else list(truth)
        )
    learned = np.concatenate([split.train, split.val])
    seen = sorted({data.digests[row] for row in learned})  # lets `evaluate` count what the model knew
    (draft / run_folder.SEEN).write_text("\n".join(seen) + "\n", encoding="utf-8")
    (draft / run_folder.REPORT).write_text(written(render_report(report_data(measured, target))), encoding="utf-8")


def metrics(measured: Measured) -> dict[str, Any]:
    """Return what ``metrics.json`` holds: the object of ``fit --json``, and the tables beside it."""
    split = measured.split
    counts = {part: len(rows) for part, rows in _parts(split)}
    return {
        "format": FORMAT,
        "thawline": __version__,
        "model": measured.backbone.name,
        "kind": measured.data.kind,
        "thaw": measured.plan.thaw,
        "thawed": measured.fitted.kept,
        "classes": list(measured.data.outputs),
        "n": counts,
        "class_counts": class_counts(measured.data, split),
        **_target(measured),
        "split": split.origin,
        "skipped": [asdict(skipped) for skipped in measured.data.skipped],
        "copies": copy_counts(measured.data),
        "warnings": list(measured.data.warnings),
        **({} if measured.truncation is None else {"truncation": measured.truncation.to_json()}),
        "features": _counts(measured.features),
        "baselines": {baseline.name: to_json(baseline.scores) for baseline in measured.baselines},
        "validation": None if measured.val is None else to_json(measured.val),
        "test": to_json(measured.test),
        "verdict": measured.verdict,
        "stages": [stage.to_json() for stage in measured.fitted.stages],
        "receipt": measured.status,
        "load_receipt": measured.loaded.described(),
        "seconds": {name: round(seconds, 4) for name, seconds in measured.seconds.items()},
        "per_class": [
            {"class": name, **row} for name, row in zip(measured.data.outputs, measured.test.per_class, strict=True)
        ],
        "confusion": measured.test.confusion.tolist(),
    }


def _target(measured: Measured) -> dict[str, Any]:
    """Return what ``metrics.json`` says of a target other than one class; nothing of classes."""
    data, answers = measured.data, measured.predictions.answers
    if data.targets is None:
        return {}
    found: dict[str, Any] = {"target": data.target, "headline": measured.test.headline}
    if data.target == "labels":
        return found | {"thresholds": dict(zip(data.outputs, answers.thresholds, strict=False)) or None}
    ranges = {
        name: {"low": float(low), "high": float(high)}
        for name, low, high in zip(data.outputs, data.truth.min(axis=0), data.truth.max(axis=0), strict=True)
    }
    return found | {"ranges": ranges, "half_widths": dict(zip(data.outputs, answers.half_widths, strict=False)) or None}


def class_counts(data: Dataset, split: Split) -> list[dict[str, Any]]:
    """Return how many samples of each class, or with each label, stand in each set, in their order; none of numbers."""
    import numpy as np

    if data.targets is not None:
        sums = {part: data.truth[rows].sum(axis=0) for part, rows in _parts(split)}
        named = enumerate(data.outputs if data.target == "labels" else ())
        return [{"class": name} | {part: int(n[i]) for part, n in sums.items()} for i, name in named]
    counts = {part: np.bincount(data.labels[rows], minlength=len(data.classes)) for part, rows in _parts(split)}
    return [
        {"class": name} | {part: int(n[label]) for part, n in counts.items()} for label, name in enumerate(data.classes)
    ]


def _counts(features: Features | None) -> dict[str, int]:
    if features is None:
        return {"computed": 0, "reused": 0}
    return {"computed": features.computed, "reused": features.reused}


def _parts(split: Split) -> Iterator[tuple[str, NDArray[np.int64]]]:
    return ((part, getattr(split, part)) for part in PARTS)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(as_json(value, indent=2) + "\n", encoding="utf-8")
