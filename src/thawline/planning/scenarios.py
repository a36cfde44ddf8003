"""The map of the guides: from size and likeness to what one would retrain before measuring anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from thawline.planning.similarity import Likeness, SimilarityReport
from thawline.planning.size import SizeReading, SizeReport

ArmKind = Literal[
    "last-layer linear",
    "all-depth linear",
    "thaw last block",
    "freeze first part",
    "thaw first block",
    "thaw last half",
    "thaw all",
    "from scratch",
]
"""Ways that the guides name, from the cheapest to the dearest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One cell of the map: what to try first, and what then."""

    name: str
    """``small, similar``; ``unclear`` in place of a size or likeness that is."""
    first_arm: ArmKind
    then: tuple[ArmKind, ...]
    words: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values for ``--json``."""
        return asdict(self)


_Cell = tuple[ArmKind, tuple[ArmKind, ...]]

GUIDES: Mapping[tuple[str, str], _Cell] = {
    ("small", "similar"): ("last-layer linear", ("all-depth linear", "thaw last block")),
    ("small", "different"): ("all-depth linear", ("freeze first part", "thaw first block")),
    ("large", "similar"): ("thaw all", ("thaw last half",)),
    ("large", "different"): ("thaw all", ("from scratch",)),
}
"""(size, similarity) -> first arm, then. ``thaw first block`` is only for data that shift in the first layers."""

_ADVICE: Mapping[tuple[str, str], str] = {
    ("small", "similar"): "train a linear classifier on the last layer",
    ("small", "different"): "train on features of earlier layers, or freeze the first ones and train the rest",
    ("large", "similar"): "fine-tune everything from the pre-trained weights, at a low rate",
    ("large", "different"): "train everything, from the pre-trained weights or from scratch",
}


def scenario(size: SizeReport, similarity: SimilarityReport | None = None) -> Scenario:
    """Look up what the guides would retrain; if size or likeness is unclear, in all cells that may be meant."""
    return look_up(
        size.reading,
        "unclear" if similarity is None else similarity.reading,
        shifts_early=similarity is not None and similarity.shifts_early,
    )


def look_up(size: SizeReading, likeness: Likeness, *, shifts_early: bool = False) -> Scenario:
    """Return the cell of the map, or the union of the cells that may be meant, the cheaper cell's arms first.

    Args:
        shifts_early: Whether the first layers are shifted far more than the last ones.
    """
    sizes = ("small", "large") if size == "between" else (size,)
    likenesses = ("similar", "different") if likeness == "unclear" else (likeness,)
    cells = [(n, like) for n in sizes for like in likenesses]
    arms: list[ArmKind] = [GUIDES[cell][0] for cell in cells]
    arms += [arm for cell in cells for arm in GUIDES[cell][1] if arm != "thaw first block" or shifts_early]
    first, *then = dict.fromkeys(arms)
    name = f"{'unclear' if size == 'between' else size}, {likeness}"
    return Scenario(name=name, first_arm=first, then=tuple(then), words=_words(size, likeness, cells))


def _words(size: SizeReading, likeness: Likeness, cells: list[tuple[str, str]]) -> str:
    data = {"small": "few data", "between": "neither few nor many data", "large": "many data"}[size]
    like = {
        "similar": "like the source",
        "different": "unlike the source",
        "unclear": "of unclear likeness to the source",
    }[likeness]
    advice = "; or ".join(_ADVICE[cell] for cell in cells)
    return f"For {data} {like}, the guides say: {advice}. Measuring may overrule them."
