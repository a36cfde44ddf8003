"""Predictions, and the two forms in which they are written."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    import numpy as np
    from numpy.typing import NDArray

    from thawline.records import Skipped


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a bundle says about each file."""

    files: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    """(N, C), rows sum to 1."""
    failed: tuple[Skipped, ...]
    """Files that could not be read, with the reason; they have no row."""

    def __len__(self) -> int:
        return len(self.files)

    @property
    def labels(self) -> tuple[str, ...]:
        """The most probable class of each file."""
        return tuple(self.classes[index] for index in self.probabilities.argmax(1))

    def to_json(self, n_top: int = 5) -> dict[str, Any]:
        """``{"predictions": [{"file", "label", "probability", "top"}], "failed": [{"file", "reason"}]}``."""
        order = (-self.probabilities).argsort(1, kind="stable")[:, :n_top]
        rows = zip(self.files, order, self.probabilities, strict=True)
        return {
            "predictions": [
                {
                    "file": file,
                    "label": self.classes[top[0]],
                    "probability": float(row[top[0]]),
                    "top": {self.classes[index]: float(row[index]) for index in top},
                }
                for file, top, row in rows
            ],
            "failed": [{"file": skipped.file, "reason": skipped.reason} for skipped in self.failed],
        }

    def write_csv(self, target: IO[str], true_labels: Sequence[str] | None = None) -> None:
        """One row per file: file, label, probability, then the probability of each class under its name.

        Floats are written in full, so that reading them back gives the same bits.

        Args:
            target: Open text file.
            true_labels: Written as a second column, ``true``, where they are known.
        """
        writer = csv.writer(target)
        known = [] if true_labels is None else ["true"]
        writer.writerow(["file", *known, "label", "probability", *(f"p({name})" for name in self.classes)])
        for index, (file, label) in enumerate(zip(self.files, self.labels, strict=True)):
            row = [repr(float(p)) for p in self.probabilities[index]]
            truth = [] if true_labels is None else [true_labels[index]]
            writer.writerow([file, *truth, label, repr(float(self.probabilities[index].max())), *row])
