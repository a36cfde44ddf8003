"""Checkpoints of PyTorch are read without running anything: plain tensors come through, all else is refused."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from thawline.backbones.foreign import torch_reader
from thawline.backbones.foreign.answering import Refused
from thawline.backbones.foreign.converting import as_safetensors
from thawline.errors import WeightsError

BASE = torch.arange(24.0).reshape(4, 6)


def small_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def read(content: object, *, legacy: bool = False) -> dict[str, Any]:
    """Read a checkpoint in this process; returns the header and the tensors."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return read_bytes(file.getvalue())


def read_bytes(content: bytes) -> dict[str, Any]:
    header, pieces = torch_reader.read(io.BytesIO(content), len(content))
    stored = {name: bytes(piece) for (name, _, _), piece in zip(header["tensors"], pieces, strict=True)}
    return {**header, "stored": stored}


@pytest.fixture(autouse=True)
def _from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the reader, which maps its standard input in a process of its own, to the file that it is given."""
    monkeypatch.setattr(torch_reader, "STANDARD_INPUT", "/nowhere")


@pytest.mark.parametrize(
    "tensor",
    [BASE, BASE.t(), BASE[::2, 1], BASE.bfloat16(), BASE.half(), BASE.double(), BASE.long(), BASE > 3, BASE[0, 0],
     torch.empty(0, 3), torch.ones(1).expand(5), nn.Parameter(BASE), torch._neg_view(BASE)],
    ids=["plain", "transposed", "view", "bf16", "f16", "f64", "i64", "bool", "0-dim", "empty", "expanded", "parameter",
         "negated"],
)  # fmt: skip
@pytest.mark.parametrize("legacy", [True, False])
def test_tensors_come_through_byte_for_byte(tensor: torch.Tensor, legacy: bool) -> None:
    answer = read({"a": tensor, "again": tensor}, legacy=legacy)
    plain = tensor.detach().resolve_neg().contiguous()
    for name, kind, shape in answer["tensors"]:
        assert shape == list(tensor.shape)
        assert kind == torch_reader.DTYPES[str(tensor.dtype)]
        assert answer["stored"][name] == bytes(plain.reshape(-1).view(torch.uint8).numpy())
    assert answer["stored"].keys() == {"a", "again"}


def test_names_are_joined_and_the_rest_is_told() -> None:
    model = small_model()
    adam = {"state": {i: {"step": torch.tensor(1.0), "exp_avg": BASE} for i in range(4)}, "param_groups": [{"lr": 0.1}]}
    content = {"epoch": 3, "arch": "x", "state_dict": model.state_dict(), "optimizer": adam,
               "args": argparse.Namespace(lr=1), "best": np.float64(3.0), "blocks": [{"w": BASE}]}  # fmt: skip
    answer = read(content)
    expected = {f"state_dict.{name}" for name in model.state_dict()} | {"blocks.0.w"}
    assert answer["stored"].keys() == expected
    assert len(answer["unused"]) == 2 * 4 and "optimizer.state.0.exp_avg" in answer["unused"]
    assert answer["said"]["epoch"] == 3 and answer["said"]["arch"] == "x"


def test_a_dictionary_that_holds_itself_ends() -> None:
    content: dict[str, Any] = {"w": BASE}
    content["self"] = content
    assert read(content)["stored"].keys() == {"w"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"c": torch.ones(2, dtype=torch.complex64)}, "c holds complex64"),
        ({"c": torch.ones(2).to(torch.float8_e4m3fn)}, "c holds float8_e4m3fn"),
        ({"c": torch.ones(2, 2).to_sparse()}, "c is sparse"),
        ({"c": torch.empty(2, device="meta")}, r"c holds no numbers \(device meta\)"),
        ({"c": torch.ones(1).expand(10**9)}, "c is larger than"),
        ({f"c{i}": torch.ones(1).expand(1000) for i in range(99)}, "must be as large as their file says"),
        ({"a.b": BASE, "a": {"b": BASE}}, "has several 'a.b'"),
        ({"a\nb": BASE}, "names of weights must be text"),
        ({}, "holds a dictionary without tensors"),
        (3, "holds a int"),
        (small_model(), r"wants to call torch\.nn\.modules\.container\.Sequential"),
    ],
)
def test_what_is_no_plain_tensor_is_refused(content: object, said: str) -> None:
    with pytest.raises(Refused, match=said):
        read(content)


@pytest.mark.filterwarnings("ignore:.*uantiz")
def test_quantised_weights_are_refused() -> None:
    with pytest.raises(Refused, match="c is quantised"):
        read({"c": torch.quantize_per_tensor(BASE, 0.1, 0, torch.qint8)})


class _Calls:
    """Is pickled as a call that writes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch '{self.canary}'",)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_that_calls_something_is_not_opened(tmp_path: Path, legacy: bool, protocol: int) -> None:
    path, canary = tmp_path / "a.pth", tmp_path / "canary"
    torch.save({"a": _Calls(canary)}, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    with pytest.raises(WeightsError, match=r"wants to call (posix|nt)\.system, so it is not opened"):
        as_safetensors(path)
    path.write_bytes(pickle.dumps(_Calls(canary), protocol))
    with pytest.raises(WeightsError, match=r"wants to call (posix|nt)\.system, so it is not opened"):
        as_safetensors(path)
    assert not canary.exists()


def test_archives_that_are_no_state_dict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/code/__torch__.py", b"")
    with pytest.raises(WeightsError, match="is a TorchScript program"):
        as_safetensors(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/data/0", bytes(2**24))
    with pytest.raises(WeightsError, match="unpacks to 16,777,216 bytes in 2 files"):
        as_safetensors(path)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_checkpoint_is_converted_by_a_process_of_its_own(tmp_path: Path, legacy: bool) -> None:
    tensors = small_model().state_dict() | {"half": BASE.half()[1:, :3], "flag": torch.tensor(True)}
    path = tmp_path / "mine.pth"
    torch.save({"model": tensors, "epoch": 2}, path, _use_new_zipfile_serialization=not legacy)
    converted = as_safetensors(path)
    loaded = load_file(converted)
    assert loaded.keys() == {f"model.{name}" for name in tensors}
    for name, tensor in tensors.items():
        assert torch.equal(loaded[f"model.{name}"], tensor) and loaded[f"model.{name}"].dtype == tensor.dtype
    with safe_open(converted, "pt") as file:
        assert file.metadata() == {"source": "mine.pth", "said": json.dumps({"epoch": 2})}


def test_a_damaged_checkpoint_is_refused_by_the_process(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(small_model().state_dict(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(WeightsError, match=rf"must be a sound checkpoint of PyTorch; {path} cannot be read: "):
        as_safetensors(path)
