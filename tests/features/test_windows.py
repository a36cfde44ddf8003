"""Long texts in windows: all of a text is read, and its features are the mean over its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.hf_text_models import SENTENCES, small_text_backbone

import thawline as tl
from thawline.backbones import Backbone
from thawline.errors import UsageError
from thawline.inputs import kind_of
from thawline.inputs.text.tokens import tokens_of
from thawline.records import of_texts

LONG = " ".join(SENTENCES)
TEXTS = [*SENTENCES, LONG, f"{LONG} {LONG} {SENTENCES[0]}"]
LABELS = ["a", "b"] * 5


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    """The small encoder, reading texts in windows."""
    return small_text_backbone(tmp_path / "model", long="windows")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of short texts and of long ones."""
    path = tmp_path / "texts.csv"
    rows = [f'"{text}",{label}' for text, label in zip(TEXTS, LABELS, strict=True)]
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return path


def by_hand(text: str, backbone: Backbone) -> torch.Tensor:
    preparation, module = of_texts(backbone.preparation), backbone.module()
    with torch.no_grad():
        rows = [module(torch.from_numpy(ids).long()[None]) for ids in tokens_of(preparation).windows(text, preparation)]
    return torch.cat(rows).mean(0)


def test_windows_hold_every_token_once_and_are_alike_in_size(backbone: Backbone) -> None:
    preparation = of_texts(backbone.preparation)
    tokens = tokens_of(preparation)
    windows = tokens.windows(TEXTS[-1], preparation)
    sizes = {len(window) for window in windows}
    assert len(windows) > 3
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= preparation.length
    inner = np.concatenate([window[len(tokens.before) : -len(tokens.behind)] for window in windows])
    assert inner.tolist() == tokens._tokenizer.encode(TEXTS[-1], add_special_tokens=False).ids
    beyond = kind_of("text").beyond()
    kind_of("text").prepare(TEXTS[-1], preparation, beyond)
    assert beyond.remarks(()) == []


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=pytest.mark.slow)])
def test_features_are_the_mean_over_windows(backbone: Backbone, table: Path, engine: str) -> None:
    data = tl.open_data(table)
    found = tl.extract_features(data, backbone, engine=engine, precision="f32").values
    expected = np.stack([by_hand(str(data.source.read(row)), backbone).numpy() for row in range(len(data))])
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_model_that_reads_windows_is_fitted_frozen_and_predicts_so(
    backbone: Backbone, table: Path, tmp_path: Path
) -> None:
    data = tl.open_data(table)
    with pytest.raises(UsageError, match="a text that is read in windows must go through a frozen model"):
        tl.plan(data, backbone, thaw="last:1")
    plan = tl.plan(data, backbone)
    assert plan.thaw == "none"
    run = tl.fit(data, plan, run=tmp_path / "run")
    bundle = tl.load_bundle(run.folder)
    features = tl.extract_features(data, bundle.backbone, precision="f32").values
    expected = bundle.head.predict_proba(features)
    assert np.abs(bundle.predict(TEXTS).probabilities - expected).max() < 0.02  # the bundle may run in bfloat16
