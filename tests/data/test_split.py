from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from thawline.data import open_data, split_data
from thawline.errors import DataError, UsageError
from thawline.records import Dataset


def made_up(labels, groups=None, given=None, order=None) -> Dataset:
    """A data set of nothing but labels, groups and content names."""
    n = len(labels)
    order = np.arange(n) if order is None else np.asarray(order)
    labels, groups = np.asarray(labels), np.arange(n) if groups is None else np.asarray(groups)
    return Dataset(
        name="made up",
        files=tuple(f"f{i}" for i in range(n)),
        labels=labels[order].astype(np.int64),
        classes=tuple(f"c{i}" for i in range(labels.max() + 1)),
        source=None,
        digests=tuple(f"content {i}" for i in order),
        sketches=np.zeros((n, 16, 16, 3), np.uint8),
        groups=np.unique(groups[order], return_inverse=True)[1].astype(np.int64),
        given=None if given is None else np.asarray(given)[order],
    )


def counts(data, rows):
    return np.bincount(data.labels[rows], minlength=len(data.classes)).tolist()


def test_single_rows_are_split_to_the_row():
    data = made_up([0] * 100 + [1] * 40 + [2] * 20)
    split = split_data(data)
    assert counts(data, split.train) == [70, 28, 14]
    assert counts(data, split.val) == [15, 6, 3]
    assert counts(data, split.test) == [15, 6, 3]
    assert split.origin == (
        "drawn: 70 / 15 / 15 % for training, validation and test, stratified by class, "
        "copies and groups kept together, seed 0."
    )
    assert split.dropped.tolist() == []
    for rows in (split.train, split.val, split.test):
        assert rows.tolist() == sorted(rows.tolist())


def test_shares_hold_over_many_small_classes():
    data = made_up(np.repeat(np.arange(40), 10))  # 1.5 of each class wanted in val and in test
    split = split_data(data)
    assert (len(split.train), len(split.val), len(split.test)) == (280, 60, 60)
    assert min(counts(data, split.test)) >= 1


def test_the_draw_depends_on_content_and_seed_and_not_on_order():
    labels = np.arange(60) % 3
    order = np.random.default_rng(0).permutation(60)
    one, other = made_up(labels), made_up(labels, order=order)
    first, second = split_data(one), split_data(other)
    assert set(order[second.test]) == set(first.test)
    assert set(order[second.val]) == set(first.val)
    assert set(split_data(one, seed=1).test) != set(first.test)


def test_rare_classes_keep_a_training_and_a_test_sample():
    data = made_up([0] * 50 + [1] * 2 + [2] * 3)
    split = split_data(data)
    assert counts(data, split.train)[1:] == [1, 2]
    assert counts(data, split.test)[1:] == [1, 1]


def test_large_groups_stay_whole_and_shares_are_kept():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.integers(1, 12, 60))
    labels = groups % 2
    data = made_up(labels, groups)
    split = split_data(data)
    parts = np.zeros(len(data), int)
    parts[split.val], parts[split.test] = 1, 2
    assert all(len(set(parts[data.groups == g])) == 1 for g in range(60))
    shares = [
        np.array(counts(data, rows)) / np.array(counts(data, np.arange(len(data)))) for rows in (split.val, split.test)
    ]
    np.testing.assert_allclose(shares, 0.15, atol=0.01)


def test_one_group_of_a_class_is_trained_on():
    data = made_up([0] * 10 + [1] * 5, [*range(10), *[99] * 5])
    split = split_data(data)
    assert counts(data, split.train)[1] == 5


def test_two_groups_of_a_class_are_parted():
    data = made_up([0] * 10 + [1] * 9, [*range(10), *[98] * 8, 99])
    split = split_data(data)
    assert counts(data, split.train)[1] == 8
    assert counts(data, split.test)[1] == 1


def test_fractions_without_val_or_test():
    data = made_up(np.arange(40) % 2)
    split = split_data(data, fractions=(0.8, 0.0, 0.2))
    assert (len(split.train), len(split.val), len(split.test)) == (32, 0, 8)
    split = split_data(data, fractions=(0.8, 0.2, 0.0))
    assert (len(split.train), len(split.val), len(split.test)) == (32, 8, 0)


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5, 0.5), (0, 0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.5), (float("nan"), 0.5, 0.5)]
)
def test_fractions_that_cannot_be(fractions):
    with pytest.raises(
        UsageError, match=r"fractions must be three shares \(training, validation, test\) that add up to 1; got"
    ):
        split_data(made_up([0, 1] * 4), fractions=fractions)


