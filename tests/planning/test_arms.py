"""Arms are judged on what they did not learn from, and never on the test part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import thawline as tl
from thawline.data import split_data
from thawline.errors import DataError
from thawline.planning import arms
from thawline.planning.arms import judge_head, mark_out


@pytest.fixture
def data(tiny_photos: Path) -> tl.Dataset:
    return tl.open_data(tiny_photos)


def test_the_field_holds_nothing_of_the_test_part(data: tl.Dataset) -> None:
    split = split_data(data, seed=3)
    field = mark_out(data, split, 3)
    assert not set(field.rows) & set(split.test)
    assert set(field.rows) == set(split.train) | set(split.val)
    assert np.array_equal(field.labels, data.labels[field.rows])
    for fold in range(field.n_folds):
        inside = field.inside(fold)
        assert not set(field.groups[inside]) & set(field.groups[~inside])


@pytest.mark.parametrize("seed", [0, 3])
def test_the_validation_set_lies_in_the_first_fold(data: tl.Dataset, seed: int) -> None:
    from dataclasses import replace

    pairs = replace(data, groups=np.arange(len(data)) // 2)  # each sample has a copy, in the same set
    for opened in (data, pairs):
        split = split_data(opened, seed=seed)
        field = mark_out(opened, split, seed)
        assert np.isin(split.val, field.rows[field.inside(0)]).all()
        for fold in range(1, field.n_folds):
            assert set(field.labels[field.inside(fold)]) == set(field.labels)
    sizes = np.bincount(mark_out(data, split_data(data, seed=seed), seed).fold)
    assert sizes.max() - sizes.min() <= 3  # of three classes


def test_many_samples_are_sampled_and_keep_their_classes(monkeypatch: pytest.MonkeyPatch, data: tl.Dataset) -> None:
    monkeypatch.setattr(arms, "MOST_ROWS", 12)
    split = split_data(data)
    field = mark_out(data, split, 0)
    assert len(field.rows) <= 14 < len(split.train) + len(split.val)
    assert set(field.labels) == set(data.labels)


def test_fewer_samples_are_whole_groups_with_the_shares_of_classes() -> None:
    groups = np.arange(3_000) // 2
    labels = (groups % 10 == 0).astype(np.int64)
    taken = arms.fewer(labels, groups, 600, 0)
    assert 500 <= taken.sum() <= 600
    assert labels[taken].mean() == pytest.approx(labels.mean(), abs=0.02)
    assert not set(groups[taken]) & set(groups[~taken])
    assert arms.fewer(labels[:600], groups[:600], 600, 0).all()


def test_one_group_cannot_be_dealt(data: tl.Dataset) -> None:
    from dataclasses import replace

    split = split_data(data)
    same = replace(data, groups=np.zeros(len(data), np.int64))
    with pytest.raises(DataError, match="are one group"):
        mark_out(same, split, 0)


def test_a_head_is_judged_by_what_it_learned_from_the_other_folds(data: tl.Dataset) -> None:
    """Features that name each sample, and say nothing about its class, are of no use for the others."""
    split = split_data(data)
    field = mark_out(data, split, 0)
    n = len(field.rows)
    useless = np.eye(n, dtype=np.float32)
    telling = np.eye(field.n_classes, dtype=np.float32)[field.labels]
    chance = np.bincount(field.labels).max() / n
    blind = judge_head(field, useless, name="a", layer="pooled", seed=0)
    sees = judge_head(field, telling, name="b", layer="pooled", seed=0)
    assert blind.judged.all()
    assert blind.correct(field.labels).mean() <= chance + 0.15
    assert sees.correct(field.labels).mean() == 1


def test_depths_side_by_side_have_the_same_say() -> None:
    """A depth of large numbers must not drown one that tells the classes apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    telling = (labels[:, None] + rng.normal(0, 0.3, (60, 2))).astype(np.float32)
    loud = rng.normal(0, 1000, (60, 50)).astype(np.float32)
    field = arms.Field(np.arange(60), labels, np.arange(60), np.arange(60) // 2 % 3, 2)
    values = np.concatenate([loud, telling], axis=1)
    weighed = judge_head(field, values, name="a", layer="x,y", widths=(50, 2), seed=0)
    raw = judge_head(field, values, name="b", layer="x,y", seed=0)
    assert weighed.correct(labels).mean() > 0.9 > raw.correct(labels).mean()


def test_a_class_of_one_group_is_learned_from_and_never_judged(data: tl.Dataset) -> None:
    """No arm can tell a class that it has not seen; one such row would drown the losses of all others."""
    from dataclasses import replace

    split = split_data(data)
    rows = np.sort(np.concatenate([split.train, split.val]))
    labels, groups = data.labels.copy(), np.arange(len(data))
    labels[rows[0]], groups[rows[1]] = len(data.classes), groups[rows[0]]  # a class of one sample, and a copy of it
    rare = replace(data, labels=labels, groups=groups, classes=(*data.classes, "rare"))
    field = mark_out(rare, split, 0)
    assert np.array_equal(np.flatnonzero(field.fold < 0), [0, 1])
    assert field.n_folds == mark_out(data, split, 0).n_folds
    telling = np.eye(field.n_classes, dtype=np.float32)[field.labels]
    for head in ("logistic", "svm", "ridge", "knn"):
        arm = judge_head(field, telling, name="a", layer="pooled", head=head, seed=0)
        assert np.array_equal(np.flatnonzero(~arm.judged), [0, 1])
        assert np.nanmean(arm.losses(field.labels)) < 0.5
