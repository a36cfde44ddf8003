"""Split data into a training, a validation and a test set that share no content and no group."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thawline.data.listing import SET_NAMES
from thawline.errors import DataError, UsageError
from thawline.records import PARTS, Dataset, Part, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRAIN, _VAL, _TEST = range(3)
_STRATA = {"class": "class", "labels": "each sample's rarest label", "number": "the size of the numbers"}


def split_data(
    dataset: Dataset,
    *,
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
    seed: int = 0,
    validating: bool = False,
) -> Split:
    """Split a data set into training, validation and test rows, each in ascending order.

    A split that the data bring is kept, without the rows that are on both sides of it. Otherwise whole groups are
    drawn, and each class gets about its share in each set. The draw depends on the content and the seed, not on names
    or order. Every class keeps a training sample and, from two groups on, a test sample.

    Args:
        fractions: Shares of the training, validation and test set; they add up to 1.
        validating: Draw a validation set from the training set if a given split brings none: gradient training needs
            one to decide when to stop.
    Raises:
        UsageError: The fractions are not shares that add up to 1.
        DataError: No sample of a class is left to train on.
    """
    if dataset.given is not None and len(set(dataset.given)) > 1:
        given = _given(dataset)
        return _with_validation(given, dataset, _checked(fractions), seed) if validating else given
    shares = _checked(fractions)
    parts = _draw(dataset, shares, seed)
    percent = " / ".join(f"{100 * share:g}" for share in shares)
    origin = (
        f"drawn: {percent} % for training, validation and test, stratified by {_STRATA[dataset.target]}, "
        f"{_kept_together(dataset)} kept together, seed {seed}."
    )
    rows = [np.flatnonzero(parts == part).astype(np.int64) for part in range(3)]
    return Split(rows[_TRAIN], rows[_VAL], rows[_TEST], origin, np.empty(0, dtype=np.int64))


def _kept_together(dataset: Dataset) -> str:
    sought = "near" if dataset.copies is None else dataset.copies.sought
    return {"near": "copies and groups", "exact": "identical copies and groups", "off": "groups"}[sought]


def _with_validation(split: Split, dataset: Dataset, shares: tuple[float, float, float], seed: int) -> Split:
    """Draw a validation set from the training set, in the proportion of the fractions."""
    if len(split.val) or not shares[_VAL]:
        return split
    from thawline.data.subsets import subset

    of_train = shares[_VAL] / (shares[_TRAIN] + shares[_VAL])
    parts = _draw(subset(dataset, split.train), (1 - of_train, of_train, 0.0), seed)
    origin = (
        f"{split.origin.removesuffix('.')}; {100 * of_train:.0f} % of the training set drawn as validation set, "
        f"seed {seed}."
    )
    return replace(split, train=split.train[parts == _TRAIN], val=split.train[parts == _VAL], origin=origin)


def firm_groups(dataset: Dataset) -> NDArray[np.int64]:
    """Return (N,) the groups that no split may separate, not even one that the user gave: near copies are none."""
    return dataset.groups if dataset.copies is None else dataset.copies.firm


def leaking_rows(dataset: Dataset) -> dict[Part, tuple[NDArray[np.int64], str]]:
    """Find the rows that a given split drops: their content or group is in a later set too, which is named."""
    assert dataset.given is not None
    given, groups = dataset.given, firm_groups(dataset)
    in_test = np.isin(groups, groups[given == "test"])
    in_val = np.isin(groups, groups[(given == "val") & ~in_test])
    leaks: dict[Part, tuple[NDArray[np.int64], str]] = {}
    has_test = bool((given == "test").any())
    train, val = given == "train", given == "val"
    other = SET_NAMES["test" if has_test else "val"]
    if has_test and (train & in_val & ~in_test).any():
        other = "validation or test set"
    leaks["train"] = np.flatnonzero(train & (in_test | in_val)).astype(np.int64), other
    leaks["val"] = np.flatnonzero(val & in_test).astype(np.int64), SET_NAMES["test"]
    return leaks


def _given(dataset: Dataset) -> Split:
    given = dataset.given
    assert given is not None
    dropped = np.sort(np.concatenate([rows for rows, _ in leaking_rows(dataset).values()]))
    kept = ~np.isin(np.arange(len(dataset)), dropped)
    train, val, test = (np.flatnonzero((given == part) & kept).astype(np.int64) for part in PARTS)
    origin = "given by the data"
    if not len(test):
        origin, val, test = f"{origin} as train and val; val is used as the test set", test, val
    elif not len(val):
        origin += " as train and test"
    if len(dropped):
        origin += f"; {len(dropped)} rows left out because their content or group is on both sides"
    counts = np.bincount(dataset.labels[train], minlength=len(dataset.classes))
    if not len(train) or (counts.min() == 0 and dataset.targets is None):
        raise DataError(_no_training_sample(dataset, int(counts.argmin()), dropped))
    return Split(train, val, test, f"{origin}.", dropped)


def _no_training_sample(dataset: Dataset, label: int, dropped: NDArray[np.int64]) -> str:
    """Say why a given split leaves no training sample of a class, and what to do about it."""
    assert dataset.given is not None
    name = dataset.classes[label]
    own = dropped[(dataset.labels[dropped] == label) & (dataset.given[dropped] == "train")]
    later = {dataset.digests[row] for row in np.flatnonzero(dataset.given != "train")}
    if not len(own):
        return (
            f"{dataset.name}: the given split has no training sample of class {name!r}. Add some, or remove the class."
        )
    if all(dataset.digests[row] in later for row in own):
        what, step = "same content", "Remove the copies from one side, or keep the split as it is with --copies off"
    else:
        what, step = "same content or group", "Split by groups, or leave the groups out (--group-column)"
    return (
        f"{dataset.name}: no training sample of class {name!r} is left without those that are in the validation or "
        f"test set too ({what}). {step}."
    )


def _checked(fractions: tuple[float, float, float]) -> tuple[float, float, float]:
    fits = len(fractions) == 3 and all(0 <= share < 1 for share in fractions)  # NaN fails the comparison
    if not fits or not math.isclose(sum(fractions), 1, abs_tol=1e-6) or fractions[0] == 0:
        raise UsageError(
            f"fractions must be three shares (training, validation, test) that add up to 1; got {fractions!r}."
        )
    return fractions


def _draw(dataset: Dataset, shares: tuple[float, float, float], seed: int) -> NDArray[np.int64]:
    """Draw the set of each row (N,): 0 training, 1 validation, 2 test.

    Groups of several rows are placed first, largest first, each in the set where its classes lack most. Single rows,
    which are most of them, then fill each class exactly to its target.
    """
    # scikit-learn's StratifiedGroupKFold cuts into equal folds: 70/15/15 would need twenty of them, and a class with
    # fewer than twenty samples would be refused.
    rank = _random_rank(dataset, seed)
    members = _members(dataset.groups)
    several = sorted((rows for rows in members if len(rows) > 1), key=lambda rows: (-len(rows), rank[rows].min()))
    lacking = _targets(dataset, shares)
    parts = np.full(len(dataset), -1, dtype=np.int64)
    for rows in several:
        classes, counts = np.unique(dataset.labels[rows], return_counts=True)
        # Into the set where the fewest rows exceed the target, then where the most fill a lack.
        short = np.minimum(lacking[:, classes], counts).clip(min=0).sum(axis=1)
        over = (counts - lacking[:, classes]).clip(min=0).sum(axis=1)
        # Last key first: least overshoot, then what fills most, then the set that lacks most, then the larger share.
        part = int(np.lexsort((-np.array(shares), -lacking[:, classes].sum(axis=1), -short, over))[0])
        parts[rows] = part
        lacking[part, classes] -= counts
    for label in range(len(dataset.classes)):
        free = np.flatnonzero((parts < 0) & (dataset.labels == label))
        free = free[np.argsort(rank[free])]
        parts[free] = _fill(len(free), lacking[:, label])
    _keep_every_class(dataset, parts, members, rank, with_test=shares[_TEST] > 0)
    return parts


def _random_rank(dataset: Dataset, seed: int) -> NDArray[np.int64]:
    """Return (N,) a random order of the rows that content and seed decide; equal content has equal rank."""
    # A hash of the content rather than a shuffled position: renaming, sorting or adding files moves no other sample.
    keys = np.array([hashlib.sha256(f"split {seed} {digest}".encode()).hexdigest() for digest in dataset.digests])
    rank: NDArray[np.int64] = np.unique(keys, return_inverse=True)[1]
    return rank


def _members(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    order = np.argsort(groups, kind="stable")
    return list(np.split(order, np.flatnonzero(np.diff(groups[order])) + 1))


def _targets(dataset: Dataset, shares: tuple[float, float, float]) -> NDArray[np.int64]:
    """Return (3, C) the rows wanted in each set, rounded so that each set keeps its share over all classes."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    wanted = np.zeros((3, len(counts)), dtype=np.int64)
    for part in (_TEST, _VAL):
        # Largest remainders (Hamilton): floors first, then one more where most was cut off. The set then has its share
        # of all rows even if no class can give it exactly. 1e-9, because 0.29 x 100 is 28.999999999999996.
        exact = shares[part] * counts
        wanted[part] = np.floor(exact + 1e-9)
        missing = round(shares[part] * counts.sum()) - wanted[part].sum()
        wanted[part, np.argsort(wanted[part] - exact, kind="stable")[: max(missing, 0)]] += 1
    if shares[_TEST] > 0:
        wanted[_TEST] = np.maximum(wanted[_TEST], counts > 1)
    wanted[_VAL] = np.minimum(wanted[_VAL], counts - wanted[_TEST] - 1).clip(min=0)
    wanted[_TRAIN] = counts - wanted[_VAL] - wanted[_TEST]
    return wanted


