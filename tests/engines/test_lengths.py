"""Engines on samples of various lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests import toy_text

from thawline.engines.building import ConvertedBackbone
from thawline.engines.choices import Engine
from thawline.engines.graphs import read_graphs
from thawline.engines.openvino_engine import OpenVINOEngine
from thawline.engines.torch_engine import TorchEngine
from thawline.features import extract_features
from thawline.inputs import kind_of


def engine_of(name: str, root: Path) -> Engine:
    backbone = toy_text.toy_encoder()
    if name == "torch":
        return TorchEngine(backbone, ("blocks.0", "pooled"), precision="f32", device="cpu")
    return ConvertedBackbone(root, backbone, ("blocks.0", "pooled")).engine("f32")


def samples(n: int = 60) -> NDArray[Any]:
    held, _ = toy_text.texts(n, longest=60)
    prepare, preparation = kind_of("text").prepare, toy_text.preparation()
    return np.stack([prepare(text, preparation) for text in held])


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_a_sample_alone_has_the_bits_that_it_has_among_others(name: str, tmp_path: Path) -> None:
    engine, given = engine_of(name, tmp_path), samples()
    together = engine.run(given)
    shuffled = np.random.default_rng(0).permutation(len(given))
    assert (engine.run(given[shuffled]) == together[shuffled]).all()
    for row in range(0, len(given), 7):
        assert (engine.run(given[row : row + 1]) == together[row]).all()


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_features_are_those_of_the_module_without_any_padding(name: str, tmp_path: Path) -> None:
    import torch

    engine, given = engine_of(name, tmp_path), samples(20)
    module = toy_text.toy_encoder().module()
    found = engine.run(given)[:, -toy_text.WIDTH :]
    for sample, features in zip(given, found, strict=True):
        bare = torch.from_numpy(sample[sample != toy_text.PAD]).long()[None]
        with torch.no_grad():
            np.testing.assert_allclose(features, module(bare)[0].numpy(), atol=2e-6)


def test_graphs_of_any_length_are_kept_and_found_with_their_padding(tmp_path: Path) -> None:
    backbone = toy_text.toy_encoder()
    kept = ConvertedBackbone(tmp_path, backbone, ("pooled",)).opened("f32")
    assert kept.pad == toy_text.PAD
    read = read_graphs(kept.folder)
    assert read.pad == toy_text.PAD and read.multiply_adds > 0
    engine = OpenVINOEngine(read, "f32")
    assert engine.together > 1 and engine.run(samples(3)).shape == (3, toy_text.WIDTH)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_extraction_finds_equal_texts_once(name: str) -> None:
    data = toy_text.text_dataset(80, longest=5)
    found = extract_features(data, toy_text.toy_encoder(), engine=name)
    assert found.computed == len(set(data.digests)) < 80
    again = extract_features(data, toy_text.toy_encoder(), engine=name)
    assert again.computed == 0 and (again.values == found.values).all()
