"""Which engine is chosen: by counts alone."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import thawline as tl
from thawline.features import EngineChoice, FeatureStore, ahead, extract_features, forecast
from thawline.features.building import Graphs, count_multiply_adds
from thawline.features.forecast import Offer, choose

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


def test_a_backbone_is_built_ahead_only_where_that_is_needed(
    tiny_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ahead_of(backbone: tl.Backbone) -> bool:
        ahead.build_ahead(backbone)
        for thread in threading.enumerate():
            if thread.name == "thawline-build":
                thread.join()
        return backbone.is_built

    assert ahead_of(tl.open_backbone())
    backbone = tl.open_backbone()
    data = tl.open_data(tiny_photos)
    extract_features(data, backbone, engine="torch")
    assert not ahead_of(tl.open_backbone())  # features are stored
    FeatureStore().clear()
    assert ahead_of(tl.open_backbone())
    precision = extract_features(data, backbone, engine="openvino").precision
    FeatureStore().clear()
    assert Graphs(FeatureStore().root, backbone, ("pooled",)).are_there(precision)
    assert not ahead_of(tl.open_backbone())  # it is converted
    monkeypatch.setattr(tl.Backbone, "module", lambda self: pytest.fail("a thread must not end with a traceback"))
    assert np.isfinite(extract_features(data, tl.open_backbone()).values).all()
