"""Every tensor of a file and of a model is accounted for, exactly once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.backbones.conftest import CONFIG, check_sum, state_dict

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.derived import derived
from thawline.backbones.inventory import Spec
from thawline.backbones.load_receipt import receipt_of_file
from thawline.backbones.matching import COUNTER
from thawline.backbones.weights import TensorFile
from thawline.errors import WeightsError

METADATA = {"architecture": "test_resnet", "model_args": "{}", "pretrained_cfg": json.dumps(CONFIG)}
BARE = {name: tensor for name, tensor in state_dict().items() if not name.startswith("fc.")}


def opened(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Backbone:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, metadata)
    return tl.open_backbone(f"timm/test_resnet@{path}")


def test_a_file_that_fits_is_loaded_but_for_its_classifier(weights_file: Path) -> None:
    backbone = tl.open_backbone(f"timm/test_resnet@{weights_file}")
    receipt = backbone.load_receipt()
    check_sum(receipt, backbone, weights_file)
    n = len(BARE)
    assert receipt.counts() == {"loaded": n, "adapted": 0, "random": 0, "initial": 0, "unused": 2}
    assert receipt.summary == (
        f"{n} of {n} tensors loaded as stored, 0 adapted, 0 random; 2 of the file unused (classifier)."
    )
    assert receipt.numbers()["unused"] == state_dict()["fc.weight"].numel() + 7
    assert (receipt.model, receipt.file) == ("timm/test_resnet@small.safetensors", "small.safetensors")


def test_the_embedded_model_is_cast(clean_cache: Path) -> None:
    backbone = tl.open_backbone()
    receipt = backbone.load_receipt()
    check_sum(receipt, backbone, backbone.tensors.path)
    floats = sum(tensor.is_floating_point() for tensor in backbone.module().state_dict().values())
    assert receipt.counts()["adapted"] == floats
    assert {tensor.how for tensor in receipt.of("adapted")} == {"cast float16 -> float32"}


def test_what_stands_beside_the_model_is_named_with_its_reason(tmp_path: Path) -> None:
    others = {
        "optimizer.state.0.exp_avg": torch.ones(3),
        "head.weight": torch.ones(2, 3),
        **{f"ema.{name}": tensor for name, tensor in BARE.items()},
    }
    backbone = opened(tmp_path / "a.safetensors", {f"net.{name}": tensor for name, tensor in BARE.items()} | {
        name: tensor for name, tensor in others.items() if not name.startswith("ema.")
    })  # fmt: skip
    receipt = backbone.load_receipt()
    check_sum(receipt, backbone, tmp_path / "a.safetensors")
    assert {tensor.sources[0]: tensor.how for tensor in receipt.of("unused")} == {
        "optimizer.state.0.exp_avg": "state of a training",
        "head.weight": "head of another task",
    }
    assert all(tensor.sources == (f"net.{tensor.name}",) for tensor in receipt.of("loaded"))
    twice = opened(tmp_path / "b.safetensors", BARE | others)
    check_sum(twice.load_receipt(), twice, tmp_path / "b.safetensors")


def test_counters_that_older_files_lack_are_neither_loaded_nor_random(tmp_path: Path) -> None:
    older = {name: tensor for name, tensor in BARE.items() if not name.endswith(COUNTER)}
    backbone = opened(tmp_path / "a.safetensors", older, METADATA)
    receipt = backbone.load_receipt()
    check_sum(receipt, backbone, tmp_path / "a.safetensors")
    assert (receipt.counts()["initial"], receipt.counts()["random"]) == (len(BARE) - len(older), 0)
    assert receipt.summary.startswith(f"{len(older)} of {len(older)} tensors loaded as stored, ")


def test_an_architecture_alone_is_random() -> None:
    receipt = tl.open_backbone("timm/test_resnet", architecture_only=True).load_receipt()
    counters = sum(name.endswith(COUNTER) for name in BARE)
    assert receipt.summary == f"none loaded; all {len(BARE) - counters} tensors begin random."
    assert receipt.file == "" and receipt.counts()["initial"] == counters


def test_weights_that_do_not_fit_have_no_receipt(tmp_path: Path) -> None:
    less = {name: tensor for name, tensor in BARE.items() if not name.startswith("layer4")}
    with pytest.raises(WeightsError, match="must fit the architecture"):
        opened(tmp_path / "a.safetensors", less, METADATA).load_receipt()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_sum_holds_for_whatever_a_file_holds_beside_the_model(data: st.DataObject, tmp_path: Path) -> None:
    """Names drawn at random beside the model, counters dropped, formats changed: nothing is lost or counted twice."""
    prefix = data.draw(st.sampled_from(["", "module.", "my.own."]))
    kinds = data.draw(st.lists(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
                               min_size=len(BARE), max_size=len(BARE)))  # fmt: skip
    dropped = set(data.draw(st.lists(st.sampled_from([name for name in BARE if name.endswith(COUNTER)]))))
    beside = data.draw(st.sets(st.sampled_from(["fc.weight", "head.0.bias", "optimizer.a", "epoch", "aux.1.weight"])))
    tensors = {
        prefix + name: tensor.to(kind) if tensor.is_floating_point() else tensor
        for (name, tensor), kind in zip(BARE.items(), kinds, strict=True)
        if name not in dropped
    } | {name: torch.ones(2) for name in beside}
    backbone = opened(tmp_path / "any.safetensors", tensors)
    receipt = backbone.load_receipt()
    check_sum(receipt, backbone, tmp_path / "any.safetensors")
    cast = [tensor.name for tensor in receipt.of("adapted")]
    floats = [name for name, tensor in BARE.items() if tensor.is_floating_point()]
    expected = [name for (name, _), kind in zip(BARE.items(), kinds, strict=True) if kind != torch.float32]
    assert sorted(cast) == sorted(set(expected) & set(floats))
    assert {name for tensor in receipt.of("unused") for name in tensor.sources} == beside


def test_a_file_that_was_made_from_another_tells_where_its_tensors_come_from() -> None:
    """Only a file of the cache is believed: a stranger's could say anything."""
    metadata = {
        "source": "net.h5",
        "sources": json.dumps({"a": "dense/kernel", "b": ["dense/q", "dense/k"]}),
        "adapted": json.dumps({"b": "joined"}),
        "random": json.dumps({"c": "not in the file"}),
        "unused": json.dumps(["predictions/kernel", "optimizer/iteration"]),
    }

    def write(path: Path) -> None:
        tensors = {"a": torch.ones(2), "b": torch.ones(3, dtype=torch.float16), "c": torch.ones(1)}
        save_file(tensors, path, metadata)

    inventory = {"a": Spec((2,)), "b": Spec((3,)), "c": Spec((1,))}
    path = derived("ab", "test", write)
    receipt = receipt_of_file("m", "m", TensorFile(path), inventory)
    told = [(tensor.fate, tensor.name, tensor.sources, tensor.how) for tensor in receipt.tensors]
    assert told == [
        ("loaded", "a", ("dense/kernel",), ""),
        ("adapted", "b", ("dense/q", "dense/k"), "cast float16 -> float32, joined"),
        ("random", "c", (), "not in the file"),
        ("unused", "", ("predictions/kernel",), "not in the model"),
        ("unused", "", ("optimizer/iteration",), "state of a training"),
    ]
    assert receipt.file == "net.h5"
    assert receipt.summary == (
        "1 of 3 tensors loaded as stored, 1 adapted (b: cast float16 -> float32, joined), "
        "1 random (c: not in the file); 2 of the file unused (1 not in the model, 1 state of a training)."
    )
    stranger = path.with_name("stranger.safetensors")
    write(stranger)
    assert receipt_of_file("m", "m", TensorFile(stranger), inventory).counts()["random"] == 0


