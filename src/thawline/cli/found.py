"""The line that says what was found in the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thawline.inputs import kind_of
from thawline.records import OUTPUTS, PARTS, Target
from thawline.showing import counted, few, printable

if TYPE_CHECKING:
    from thawline.records import Dataset, Split

_SETS = {"train": "training", "val": "validation", "test": "test"}
_CLASSES = 10
"""Names of classes that are printed."""


def found_in(data: Dataset, split: Split | None = None) -> str:
    """Return how many samples of which classes there are and, if they are split, the size of each set."""
    n: dict[str, int] = {part: len(getattr(split, part)) for part in PARTS if split is not None}
    samples = sum(n.values()) or len(data)
    if data.target == "number":
        low, high = data.truth.min(axis=0), data.truth.max(axis=0)
        ranges = {name: f"{a:g} to {b:g}" for name, a, b in zip(data.outputs, low, high, strict=True)}
        return _line(data.kind, samples, data.target, ranges, len(data.skipped), n)
    counts = Counter(data.labels.tolist()) if data.targets is None else dict(enumerate(data.truth.sum(axis=0).tolist()))
    each = {name: f"{counts[i]:,}" for i, name in enumerate(data.outputs)}
    return _line(data.kind, samples, data.target, each, len(data.skipped), n)


def found_by(content: Mapping[str, Any]) -> str:
    """Return the same of the data of a run, from its report."""
    n = content["n"]
    target = content.get("target", "class")
    each = {row["class"]: f"{row['train'] + row['val'] + row['test']:,}" for row in content["class_counts"]}
    if target == "number":
        each = {name: f"{ends['low']:g} to {ends['high']:g}" for name, ends in content["ranges"].items()}
    return _line(content.get("kind", "image"), sum(n.values()), target, each, len(content["skipped"]), n)


def _line(kind: str, n: int, target: Target, said: Mapping[str, str], n_skipped: int, n_of: Mapping[str, int]) -> str:
    """``398 pictures, 2 classes (ants: 194, bees: 204): 245 training, 153 test, none skipped``."""
    each = [f"{printable(name, 40)}: {words}" for name, words in said.items()]
    names = f"{counted(len(said), *OUTPUTS[target])} ({few(each, _CLASSES, width=60)})"
    sets = ", ".join(f"{n_of[part]:,} {name}" for part, name in _SETS.items() if n_of.get(part))
    skipped = f"{n_skipped:,} skipped" if n_skipped else "none skipped"
    return f"{counted(n, kind_of(kind).NOUN)}, {names}{f': {sets}' if sets else ''}, {skipped}"
