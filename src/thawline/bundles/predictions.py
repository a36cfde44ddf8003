"""Predictions, and the forms in which they are written and shown."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thawline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import IO

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from thawline.records import Skipped


def as_table(columns: dict[str, Any]) -> pd.DataFrame:
    """Return a table of columns by name.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError(
            f"to_pandas needs pandas, which cannot be imported: {error}. Install it: pip install pandas"
        ) from error
    return pd.DataFrame(columns)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a bundle says about each picture."""

    files: tuple[str, ...]
    """(N,) names: paths as they were given, or ``picture 1``, ``picture 2``, ..."""
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    """(N, C), rows sum to 1."""
    failed: tuple[Skipped, ...]
    """Pictures that could not be read, with the reason; they have no row."""
    warnings: tuple[str, ...] = ()
    """Sentences that the user should read before believing a prediction."""
    column: str = "file"
    """What the column of names is called: in a table, as the table calls it."""

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        return f"Predictions({self._summary()})"

    def _repr_html_(self) -> str:
        """Show the first rows, for notebooks."""
        from thawline.showing import MAX_ROWS, card, table_html

        tables = [table_html(self._columns(), self._rows()[:MAX_ROWS])]
        if self.failed:
            rows = [(skipped.file, skipped.reason) for skipped in self.failed]
            tables.append(table_html(("could not be read", "reason"), rows))
        shown = [f"The first {MAX_ROWS} of {len(self):,}."] if len(self) > MAX_ROWS else []
        return card("Predictions", (self._summary(), *shown), *tables)

    def _columns(self) -> tuple[str, ...]:
        """Names of what a card shows of each picture."""
        return ("file", "label", "probability")

    def _rows(self) -> list[tuple[object, ...]]:
        """(N,) what a card shows of each picture."""
        rows = zip(self.files, self.labels, self.probabilities, strict=True)
        return [(file, label, f"{p.max():.3f}") for file, label, p in rows]

    def _summary(self) -> str:
        from thawline.showing import counted, few

        classes = [f"{n:,} {name}" for name, n in Counter(self.labels).most_common()]
        failed = f", {len(self.failed):,} could not be read" if self.failed else ""
        return f"{counted(len(self), 'picture')}{': ' if classes else ''}{few(classes)}{failed}"

    @property
    def labels(self) -> tuple[str, ...]:
        """(N,) the most probable class of each picture."""
        return tuple(self.classes[index] for index in self.probabilities.argmax(1))

    def to_json(self, n_top: int = 5) -> dict[str, Any]:
        """Return ``{"predictions": [{"file", "label", "probability", "top"}], "failed": [{"file", "reason"}]}``.

        Only if there are any, ``"warnings"`` holds sentences.
        """
        order = (-self.probabilities).argsort(1, kind="stable")[:, :n_top]
        return self._object(
            {
                "label": self.classes[top[0]],
                "probability": float(row[top[0]]),
                "top": {self.classes[index]: float(row[index]) for index in top},
            }
            for top, row in zip(order, self.probabilities, strict=True)
        )

    def _object(self, answers: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Return what ``to_json`` does, of what is said of each picture."""
        return {
            "predictions": [{"file": file} | answer for file, answer in zip(self.files, answers, strict=True)],
            "failed": [{"file": skipped.file, "reason": skipped.reason} for skipped in self.failed],
        } | ({"warnings": list(self.warnings)} if self.warnings else {})

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with the columns of ``write_csv``.

        Raises:
            UsageError: pandas is not installed.
        """
        columns = {self.column: self.files, "label": self.labels, "probability": self.probabilities.max(1, initial=0)}
        classes = {f"p({name})": self.probabilities[:, i] for i, name in enumerate(self.classes)}
        return as_table(columns | classes)

    def write_csv(self, target: IO[str], true_labels: Sequence[Any] | None = None) -> None:
        """Write a row for each picture: file, label, probability, then the probability of each class under its name.

        Rows of a table come in its order, and its own name stands above their file names (``id``).
        Floats are written in full: reading them back gives the same bits.

        Args:
            target: Open text file.
            true_labels: Written as a second column, ``true``.
        """
        writer = csv.writer(target)
        known = [] if true_labels is None else ["true"]
        writer.writerow([self.column, *known, "label", "probability", *(f"p({name})" for name in self.classes)])
        for index, (file, label) in enumerate(zip(self.files, self.labels, strict=True)):
            row = [repr(float(p)) for p in self.probabilities[index]]
            truth = [] if true_labels is None else [true_labels[index]]
            writer.writerow([file, *truth, label, repr(float(self.probabilities[index].max())), *row])
