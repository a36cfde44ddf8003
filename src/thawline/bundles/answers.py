"""What a model of labels or numbers answers: from which probability on a label is given, and how sure a number is."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from thawline.bundles.predictions import Predictions, as_table
from thawline.errors import UsageError
from thawline.records import Target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from thawline.records import Skipped

EVEN = 0.5
BEST = "best"
JOINED = "|"
"""Between the labels of one cell, as data may bring them."""
Threshold = float | Literal["best"]
"""From which probability on a label is given; ``best``: each from its own, at which its F1 was best on samples held
out."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a head puts out, beside the names of its outputs."""

    target: Target = "class"
    thresholds: tuple[float, ...] = ()
    """(C,) of labels, at which each one's F1 was best on samples held out; empty where none were."""
    half_widths: tuple[float, ...] = ()
    """(C,) of numbers: in 95 of 100 samples held out, the true number was no further from the predicted one; empty
    where too few were held out."""


CLASSES = Answers()


def check_threshold(threshold: Threshold, answers: Answers) -> tuple[float, ...] | float:
    """Return the threshold of all labels, or of each.

    Raises:
        UsageError: It is no probability, is not of labels, or nothing was held out to choose the best.
    """
    if threshold == EVEN:
        return EVEN
    if answers.target != "labels":
        raise UsageError(f"threshold (--threshold) is for models of labels; this one has target {answers.target}.")
    if threshold == BEST:
        if not answers.thresholds:
            raise UsageError("threshold must be a number: nothing was held out from this model to choose the best.")
        return answers.thresholds
    if not isinstance(threshold, float | int) or not 0 < threshold < 1:
        raise UsageError(f"threshold (--threshold) must be above 0 and below 1, or best; got {threshold!r}.")
    return float(threshold)


