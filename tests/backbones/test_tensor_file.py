"""The tensors of a file under the names that a model has for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from thawline.backbones.weights import TensorFile
from thawline.errors import WeightsError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    names = ("net.layer.0.query", "net.layer.0.index", "net.head.weight", "other.layer.0.query")
    save_file({name: torch.full((2,), float(i)) for i, name in enumerate(names)}, path)
    return path


def test_names_are_translated_and_what_is_computed_is_left_out(file: Path) -> None:
    tensors = TensorFile(
        file,
        prefix="net.",
        excluded=("head.",),
        computed=(".index",),
        renamed=((r"^layer\.", "blocks."), (r"\.query$", ".q")),
    )
    assert tensors.sources() == {"blocks.0.q": "net.layer.0.query"}
    assert tensors.shapes() == {"blocks.0.q": (2,)}
    assert torch.equal(tensors.load()["blocks.0.q"], torch.zeros(2))
    assert tensors.arrays()("blocks.0.q").tolist() == [0.0, 0.0]
    assert len(tensors.contents()("blocks.0.q")) == 8


def test_the_names_of_a_model_decide_its_digest_and_those_of_the_file_do_not(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"blocks.0.q": torch.zeros(2)}, other)
    renamed = TensorFile(file, prefix="net.layer.", computed=("index",), renamed=((r"^0\.query$", "blocks.0.q"),))
    assert renamed.digest() == TensorFile(other).digest()


def test_two_tensors_of_one_name_are_refused(file: Path) -> None:
    tensors = TensorFile(file, renamed=((r"^(net|other)\.layer", "layer"),))
    with pytest.raises(WeightsError, match=r"each tensor once; other\.layer\.0\.query and net\.layer\.0\.query are"):
        tensors.entries()