def _fill(n: int, lacking: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign ``n`` single rows: test and validation set get what they lack, the training set the rest."""
    test = min(n, max(int(lacking[_TEST]), 0))
    if n and test == n and lacking[_TRAIN] > 0:
        test = n - 1
    val = min(n - test, max(int(lacking[_VAL]), 0), max(n - test - int(lacking[_TRAIN] > 0), 0))
    return np.repeat([_TEST, _VAL, _TRAIN], [test, val, n - test - val])


def _keep_every_class(
    dataset: Dataset,
    parts: NDArray[np.int64],
    members: list[NDArray[np.int64]],
    rank: NDArray[np.int64],
    with_test: bool,
) -> None:
    """Move the smallest fitting group if a class has no training sample or, with two groups or more, no test sample.

    Groups that hold several classes can make it impossible to have both; training then comes first.
    """
    holders: list[list[NDArray[np.int64]]] = [[] for _ in dataset.classes]
    for rows in sorted(members, key=lambda rows: (len(rows), rank[rows].min())):
        for label in np.unique(dataset.labels[rows]):
            holders[label].append(rows)
    for part in (_TEST, _TRAIN) if with_test else (_TRAIN,):
        for own in holders:
            if len(own) < (2 if part == _TEST else 1) or any(parts[rows[0]] == part for rows in own):
                continue
            # from the validation set if possible; else from the set that has more groups of this class than it needs
            parts[min(own, key=lambda rows: parts[rows[0]] != _VAL)] = part
