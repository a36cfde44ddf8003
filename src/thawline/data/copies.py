"""Say which samples are copies of others, and what was done about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from thawline.inputs import kind_of
from thawline.records import PARTS, Dataset
from thawline.showing import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CopyPair(NamedTuple):
    """Two samples that are near copies, or only alike."""

    rows: tuple[int, int]
    across: bool
    """Whether a split that the data brought has them on both sides."""


def copy_counts(dataset: Dataset) -> dict[str, Any]:
    """Return what ``metrics.json`` says of copies: how many samples are one of an earlier sample, by kind.

    ``across_given_split`` counts those near copies that a split of the user's own has on both sides.
    """
    copies = dataset.copies
    return {
        "sought": None if copies is None else copies.sought,
        "identical": len(dataset) - len(set(dataset.digests)),
        "near": 0 if copies is None else _near(dataset),
        "alike": 0 if copies is None else int(np.count_nonzero(copies.alike >= 0)),
        "across_given_split": len(_across(dataset)),
    }


def copy_pairs(dataset: Dataset, most: int) -> list[CopyPair]:
    """Return pairs of near copies to look at, those on both sides of a given split first; at most one of a family."""
    across = _across(dataset)
    shown = [CopyPair(pair, True) for pair in across.values()]
    families = _families(dataset) if len(shown) < most else []
    shown += [CopyPair((rows[0], rows[1]), False) for rows, number in families if number not in across]
    return shown[:most]


def alike_pairs(dataset: Dataset, most: int) -> list[CopyPair]:
    """Return pairs of samples that are alike but no copies, of as many different sets as there are."""
    if dataset.copies is None:
        return []
    alike, family = dataset.copies.alike, dataset.copies.family
    pairs = []
    for number in np.unique(alike[alike >= 0]):
        rows = np.flatnonzero(alike == number)
        others = rows[family[rows] != family[rows[0]]]
        if len(others):
            of_another_class = dataset.labels[others] != dataset.labels[rows[0]]  # it tells more, if there is one
            pairs.append(CopyPair((int(rows[0]), int(others[of_another_class.argmax()])), False))
    return pairs[:most]


def copy_remarks(dataset: Dataset) -> list[str]:
    """Say how many samples are copies of others, and on which side of the split they stand."""
    n, counts, copies = len(dataset), copy_counts(dataset), dataset.copies
    given = dataset.given is not None
    said = []
    if counts["identical"]:
        side = "Copies stay on one side of the split."
        if copies is not None and copies.sought == "off":
            side = f"{_both_sides(dataset)} on both sides of the split: --copies is off."
        said.append(f"{counts['identical']} of {n} samples repeat the content of another. {side}")
    if counts["near"]:
        a, b = (dataset.files[row] for row in copy_pairs(dataset, 1)[0].rows)
        side = "" if given else " They stay on one side of the split."
        said.append(
            f"{counts['near']} of {n} samples are near copies of another ({kind_of(dataset.kind).SAME}); "
            f"for one, {a} and {b}.{side}"
        )
    if counts["alike"] and copies is not None:
        said.append(_alike(dataset, copies.alike))
    if counts["across_given_split"]:
        said.append(_kept_as_given(dataset))
    return said


def _alike(dataset: Dataset, alike: NDArray[np.int64]) -> str:
    inside = alike >= 0
    scenes = len(np.unique(alike[inside]))
    whose = "one scene" if scenes == 1 else f"{scenes} scenes"
    classes = {(int(number), int(label)) for number, label in zip(alike[inside], dataset.labels[inside], strict=True)}
    of_one_class = scenes > 1 and len(classes) == scenes
    learned = " Each scene is of one class: the model may learn the scene instead of the class." if of_one_class else ""
    return (
        f"{np.count_nonzero(inside)} of {len(dataset)} pictures are nearly alike, as a fixed camera takes them of "
        f"{whose}. They are not taken for copies, except those that are far nearer to each other than is usual among "
        "them, and may stand on both sides of the split. If some belong together, name their groups in a table "
        f"(--group-column).{learned}"
    )


def _kept_as_given(dataset: Dataset) -> str:
    pairs = list(_across(dataset).values())
    some = "; ".join(f"{dataset.files[a]} and {dataset.files[b]}" for a, b in pairs[:3])
    more = f"; and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    what = counted(len(pairs), kind_of(dataset.kind).NOUN)
    return (
        f"Near copies of {what} are on both sides of the split that the data bring: "
        f"{some}{more}. The split is kept, and scores may be too high by them; remove them from one side to be sure."
    )


def _both_sides(dataset: Dataset) -> str:
    if dataset.given is None:
        return "They may stand"
    parts: dict[str, set[str]] = {}
    for digest, part in zip(dataset.digests, dataset.given.tolist(), strict=True):
        parts.setdefault(digest, set()).add(part)
    return f"{sum(len(found) > 1 for found in parts.values())} contents are"


def _near(dataset: Dataset) -> int:
    """Return how many different contents are near copies of another, beyond the first of each family."""
    assert dataset.copies is not None
    if dataset.copies.sought != "near":
        return 0
    return len(set(dataset.digests)) - len(np.unique(dataset.copies.family))


def _families(dataset: Dataset) -> list[tuple[list[int], int]]:
    """Return, for each family of near copies, one row for each of its contents, and its number."""
    if dataset.copies is None or dataset.copies.sought != "near":
        return []
    family = dataset.copies.family
    counts = np.bincount(np.unique(family, return_inverse=True)[1])
    several = np.isin(family, np.unique(family)[counts > 1])
    rows_of: dict[int, dict[str, int]] = {}
    for row in np.flatnonzero(several).tolist():
        rows_of.setdefault(int(family[row]), {}).setdefault(dataset.digests[row], row)
    return [(list(rows.values()), number) for number, rows in rows_of.items() if len(rows) > 1]


def _across(dataset: Dataset) -> dict[int, tuple[int, int]]:
    """Return, for each family that a given split has on both sides, its number and a row of each side.

    Identical contents do not count: the split leaves these out.
    """
    given = dataset.given
    if given is None or len(set(given)) < 2:
        return {}
    found = {}
    for rows, number in _families(dataset):
        by_part = {part: [row for row in rows if given[row] == part] for part in PARTS}
        sides = [rows[0] for rows in by_part.values() if rows]
        if len(sides) > 1:
            found[number] = sides[0], sides[1]
    return found


def why_one_group(dataset: Dataset, declared: Sequence[object] | None, rows: NDArray[np.int64]) -> str:
    """Say why rows are in one group, and what to do: they have one content, one declared group, or are near copies.

    Args:
        declared: (N,) groups as the user named them.
        rows: Of the data set; all of one group.
    """
    if len({dataset.digests[row] for row in rows}) == 1:
        return "have identical content. Bring other samples."
    if declared is not None:
        names = {str(declared[row]) for row in rows if declared[row] is not None}
        if len(names) == 1:
            return f"are in one group, {names.pop()!r}. Bring samples of other groups, or leave out --group-column."
        if names:
            return (
                f"are in groups that share samples ({', '.join(map(repr, sorted(names)[:3]))}). Name the groups "
                "otherwise, or leave out --group-column."
            )
    a, b = (dataset.files[row] for row in rows[:2])
    return (
        f"are copies of one {kind_of(dataset.kind).NOUN} ({a} and {b}, for instance). Bring other samples or, if these "
        "are no copies, say --copies exact."
    )
