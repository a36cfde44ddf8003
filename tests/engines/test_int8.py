"""int8 for text encoders: how products are rounded, how far the features stray, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import toy_text

import thawline as tl
from thawline.engines.building import ConvertedBackbone
from thawline.engines.choices import engine_choices
from thawline.engines.converting.quantising import quantised
from thawline.engines.converting.refining import smallest_cosine
from thawline.engines.openvino_engine import OpenVINOEngine
from thawline.errors import UsageError
from thawline.features import extract_features
from thawline.inputs import kind_of
from thawline.planning import Asked
from thawline.scale.openvino_core import core
from thawline.scale.openvino_import import ov
from thawline.store import FeatureStore

ops = ov.opset13


def product(weights: np.ndarray, *, turned: bool) -> ov.Model:
    given = ops.parameter(ov.PartialShape([-1, -1, weights.shape[1]]), np.float32)
    factor = weights if turned else np.ascontiguousarray(weights.T)
    return ov.Model([ops.result(ops.matmul(given, ops.constant(factor), False, turned))], [given], "product")


@pytest.mark.parametrize("turned", [True, False])
def test_a_product_is_that_of_rounded_numbers(turned: bool) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(6, 8)).astype(np.float32)
    batch = rng.normal(size=(2, 5, 8)).astype(np.float32)
    batch[..., 3] *= 30  # a channel that would stretch the range of all
    model = product(weights, turned=turned)
    found = core().compile_model(quantised(model, [batch]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([batch])[0]

    # the same by hand
    largest = np.abs(batch).max((0, 1))
    smaller = np.sqrt(np.maximum(1, largest / np.median(largest)))
    given = batch / smaller
    step = (given.max() - given.min()) / 255
    given = np.round(given / step) * step
    wider = weights * smaller
    reach = np.abs(wider).max(1, keepdims=True)
    expected = given @ (np.round(wider / reach * 63) / 63 * reach).T
    np.testing.assert_allclose(found, expected, atol=float(3 * step * np.abs(wider).max()))
    exact = batch @ weights.T
    cosine = (found * exact).sum() / np.linalg.norm(found) / np.linalg.norm(exact)
    assert 0.999 < cosine < 1


def test_every_product_with_weights_is_quantised_and_zero_is_a_level() -> None:
    weights = np.ones((4, 4), np.float32)
    model = quantised(product(weights, turned=True), [np.linspace(-0.3, 1, 8, dtype=np.float32).reshape(1, 2, 4)])
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert kinds.count("FakeQuantize") == 2 and kinds.count("MatMul") == 1
    nothing = np.zeros((1, 1, 4), np.float32)
    assert core().compile_model(model, "CPU")([nothing])[0] == pytest.approx(0, abs=1e-6)


def test_features_are_near_those_in_float32_and_kept_apart(tmp_path: Path) -> None:
    data, backbone, store = toy_text.text_dataset(60), toy_text.toy_encoder(), FeatureStore(tmp_path)
    exact = extract_features(data, backbone, engine="openvino", precision="f32", store=store)
    found = extract_features(data, backbone, engine="openvino", precision="int8", store=store)
    assert found.precision == "int8" and found.computed == exact.computed and found.key != exact.key
    assert 0.98 < smallest_cosine([found.values], [exact.values]) < 0.999999
    again = extract_features(data, backbone, precision="int8", store=store)
    assert again.computed == 0 and (again.values == found.values).all()


def test_graphs_are_kept_and_give_the_same_bits(tmp_path: Path) -> None:
    backbone = toy_text.toy_encoder()
    made = ConvertedBackbone(tmp_path, backbone, ("pooled",))
    stored = made.opened("int8")
    assert stored.key.precision == "int8" and stored.precisions == ("f32",) and stored.cosine < 1
    prepare, preparation = kind_of("text").prepare, toy_text.preparation()
    samples = np.stack([prepare(text, preparation) for text in toy_text.texts(9)[0]])
    fresh = ConvertedBackbone(tmp_path / "other", backbone, ("pooled",)).engine("int8")
    assert (OpenVINOEngine(stored, "int8").run(samples) == fresh.run(samples)).all()


def test_a_fit_ships_an_int8_bundle(tmp_path: Path) -> None:
    data = toy_text.text_dataset(120)
    encoder = toy_text.toy_encoder()
    asked = Asked.of(thaw="none", precision="int8")
    run = tl.fit(data, asked, backbone=encoder, run=tmp_path / "run")
    assert run.bundle.precision == "int8"
    texts, _ = toy_text.texts(40, seed=5)
    exact = tl.fit(data, Asked.of(thaw="none", precision="f32"), backbone=encoder, run=tmp_path / "exact").bundle
    found, expected = run.bundle.predict(texts).probabilities, exact.predict(texts).probabilities
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9 and (found != expected).any()


def test_int8_is_refused_for_what_it_is_not_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="precision int8 needs the engine openvino on a processor; got engine torch"):
        engine_choices("torch", "int8", "cpu")
    assert [choice.engine for choice in engine_choices("auto", "int8", "cpu")] == ["openvino"]
    with pytest.raises(UsageError, match="precision int8 is for text encoders"):
        ConvertedBackbone(tmp_path, tl.open_backbone(), ("pooled",)).opened("int8")
    with pytest.raises(UsageError, match="precision int8 must go with thaw none"):
        Asked.of(thaw="all", precision="int8")