def predictions_of(
    answers: Answers,
    files: tuple[str, ...],
    names: tuple[str, ...],
    outputs: NDArray[np.float64],
    failed: tuple[Skipped, ...],
    *,
    warnings: tuple[str, ...] = (),
    column: str = "file",
    threshold: Threshold = EVEN,
) -> ClassPredictions:
    """Return what a model says, in the form of its target.

    Args:
        names: (C,) of the outputs.
        outputs: (N, C) probabilities or numbers.
        failed, warnings, column: As in ``Predictions``.
        threshold: Of labels.
    """
    at = check_threshold(threshold, answers)
    kind = _FORMS[answers.target]
    return kind(
        files=files, classes=names, probabilities=outputs, failed=failed, warnings=warnings, column=column,
        answers=answers, threshold=at,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ClassPredictions(Predictions):
    """One class for each sample."""

    answers: Answers = CLASSES
    threshold: tuple[float, ...] | float = EVEN


@dataclass(frozen=True, slots=True, eq=False)
class LabelPredictions(ClassPredictions):
    """Any number of labels for each sample; ``probabilities`` (N, C) are those of the labels, each by itself."""

    def _columns(self) -> tuple[str, ...]:
        return ("file", "labels")

    def _summary(self) -> str:
        from thawline.showing import counted, few

        given = Counter(label for labels in self.label_sets for label in labels)
        shown = [f"{n:,} {name}" for name, n in given.most_common()]
        failed = f", {len(self.failed):,} could not be read" if self.failed else ""
        return f"{counted(len(self), 'sample')}{': ' if shown else ''}{few(shown)}{failed}"

    def _rows(self) -> list[tuple[object, ...]]:
        return [(file, text) for file, text in zip(self.files, self.labels, strict=True)]

    @property
    def given(self) -> NDArray[np.bool_]:
        """(N, C) which labels each sample is given."""
        import numpy as np

        return np.asarray(self.probabilities >= np.asarray(self.threshold))

    @property
    def label_sets(self) -> tuple[tuple[str, ...], ...]:
        """(N,) the labels of each sample."""
        return tuple(
            tuple(name for name, has in zip(self.classes, row, strict=True) if has) for row in self.given.tolist()
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """(N,) the same as text, such as ``red|round``; empty for a sample without any."""
        return tuple(JOINED.join(labels) for labels in self.label_sets)

    def to_json(self, n_top: int = 5) -> dict[str, Any]:
        """Return ``{"predictions": [{"file", "labels", "probabilities"}], "failed": [{"file", "reason"}]}``.

        Only if there are any, ``"warnings"`` holds sentences.
        """
        return self._object(
            {"labels": list(labels), "probabilities": dict(zip(self.classes, map(float, row), strict=True))}
            for labels, row in zip(self.label_sets, self.probabilities, strict=True)
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with the columns of ``write_csv``."""
        columns = {self.column: self.files, "labels": self.labels}
        return as_table(columns | {f"p({name})": self.probabilities[:, i] for i, name in enumerate(self.classes)})

    def write_csv(self, target: IO[str], true_labels: Sequence[Any] | None = None) -> None:
        """Write a row for each sample: file, labels as ``red|round``, then the probability of each label.

        Args:
            target: Open text file.
            true_labels: (N, C) bool; written as a second column, ``true``.
        """
        writer = csv.writer(target)
        known = [] if true_labels is None else ["true"]
        writer.writerow([self.column, *known, "labels", *(f"p({name})" for name in self.classes)])
        for index, (file, labels) in enumerate(zip(self.files, self.labels, strict=True)):
            truth = [] if true_labels is None else [
                JOINED.join(name for name, has in zip(self.classes, true_labels[index], strict=True) if has)
            ]  # fmt: skip
            writer.writerow([file, *truth, labels, *(repr(float(p)) for p in self.probabilities[index])])


@dataclass(frozen=True, slots=True, eq=False)
class NumberPredictions(ClassPredictions):
    """One or more numbers for each sample: ``probabilities`` (N, C) holds them."""

    def _columns(self) -> tuple[str, ...]:
        return ("file", ", ".join(self.classes))

    def _summary(self) -> str:
        from thawline.showing import counted

        failed = f", {len(self.failed):,} could not be read" if self.failed else ""
        return f"{counted(len(self), 'sample')}, {', '.join(self.classes)}{failed}"

    def _rows(self) -> list[tuple[object, ...]]:
        return [(file, ", ".join(f"{v:g}" for v in row)) for file, row in zip(self.files, self.numbers, strict=True)]

    @property
    def numbers(self) -> NDArray[np.float64]:
        """(N, C) the predicted numbers."""
        return self.probabilities

    @property
    def labels(self) -> tuple[str, ...]:
        """(N,) the numbers of each sample as text."""
        return tuple(JOINED.join(repr(float(v)) for v in row) for row in self.numbers)

    def to_json(self, n_top: int = 5) -> dict[str, Any]:
        """Return ``{"predictions": [{"file", "numbers": {NAME: {"value", "interval95"}}}], "failed": [...]}``.

        ``interval95`` is null where too few samples were held out to know it. Only if there are any, ``"warnings"``
        holds sentences.
        """
        half = self.answers.half_widths
        return self._object(
            {
                "numbers": {
                    name: {"value": float(v), "interval95": [float(v) - half[i], float(v) + half[i]] if half else None}
                    for i, (name, v) in enumerate(zip(self.classes, row, strict=True))
                }
            }
            for row in self.numbers
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with the columns of ``write_csv``."""
        columns: dict[str, Any] = {self.column: self.files}
        for i, name in enumerate(self.classes):
            columns[name] = self.numbers[:, i]
            if self.answers.half_widths:
                half = self.answers.half_widths[i]
                columns |= {f"{name} low": columns[name] - half, f"{name} high": columns[name] + half}
        return as_table(columns)

    def write_csv(self, target: IO[str], true_labels: Sequence[Any] | None = None) -> None:
        """Write a row for each sample: file, each number under its name and, if known, both ends of its interval.

        Args:
            target: Open text file.
            true_labels: (N, C) numbers; each is written before the predicted one.
        """
        writer, half = csv.writer(target), self.answers.half_widths
        header = [self.column]
        for name in self.classes:
            header += [] if true_labels is None else [f"true {name}"]
            header += [name, *([f"{name} low", f"{name} high"] if half else [])]
        writer.writerow(header)
        for index, file in enumerate(self.files):
            cells: list[str] = [file]
            for i, value in enumerate(map(float, self.numbers[index])):
                cells += [] if true_labels is None else [repr(float(true_labels[index][i]))]
                cells += [repr(value), *([repr(value - half[i]), repr(value + half[i])] if half else [])]
            writer.writerow(cells)


_FORMS: dict[Target, type[ClassPredictions]] = {
    "class": ClassPredictions,
    "labels": LabelPredictions,
    "number": NumberPredictions,
}
