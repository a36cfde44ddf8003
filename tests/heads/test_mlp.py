"""The MLP head against scikit-learn's forward pass, and what it refuses to be rebuilt from."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from thawline.errors import DataError, RunError
from thawline.heads import LinearHead, MLPHead, head_from_tensors


def random_mlp(*widths: int, seed: int = 0, **settings: float) -> MLPHead:
    rng = np.random.default_rng(seed)
    pairs = list(zip(widths[1:], widths[:-1], strict=True))
    return MLPHead(
        tuple(rng.standard_normal(pair) for pair in pairs),
        tuple(rng.standard_normal(out) for out, _ in pairs),
        **settings,
    )


@pytest.mark.parametrize("hidden", [(5,), (8, 4), (6, 9, 3)])
def test_it_predicts_what_scikit_learn_does(blobs, hidden):
    values, labels = blobs(60, 7, 3)
    oracle = MLPClassifier(hidden, max_iter=20, random_state=0, tol=1).fit(values.astype(np.float64), labels)
    head = MLPHead(tuple(w.T for w in oracle.coefs_), tuple(oracle.intercepts_))
    assert head.predict_proba(values) == pytest.approx(oracle.predict_proba(values.astype(np.float64)), abs=1e-12)
    assert (head.kind, head.classes_n) == ("mlp", 3)
    assert head.n_parameters == sum(w.size for w in (*oracle.coefs_, *oracle.intercepts_))


def test_without_hidden_layers_it_is_linear(blobs):
    values, _ = blobs(300, 6, 4)
    head = random_mlp(6, 4)
    linear = LinearHead("linear", head.weights[0], head.biases[0])
    assert np.array_equal(head.logits(values), linear.logits(values))


def test_the_temperature_divides_the_decision(blobs):
    values, _ = blobs(10, 6, 4)
    warm = random_mlp(6, 5, 4, temperature=2.5)
    assert np.array_equal(warm.decision(values), random_mlp(6, 5, 4).decision(values))
    assert np.array_equal(warm.logits(values), warm.decision(values) / 2.5)
    powers = np.exp(warm.logits(values))
    assert warm.predict_proba(values) == pytest.approx(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("head", [random_mlp(37, 29, 11), LinearHead("linear", np.eye(11, 37) + 0.1, np.ones(11))])
def test_a_row_gets_the_same_bits_whatever_its_neighbours(blobs, head):
    values, _ = blobs(600, 37, 11)
    together = head.decision(values)
    for row in (0, 1, 255, 256, 511, 599):
        assert head.decision(values[row : row + 1]).tobytes() == together[row].tobytes()
    assert np.array_equal(head.decision(values[::-1]), together[::-1])
    assert np.array_equal(head.decision(values[:300]), together[:300])
    assert head.decision(values[:0]).shape == (0, 11)


def test_saved_and_rebuilt_it_predicts_the_same_bits(blobs):
    values, _ = blobs(50, 6, 3)
    head = random_mlp(6, 12, 5, 3, temperature=1.7, dropout=0.25)
    assert list(head.tensors()) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    again = head_from_tensors("mlp", head.tensors(), json.loads(json.dumps(head.settings())))
    assert isinstance(again, MLPHead)
    assert (again.temperature, again.dropout, again.n_parameters) == (1.7, 0.25, head.n_parameters)
    assert np.array_equal(again.predict_proba(values), head.predict_proba(values))


def test_the_order_of_the_saved_tensors_does_not_matter(blobs):
    values, _ = blobs(5, 6, 3)
    head = random_mlp(6, *[4] * 11, 3)  # with eleven layers 10.weight sorts before 2.weight
    again = head_from_tensors("mlp", dict(sorted(head.tensors().items())), head.settings())
    assert np.array_equal(again.logits(values), head.logits(values))


def test_a_linear_head_of_gradient_descent_is_rebuilt_under_its_name(blobs):
    values, _ = blobs(5, 6, 3)
    head = LinearHead("linear", np.ones((3, 6)), np.arange(3.0), temperature=2.0)
    again = head_from_tensors("linear", head.tensors(), head.settings())
    assert again.kind == "linear"
    assert np.array_equal(again.logits(values), head.logits(values))


def test_features_of_another_width_are_refused():
    with pytest.raises(DataError, match=r"must be \(N, 6\), as the head was fitted; got \(3, 5\)"):
        random_mlp(6, 4, 2).predict_proba(np.zeros((3, 5), np.float32))


GOOD = random_mlp(6, 4, 2).tensors()
SETTINGS: dict[str, object] = {"temperature": 1.0, "dropout": 0.0}


def without(name: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("tensors", "settings", "match"),
    [
        ({}, SETTINGS, "mlp head must hold '0.weight'"),
        (without("0.bias"), SETTINGS, "must hold '0.bias'"),
        (without("1.weight"), SETTINGS, "must hold '1.weight'"),
        (without("1.bias"), SETTINGS, "must hold '1.bias'"),
        (GOOD | {"7.weight": np.zeros((2, 2))}, SETTINGS, "must hold '2.weight'"),
        (GOOD | {"1.weight": np.zeros((2, 5))}, SETTINGS, r"1.weight must take the 4 outputs of layer 0; got \(2, 5\)"),
        (GOOD | {"0.weight": np.zeros(6)}, SETTINGS, r"0.weight must be \(outputs, inputs\).*got \(6,\) and \(4,\)"),
        (GOOD | {"1.bias": np.zeros(3)}, SETTINGS, r"1.bias \(outputs,\); got \(2, 4\) and \(3,\)"),
        (GOOD, {"dropout": 0.0}, "must hold 'temperature'"),
        (GOOD, {"temperature": 1.0}, "must hold 'dropout'"),
        (GOOD, {"temperature": -1.0, "dropout": 0.0}, "temperature must be above 0; got -1.0"),
        (GOOD, {"temperature": 1.0, "dropout": 1.0}, "dropout must be at least 0 and below 1; got 1.0"),
        (GOOD, {"temperature": "warm", "dropout": 0.0}, "mlp head is damaged: could not convert"),
    ],
)
def test_damaged_heads_are_refused(tensors, settings, match):
    with pytest.raises(RunError, match=match):
        head_from_tensors("mlp", tensors, settings)


def test_a_damaged_linear_head_is_refused():
    with pytest.raises(RunError, match=r"linear head is damaged: .*got \(2, 3\) and \(3,\)"):
        head_from_tensors("linear", {"weight": np.zeros((2, 3)), "bias": np.zeros(3)}, {"temperature": 1.0})


def test_an_unknown_kind_is_told_all_that_there_are():
    with pytest.raises(RunError, match="must be linear, mlp, logistic, ridge, svm or knn; got 'tree'"):
        head_from_tensors("tree", {}, {})
