"""Whatever the data: parts are disjoint in rows, content and groups, complete, and every class can be learned."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thawline.data.split import split_data
from thawline.errors import DataError
from thawline.records import PARTS, Dataset


@st.composite
def data_sets(draw, with_parts: bool = False) -> Dataset:
    n = draw(st.integers(2, 60))
    n_groups = draw(st.integers(1, n))
    numbers = draw(st.lists(st.integers(0, n_groups - 1), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, draw(st.integers(0, 6))), min_size=n, max_size=n))
    parts = draw(st.lists(st.sampled_from(PARTS), min_size=n, max_size=n)) if with_parts else None
    return made_up(labels, numbers, parts, copies=draw(st.booleans()))


def made_up(labels, groups, parts, copies) -> Dataset:
    n = len(labels)
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return Dataset(
        name="made up",
        files=tuple(f"f{i}" for i in range(n)),
        labels=labels,
        classes=tuple(f"c{i}" for i in range(labels.max() + 1)),
        source=None,
        digests=tuple(f"{g if copies else i}" for i, g in enumerate(groups)),
        sketches=np.zeros((n, 16, 16, 3), np.uint8),
        groups=groups,
        given=None if parts is None else np.array(parts),
    )


def check_disjoint(data: Dataset, split) -> None:
    rows = np.concatenate([split.train, split.val, split.test, split.dropped])
    assert sorted(rows) == list(range(len(data)))
    for key in (data.groups, np.array(data.digests)):
        train, val, test = (set(key[part]) for part in (split.train, split.val, split.test))
        assert not train & val
        assert not train & test
        assert not val & test


@given(data_sets(), st.integers(0, 3))
def test_a_drawn_split_never_leaks_and_every_class_is_trained(data, seed):
    split = split_data(data, seed=seed)
    check_disjoint(data, split)
    assert not len(split.dropped)
    single_class_groups = all(len(set(data.labels[data.groups == g])) == 1 for g in set(data.groups))
    for label in range(len(data.classes)):
        own = set(data.groups[data.labels == label])
        if single_class_groups:
            assert label in data.labels[split.train]
            assert len(own) < 2 or label in data.labels[split.test]
    again = split_data(data, seed=seed)
    assert all(np.array_equal(getattr(split, part), getattr(again, part)) for part in PARTS)


@given(data_sets(), st.randoms(use_true_random=False))
def test_a_drawn_split_does_not_depend_on_the_order_of_rows(data, random):
    order = list(range(len(data)))
    random.shuffle(order)
    moved = made_up(data.labels[order], data.groups[order], None, copies=False)
    moved = Dataset(**{f: getattr(moved, f) for f in ("name", "files", "source", "sketches")},
                    labels=data.labels[order], classes=data.classes, groups=moved.groups,
                    digests=tuple(data.digests[i] for i in order))  # fmt: skip
    first, second = split_data(data), split_data(moved)
    for part in PARTS:
        assert {order[row] for row in getattr(second, part)} == set(getattr(first, part))


@given(data_sets(with_parts=True))
def test_a_given_split_never_leaks(data):
    if len(set(data.given)) == 1:
        return
    try:
        split = split_data(data)
    except DataError as error:
        assert "no training sample of class" in str(error)
        return
    check_disjoint(data, split)
    if "test" in data.given:
        np.testing.assert_array_equal(split.test, np.flatnonzero(data.given == "test"))
