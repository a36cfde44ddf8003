"""Find copies: identical content, or the same picture saved or shrunk again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from thawline.errors import UsageError
from thawline.inputs import kind_of
from thawline.records import Copies

if TYPE_CHECKING:
    from numpy.typing import NDArray

CopiesSought = Literal["near", "exact", "off"]
"""Which copies must stay on one side of a split: all of them, those of identical content, or none."""


def check_copies(sought: str) -> None:
    """Refuse a word that says no kind of copies.

    Raises:
        UsageError: It is none of ``CopiesSought``.
    """
    if sought not in get_args(CopiesSought):
        raise UsageError(f"copies must be one of {', '.join(get_args(CopiesSought))}; got {sought!r}.")


def find_copies(
    digests: Sequence[str],
    sketches: NDArray[np.uint8],
    declared: Sequence[object] | None = None,
    *,
    labels: NDArray[np.int64] | None = None,
    sought: CopiesSought = "near",
    kind: str = "image",
) -> tuple[NDArray[np.int64], Copies]:
    """Number the samples so that copies, and samples of one declared group, get equal numbers.

    Near copies are pairwise near copies: if b is one of a, and c one of b, but c is none of a, then one of the three
    stays outside. A declared group, and identical content, is never taken apart, whatever it joins.

    Args:
        digests: (N,) equal for identical content.
        sketches: uint8 (N, ...), as the kind of input makes them.
        declared: (N,) hashable; None means a group of its own.
        labels: (N,) classes; samples that are alike are no copies if most of a class is among them.
        kind: Of input; it says which sketches are near.
    Returns:
        int64 (N,) groups, numbered by first appearance; and what was found.
    """
    n = len(digests)
    links = [] if sought == "off" else [_to_first(digests)]
    if declared is not None:
        links.append(_to_first(declared))
    own = np.arange(n, dtype=np.int64)
    firm = _numbered(_joined(own, links))
    copies = Copies(sought=sought, firm=firm, family=own, alike=np.full(n, -1, dtype=np.int64))
    if sought != "near" or n == 0:
        return firm, copies
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
    unique = np.array(sorted(first.values()), dtype=np.int64)
    of_unique = np.searchsorted(unique, [first[digest] for digest in digests])
    near = kind_of(kind).near(sketches[unique], None if labels is None else labels[unique])
    family, alike = unique[near.family][of_unique], near.alike[of_unique]
    copies = Copies(sought=sought, firm=firm, family=family, alike=alike)
    return _numbered(_joined(firm, [_to_first(family.tolist())])), copies


def _to_first(values: Sequence[object]) -> NDArray[np.int64]:
    """Return (M, 2) links from each row to the first one of equal value; None equals nothing."""
    first = {value: row for row, value in reversed(list(enumerate(values)))}
    links = [(row, first[value]) for row, value in enumerate(values) if value is not None and first[value] != row]
    return np.array(links, dtype=np.int64).reshape(-1, 2)


def _joined(numbers: NDArray[np.int64], links: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Give equal numbers to all that have equal numbers (N,) already or are linked, (M, 2) rows each."""
    for pairs in links:
        linked = numbers[pairs]
        linked = linked[linked[:, 0] != linked[:, 1]]
        if len(linked):
            from thawline.inputs.components import components  # slow to import, and most data have no copies

            numbers = components(linked, len(numbers))[numbers]
    return numbers


def _numbered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number by first appearance."""
    _, firsts, numbers = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(firsts), dtype=np.int64)
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    groups: NDArray[np.int64] = rank[numbers]
    return groups