def test_given_parts_are_kept_less_what_leaks():
    given = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    groups = [0, 1, 2, 3, 4, 5, 6, 1, 7, 8, 2, 6]  # row 1 stands in val, 2 in test, 6 (val) in test
    data = made_up([0, 1] * 6, groups, given)
    split = split_data(data)
    assert split.train.tolist() == [0, 3, 4, 5]
    assert split.val.tolist() == [7, 8]
    assert split.test.tolist() == [9, 10, 11]
    assert split.dropped.tolist() == [1, 2, 6]
    assert split.origin == ("given by the data; 3 rows left out because their content or group is on both sides.")


def test_a_training_row_may_stay_when_its_val_copy_is_dropped():
    # the val row leaks into test and goes; the training row shares that group, so it goes as well: test is never seen
    data = made_up([0, 1, 0, 1, 0, 1], [0, 1, 2, 0, 0, 3], ["train", "train", "train", "val", "test", "test"])
    assert split_data(data).dropped.tolist() == [0, 3]


def test_val_without_test_becomes_the_test_part():
    data = made_up([0, 1] * 4, given=["train"] * 6 + ["val"] * 2)
    split = split_data(data)
    assert (split.test.tolist(), split.val.tolist()) == ([6, 7], [])
    assert split.origin == "given by the data as train and val; val is used as the test set."


def test_test_without_val_leaves_val_empty():
    split = split_data(made_up([0, 1] * 4, given=["train"] * 6 + ["test"] * 2))
    assert split.val.tolist() == []
    assert split.origin == "given by the data as train and test."


def test_only_train_given_is_drawn():
    split = split_data(made_up([0, 1] * 20, given=["train"] * 40))
    assert len(split.test) == 6
    assert split.origin.startswith("drawn: ")


def test_a_class_that_only_leaks_is_refused():
    data = made_up([0, 1, 0, 1], [0, 1, 2, 1], ["train", "train", "train", "test"])
    with pytest.raises(DataError, match="made up: no training sample of class 'c1' is left without"):
        split_data(data)


def test_leaks_of_a_given_split_are_said_when_opened(class_folders):
    root = class_folders({"train/cat": 3, "train/dog": 3, "val/cat": 1, "val/dog": 1, "test/cat": 1, "test/dog": 1})
    shutil.copy(root / "test/cat/0.png", root / "train/cat/copy.png")
    shutil.copy(root / "val/dog/0.png", root / "train/dog/copy.png")
    data = open_data(root)
    assert data.warnings[-2] == (
        "2 samples of the training set are in the validation or test set too (same content or group) and are left out; "
        "first train/cat/copy.png."
    )
    assert [data.files[row] for row in split_data(data).dropped] == ["train/cat/copy.png", "train/dog/copy.png"]


def given_as_train_and_test(n: int) -> Dataset:
    """Groups of three, two classes; every fifth group is to test on."""
    groups = np.arange(n) // 3
    return made_up(groups % 2, groups=groups, given=np.where(groups % 5 == 0, "test", "train"))


def test_validating_draws_from_the_training_part_alone():
    data = given_as_train_and_test(300)
    plain, drawn = split_data(data), split_data(data, validating=True, seed=3)
    assert not len(plain.val) and len(drawn.val)
    assert drawn.test.tolist() == plain.test.tolist()
    assert sorted([*drawn.train, *drawn.val]) == plain.train.tolist()
    assert not set(data.groups[drawn.train]) & set(data.groups[drawn.val])
    assert len(drawn.val) / len(plain.train) == pytest.approx(0.15 / 0.85, abs=0.03)
    assert "18 % of the training set drawn as validation set" in drawn.origin and "seed 3" in drawn.origin
    again, other = (split_data(data, validating=True, seed=seed) for seed in (3, 4))
    assert again.val.tolist() == drawn.val.tolist() != other.val.tolist()


def test_validating_leaves_a_given_part_and_a_share_of_nothing_alone():
    data = given_as_train_and_test(60)
    assert not len(split_data(data, validating=True, fractions=(0.8, 0.0, 0.2)).val)
    parts = np.where(data.groups % 5 == 0, "test", np.where(data.groups % 5 == 1, "val", "train"))
    whole = replace(data, given=parts)
    assert split_data(whole, validating=True).val.tolist() == split_data(whole).val.tolist() != []