@pytest.mark.parametrize("said", ["{", "[]", "3", '{"a": 3}', '{"a": [1]}'])
@pytest.mark.parametrize("key", ["sources", "adapted", "random", "unused"])
def test_what_nobody_of_ours_wrote_is_not_believed(key: str, said: str) -> None:
    path = derived(key, said, lambda path: save_file({"a": torch.ones(2)}, path, {key: said}))
    receipt = receipt_of_file("m", "m", TensorFile(path), {"a": Spec((2,))})
    assert len(receipt.of("loaded")) + len(receipt.of("adapted")) + len(receipt.of("random")) == 1
    assert receipt.summary and json.dumps(receipt.to_json())


def test_the_next_process_needs_no_torch(weights_file: Path) -> None:
    name = f"timm/test_resnet@{weights_file}"
    first = tl.open_backbone(name).load_receipt()
    code = (
        f"import sys, thawline as tl; r = tl.open_backbone({name!r}).load_receipt(); "
        "assert 'torch' not in sys.modules; print(len(r.tensors), r.summary)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{len(first.tensors)} {first.summary}", done.stderr


def test_a_record_of_another_architecture_in_the_cache_is_found_out(weights_file: Path, clean_cache: Path) -> None:
    tl.open_backbone(f"timm/test_resnet@{weights_file}").load_receipt()
    (kept,) = (clean_cache / "architectures").iterdir()
    kept.write_text(json.dumps([["other.weight", [3], "F32"]]))
    receipt = tl.open_backbone(f"timm/test_resnet@{weights_file}").load_receipt()
    assert receipt.counts()["loaded"] == len(BARE)
    assert len(json.loads(kept.read_text())) == len(BARE)


def test_files_with_real_weights_are_accounted_for(real_weights: Path) -> None:
    for path in sorted(real_weights.glob("*.safetensors")):
        backbone = tl.open_backbone(f"timm/{path.name.partition('.')[0]}@{path}")
        receipt = backbone.load_receipt()
        check_sum(receipt, backbone, path)
        assert Counter(tensor.how for tensor in receipt.of("unused")) == {"classifier": 2}
        assert receipt.counts()["random"] == 0
