"""Which engine is chosen: by counts alone."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import thawline as tl
from thawline.engines import forecast
from thawline.engines.building import ConvertedBackbone, count_multiply_adds
from thawline.engines.choices import EngineChoice
from thawline.engines.forecast import Offer, choose
from thawline.features import ahead, extract_features
from thawline.store.store import FeatureStore

OPENVINO, TORCH = EngineChoice("openvino", "cpu", "bf16"), EngineChoice("torch", "cpu", "f32")
MOBILENET, RESNET50 = 300_000_000, 4_100_000_000


def _chosen(openvino: tuple[int, bool], torch: int, work: int = MOBILENET) -> tuple[str, str]:
    offers = [Offer(OPENVINO, *openvino), Offer(TORCH, torch, ready=True)]
    offer, why = choose(offers, lambda: work)
    return offer.choice.engine, why


def test_what_is_stored_is_taken() -> None:
    assert _chosen((100, True), 0) == ("torch", "all features are stored")
    assert _chosen((0, False), 100) == ("openvino", "all features are stored")
    assert _chosen((0, True), 0) == ("openvino", "all features are stored")


def test_what_is_converted_runs_unless_torch_has_much_less_to_do() -> None:
    assert _chosen((100, True), 100) == ("openvino", "converted already")
    assert _chosen((200, True), 100)[0] == "openvino"  # torch takes longer to start
    assert _chosen((50_000, True), 1)[0] == "torch"


def test_few_samples_are_not_worth_a_conversion_and_many_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "usable_processors", lambda: 2)
    engine, why = _chosen((20, False), 20)
    assert engine == "torch"
    assert why == "forecast for 20 samples: openvino 6.0 s, torch 3.2 s"
    assert _chosen((5_000, False), 5_000)[0] == "openvino"
    assert _chosen((100, False), 100, RESNET50)[0] == "openvino"
    monkeypatch.setattr(forecast, "usable_processors", lambda: 64)
    assert _chosen((5_000, False), 5_000)[0] == "torch"


def test_a_recorded_graph_needs_no_torch() -> None:
    offers = [Offer(OPENVINO, 20, ready=False, recorded=True), Offer(TORCH, 20, ready=True)]
    offer, why = choose(offers, lambda: pytest.fail("nothing has to be counted"))
    assert (offer.choice, why) == (OPENVINO, "its graph is recorded: torch need not be loaded")
    few_left = [offers[0], Offer(TORCH, 1, ready=True)]
    assert choose(few_left, lambda: MOBILENET)[0].choice == OPENVINO  # torch takes longer to start
    many_left = [Offer(OPENVINO, 50_000, ready=False, recorded=True), Offer(TORCH, 1, ready=True)]
    assert choose(many_left, lambda: MOBILENET)[0].choice == TORCH


def test_one_engine_is_no_choice() -> None:
    offer, why = choose([Offer(TORCH, 5, ready=True)], lambda: pytest.fail("nothing has to be counted"))
    assert (offer.choice, why) == (TORCH, "asked for, or the only one here")


def test_a_run_that_was_stopped_goes_on_with_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The more is stored, the sooner the same engine ends."""
    monkeypatch.setattr(forecast, "usable_processors", lambda: 2)
    for n in (50, 200, 400, 800):
        first, _ = _chosen((n, False), n)
        for stored in range(1, n, 37):
            left = ((n - stored, True), n) if first == "openvino" else ((n, False), n - stored)
            assert _chosen(*left)[0] == first, (n, stored)


def test_work_is_counted_without_weights(real_architecture: tl.Backbone) -> None:
    assert count_multiply_adds(real_architecture) == pytest.approx(4.1e9, rel=0.02)
    assert not real_architecture.is_built


@pytest.fixture
def real_architecture() -> tl.Backbone:
    return tl.open_backbone("timm/resnet50", architecture_only=True)


def _ahead_of(backbone: tl.Backbone, **asked: str) -> bool:
    """Whether it was built ahead."""
    ahead.build_ahead(backbone, **asked)
    for thread in threading.enumerate():
        if thread.name == "thawline-build":
            thread.join()
    return backbone.is_built


def test_a_backbone_is_built_ahead_only_where_that_is_needed(
    tiny_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> tl.Backbone:
        return tl.open_backbone(input_px=64)  # whose graph is not recorded

    assert _ahead_of(opened())
    data = tl.open_data(tiny_photos)
    extract_features(data, opened(), engine="torch")
    assert not _ahead_of(opened())  # features are stored
    FeatureStore().clear()
    assert _ahead_of(opened())
    precision = extract_features(data, opened(), engine="openvino").precision
    FeatureStore().clear()
    assert ConvertedBackbone(FeatureStore().root, opened(), ("pooled",)).are_there(precision)
    assert not _ahead_of(opened())  # it is converted
    monkeypatch.setattr(tl.Backbone, "module", lambda self: pytest.fail("a thread must not end with a traceback"))
    assert np.isfinite(extract_features(data, opened()).values).all()


def test_what_is_made_ahead_is_taken(tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, backbone = tl.open_data(tiny_photos), tl.open_backbone()
    asked = {"engine": "openvino", "precision": "bf16", "device": "cpu"}
    assert not _ahead_of(backbone, **asked)
    with monkeypatch.context() as patch:
        patch.setattr(ConvertedBackbone, "_engine", lambda self, precision: pytest.fail("it is there"))
        features = extract_features(data, backbone, **asked)
    assert (features.engine, features.computed, backbone.is_built) == ("openvino", 30, False)
    FeatureStore().clear()
    assert extract_features(data, backbone, **asked).values.tobytes() == features.values.tobytes()  # compiled from disk


def test_an_engine_that_is_kept_is_taken_once(tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, backbone = tl.open_data(tiny_photos), tl.open_backbone()
    asked = {"engine": "openvino", "precision": "bf16", "device": "cpu"}
    made, make = [], ConvertedBackbone._engine
    monkeypatch.setattr(
        ConvertedBackbone, "_engine", lambda self, precision: made.append(precision) or make(self, precision)
    )
    kept = extract_features(data, backbone, keep_engine=True, **asked).values
    FeatureStore().clear()
    again = extract_features(data, backbone, **asked).values
    assert len(made) == 1
    FeatureStore().clear()
    extract_features(data, backbone, **asked)
    assert len(made) == 2
    assert again.tobytes() == kept.tobytes()
