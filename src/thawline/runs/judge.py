"""Evaluate a finished run on other labelled data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.data import subset
from thawline.data.folders.words import is_unlabelled
from thawline.errors import DataError, nearest
from thawline.evaluation import evaluator_for, only_class, score, to_json
from thawline.inputs import kind_of
from thawline.listening import Listener
from thawline.naming import canonical, quoted
from thawline.notebook import default_listener
from thawline.records import Dataset, Scores, Target, Targets
from thawline.showing import few

if TYPE_CHECKING:
    from thawline.runs.run import Run


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Scores of a run on a data set."""

    run: Path
    data: str
    n: int
    classes: tuple[str, ...]
    """Classes of the run: rows and columns of the confusion matrix."""
    scores: Scores
    target: Target
    n_seen: int
    """Samples whose content the model learned from; they make the scores too good."""
    warnings: tuple[str, ...] = ()
    """What a user should know of these scores; notes about the data stand with the data."""

    def to_json(self) -> dict[str, Any]:
        """The object that ``thawline evaluate --json`` prints."""
        return {
            "run": str(self.run),
            "data": self.data,
            "n": self.n,
            "n_seen": self.n_seen,
            "warnings": list(self.warnings),
            "test": to_json(self.scores),
            "per_class": [
                {"class": name, **row} for name, row in zip(self.classes, self.scores.per_class, strict=True)
            ],
            "confusion": self.scores.confusion.tolist(),
        }


def evaluate(run: Run, data: Dataset, *, seed: int = 0, listener: Listener | None = None) -> Evaluation:
    """Score a run's bundle on the test set of labelled data, or on all of them if they come without one.

    Raises:
        DataError: The data have a class that the run has not.
    """
    import numpy as np

    listener = listener or default_listener()
    bundle = run.bundle
    if data.given is not None and "test" in data.given:
        data = subset(data, np.flatnonzero(data.given == "test"))
        listener.note(f"{data.name} has a test set; the scores are for its {len(data):,} samples.")
    if bundle.answers.target != data.target:
        raise DataError(
            f"{data.name} was read for target {data.target}; the run has target {bundle.answers.target}. Read the data "
            f"with --target {bundle.answers.target}."
        )
    if data.targets is not None:
        return _of_targets(run, data, data.targets, seed, listener)
    noun = kind_of(data.kind).NOUN
    index = {canonical(name): position for position, name in enumerate(bundle.classes)}
    named = [canonical(name) for name in data.classes]
    if unknown := [name for name in named if name not in index]:
        raise DataError(
            f"classes must be among those of the run ({', '.join(bundle.classes[:10])}); {data.name} has "
            f"{', '.join(map(quoted, unknown[:5]))}.{nearest(unknown[0], bundle.classes)} "
            + (
                f"{noun.capitalize()}s without labels are for thawline predict {run.folder} DATA."
                if all(map(is_unlabelled, unknown))
                else "Rename the class or leave it out."
            )
        )
    present = {named[label] for label in np.unique(data.labels)}
    absent = [name for name in bundle.classes if canonical(name) not in present]
    predictions = bundle.predict(data, progress=partial(listener.progress, "features"))
    warnings = predictions.warnings
    if absent:
        some = (
            f"{data.name} has no sample of {len(absent)} of the {len(bundle.classes)} classes of the run "
            f"({few(absent)}). The scores say nothing about them."
        )
        warnings = (some, *warnings)
    labels = np.array([index[named[label]] for label in data.labels], dtype=np.int64)
    if (only := only_class(labels, predictions.probabilities, bundle.classes)) is not None:
        warnings = (*warnings, f"{only} Are these {noun}s like those that it learned from?")
    for warning in warnings:
        listener.note(warning)
    return Evaluation(
        run=run.folder,
        data=data.name,
        n=len(data),
        classes=bundle.classes,
        n_seen=sum(digest in run.seen for digest in data.digests),
        scores=score(labels, predictions.probabilities, len(bundle.classes), seed=seed),
        target="class",
        warnings=warnings,
    )


def _of_targets(run: Run, data: Dataset, targets: Targets, seed: int, listener: Listener) -> Evaluation:
    """Score a run's bundle on labels or numbers; columns are brought to the order of the run by their names."""
    import numpy as np

    bundle = run.bundle
    if targets.kind == "labels":
        if unknown := [name for name in targets.names if name not in bundle.classes]:
            raise DataError(
                f"labels must be among those of the run ({', '.join(bundle.classes[:10])}); {data.name} has "
                f"{', '.join(map(quoted, unknown[:5]))}.{nearest(unknown[0], bundle.classes)} "
                "Rename the label or leave it out."
            )
        truth = np.zeros((len(data), len(bundle.classes)), dtype=np.bool_)
        truth[:, [bundle.classes.index(name) for name in targets.names]] = targets.values
    elif targets.values.shape[1] != len(bundle.classes):
        raise DataError(
            f"numbers must be those of the run ({', '.join(bundle.classes)}); {data.name} has "
            f"{', '.join(targets.names)}. Name their columns with --label-column."
        )
    else:
        same = set(targets.names) == set(bundle.classes)
        order = [targets.names.index(name) for name in bundle.classes] if same else list(range(len(bundle.classes)))
        truth = targets.values[:, order]
    predictions = bundle.predict(data, progress=partial(listener.progress, "features"))
    warnings = predictions.warnings
    for warning in warnings:
        listener.note(warning)
    best = bundle.answers.thresholds
    return Evaluation(
        run=run.folder,
        data=data.name,
        n=len(data),
        classes=bundle.classes,
        n_seen=sum(digest in run.seen for digest in data.digests),
        scores=evaluator_for(targets.kind).score(
            truth, predictions.probabilities, seed=seed, thresholds=np.array(best) if best else None
        ),
        target=targets.kind,
        warnings=warnings,
    )
