from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from thawline.errors import DataError, RunError, UsageError
from thawline.heads import fit_head, head_from_tensors
from thawline.heads.fitting import refit_head
from thawline.heads.folds import stratified_group_folds
from thawline.heads.head import softmax


@pytest.mark.parametrize("kind", ["logistic", "ridge", "knn"])
def test_a_saved_head_predicts_the_same_bits(blobs, kind):
    values, labels = blobs(50, 7, 3)
    head = fit_head(kind, values, labels, 3).head
    again = head_from_tensors(head.kind, head.tensors(), json.loads(json.dumps(head.settings())))
    assert (again.kind, again.classes_n, again.n_parameters) == (kind, 3, head.n_parameters)
    assert np.array_equal(again.logits(values), head.logits(values))
    assert np.array_equal(again.predict_proba(values), head.predict_proba(values))
    assert head.logits(values).dtype == np.float64


@pytest.mark.parametrize("kind", ["logistic", "ridge", "knn"])
def test_refitting_on_the_same_rows_gives_the_same_head(blobs, kind):
    values, labels = blobs(50, 7, 3)
    fitted = fit_head(kind, values, labels, 3)
    again = refit_head(fitted, values, labels, 3)
    assert again.kind == kind
    assert again.settings() == pytest.approx(fitted.head.settings(), rel=1e-9)
    assert np.abs(again.predict_proba(values) - fitted.head.predict_proba(values)).max() < 1e-5


@pytest.mark.parametrize("kind", ["logistic", "ridge", "knn"])
def test_probabilities_sum_to_one_and_follow_the_logits(blobs, kind):
    values, labels = blobs(50, 7, 3)
    head = fit_head(kind, values, labels, 3).head
    p, powers = head.predict_proba(values), np.exp(head.logits(values))
    assert p.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-12)
    assert p == pytest.approx(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("kind", ["logistic", "knn"])
def test_features_of_another_width_are_refused(blobs, kind):
    head = fit_head(kind, *blobs(20, 4, 2), 2).head
    with pytest.raises(DataError, match=r"must be \(N, 4\), as the head was fitted; got \(3, 5\)"):
        head.predict_proba(np.zeros((3, 5), np.float32))


WEIGHT, BIAS = np.zeros((2, 3)), np.zeros(2)


@pytest.mark.parametrize(
    ("kind", "tensors", "settings", "match"),
    [
        ("tree", {}, {}, "logistic, ridge, svm or knn; got 'tree'"),
        ("ridge", {"weight": WEIGHT}, {"temperature": 1.0}, "must hold 'bias'"),
        ("logistic", {"weight": WEIGHT, "bias": np.zeros(3)}, {"temperature": 1.0}, r"got \(2, 3\) and \(3,\)"),
        ("ridge", {"weight": WEIGHT, "bias": BIAS}, {"temperature": 0.0}, "above 0; got 0.0"),
        ("knn", {"values": WEIGHT, "labels": np.array([0, 9])}, {"classes_n": 2, "k": 5}, r"lie in 0\.\.1"),
        ("knn", {"values": WEIGHT, "labels": np.zeros(3)}, {"classes_n": 2, "k": 5}, r"got \(2, 3\) and \(3,\)"),
    ],
)
def test_damaged_heads_are_refused(kind, tensors, settings, match):
    with pytest.raises(RunError, match=match):
        head_from_tensors(kind, tensors, settings)


def test_unknown_kind_names_the_nearest():
    with pytest.raises(UsageError, match=r"logistic, ridge, svm, knn; got 'rigde'. Did you mean 'ridge'"):
        fit_head("rigde", [[0.0], [1.0]], [0, 1], 2)


def test_importing_the_room_loads_neither_torch_nor_scikit_learn_nor_scipy():
    code = "import sys, thawline.heads; print(sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_groups_whole_and_classes_even(seed):
    rng = np.random.default_rng(seed)
    groups = np.unique(rng.integers(0, 80, 200), return_inverse=True)[1]
    labels = rng.integers(0, 3, groups.max() + 1)[groups]
    fold = stratified_group_folds(labels, groups, 5, seed)
    assert all(len(np.unique(fold[groups == g])) == 1 for g in np.unique(groups))
    for c in range(3):
        held = np.bincount(fold[labels == c], minlength=5)
        assert np.ptp(held) <= np.bincount(groups).max()


def test_single_rows_are_dealt_to_within_one_of_each_class():
    labels = np.random.default_rng(0).integers(0, 4, 103)
    fold = stratified_group_folds(labels, np.arange(103), 5, 0)
    assert all(np.ptp(np.bincount(fold[labels == c], minlength=5)) <= 1 for c in range(4))
    assert not np.array_equal(fold, stratified_group_folds(labels, np.arange(103), 5, 1))


@pytest.mark.parametrize("seed", range(5))
def test_given_rows_are_dealt_to_the_first_fold_with_their_groups(seed):
    rng = np.random.default_rng(seed)
    groups = np.arange(240) // 2
    labels = rng.integers(0, 3, 120)[groups]
    given = np.zeros(240, dtype=bool)
    given[rng.choice(240, 25, replace=False)] = True
    fold = stratified_group_folds(labels, groups, 3, seed, in_first=given)
    assert not fold[np.isin(groups, groups[given])].any()
    assert all(len(np.unique(fold[groups == g])) == 1 for g in np.unique(groups))
    assert all(np.ptp(np.bincount(fold[labels == c], minlength=3)) <= 2 for c in range(3))  # whole pairs
    nobody = np.zeros(240, dtype=bool)
    assert np.array_equal(
        stratified_group_folds(labels, groups, 3, seed, in_first=nobody),
        stratified_group_folds(labels, groups, 3, seed),
    )


def test_never_more_folds_than_groups():
    assert set(stratified_group_folds(np.array([0, 1, 1]), np.array([0, 1, 1]), 5, 0).tolist()) == {0, 1}


def test_a_mixed_group_is_dealt_by_its_commonest_class():
    labels, groups = np.array([1, 1, 0, 2, 2, 2, 1, 1]), np.array([0, 0, 0, 1, 1, 1, 2, 2])
    for seed in range(20):
        fold = stratified_group_folds(labels, groups, 2, seed)
        assert fold[0] != fold[6], "groups 0 and 2 are mostly class 1"


def test_softmax_stands_large_logits():
    assert softmax(np.array([[1e4, 1e4, -1e4]])) == pytest.approx(np.array([[0.5, 0.5, 0.0]]))
