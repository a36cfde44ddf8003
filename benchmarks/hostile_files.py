"""Files of weights that were damaged, or made to do harm; ``hostile_weights.py`` gives them to Thawline.

File number k of a kind is made from the seed, the kind and k alone. Every fourth is made to do harm: to write the file
``canary``, to run a command, to open a connection, to read other files, or to exhaust memory or time. The others are
sound files of which some bytes are changed, cut, repeated or spliced.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

EVERY = 4
"""One in so many is made to do harm."""
MODEL = "test_resnet"


def make(kind: str, number: int, seed: int, canary: Path) -> tuple[str, bytes]:
    """Return the name of a file and its content."""
    chance = random.Random(f"{seed} {kind} {number}")
    suffix, sound = SOUND[kind]
    if number % EVERY == 0:
        harmful = HARMFUL[kind]
        return f"harm{suffix}", harmful[number // EVERY % len(harmful)](chance, canary)
    return f"changed{suffix}", mutated(sound(), chance)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change, cut, repeat or insert some bytes, one to four times; half of them where a file describes itself."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        ends = (len(found) + 1, 400, 4000, min(len(found), 20_000) + 1)
        at = min(chance.randrange(chance.choice(ends)), len(found))
        at = len(found) - at if chance.random() < 0.2 else at
        end = min(len(found), at + chance.choice((1, 2, 4, 8, 64, 500)))
        how = chance.randrange(6)
        if how == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            found[at:end] = chance.randbytes(end - at)
        elif how == 2:
            found[at:end] = struct.pack("<Q", chance.choice((0, 2**63, 2**64 - 1, 2**31, 2**32 - 1)))[: end - at]
        elif how == 3:
            del found[at : end if chance.random() < 0.7 else len(found)]
        elif how == 4:
            found[at:at] = found[at:end] * chance.choice((1, 3, 100))
        else:
            found[at:at] = chance.choice((b"\0" * 8, b"\xff" * 8, b"[" * 300, b"../../etc/passwd", b"cos\nsystem\n"))
    return bytes(found)


# Sound files ----------------------------------------------------------------------------------------------------------


@cache
def state() -> dict[str, torch.Tensor]:
    import thawline.backbones.providers.timm_import as door

    torch.manual_seed(0)
    module = door.import_timm().create_model(MODEL, num_classes=0)
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@cache
def torch_file(legacy: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": state(), "epoch": 3}, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


@cache
def safetensors_file() -> bytes:
    from safetensors.torch import save

    return save(state())


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()


@cache
def onnx_file() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(small_net(), (torch.randn(1, 3, 32, 32),), file, dynamo=False)
    return file.getvalue()


@cache
def program_file() -> bytes:
    file = io.BytesIO()
    torch.export.save(torch.export.export(small_net(), (torch.randn(1, 3, 32, 32),)), file)
    return file.getvalue()


@cache
def keras_file(suffix: str) -> bytes:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import tempfile

    import keras

    layers = keras.layers
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(8, 3, strides=2), layers.BatchNormalization(),
                              layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(5)])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(Path(folder) / f"a{suffix}")
        return (Path(folder) / f"a{suffix}").read_bytes()


# Pickles and archives that do harm ------------------------------------------------------------------------------------


class _Call:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = (function, arguments)

    def __reduce__(self) -> Any:
        return self.called


def _calls(canary: Path) -> list[_Call]:
    import builtins
    import importlib
    import shutil
    import socket

    command = f"touch '{canary}'"
    write = f"open({str(canary)!r}, 'w')"
    calls: list[tuple[Any, ...]] = [
        (os.system, command), (subprocess.Popen, ["touch", str(canary)]), (open, str(canary), "w"), (eval, write),
        (exec, write), (os.mkdir, str(canary)), (socket.create_connection, ("127.0.0.1", 9)), (os.fork,),
        (importlib.import_module, "antigravity"), (shutil.copy, "/etc/hostname", str(canary)), (os.kill, 1, 0),
        (torch.load, "/etc/passwd"), (torch.save, 3, str(canary)), (builtins.compile, "1", "x", "exec"),
        (torch.hub.load, "a/b", "c"), (np.load, "/etc/passwd"),
    ]  # fmt: skip
    return [_Call(function, *arguments) for function, *arguments in calls]


def call(chance: random.Random, canary: Path) -> bytes:
    """A checkpoint that calls something when it is unpickled; in one of four forms."""
    held, file, form = chance.choice(_calls(canary)), io.BytesIO(), chance.randrange(4)
    if form == 3:
        return pickle.dumps({"a": held}, chance.choice((2, 3, 4, 5)))
    content = {"state_dict": {**state(), "conv1.0.weight": held}} if form else held
    torch.save(content, file, _use_new_zipfile_serialization=form != 2, pickle_protocol=chance.choice((2, 4)))
    return file.getvalue()


def _archive(pickled: bytes, storage: bytes = bytes(64), *, compressed: bool = False) -> bytes:
    """A checkpoint as torch.save lays it out."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, content in (
            ("data.pkl", pickled),
            ("byteorder", b"little"),
            ("data/0", storage),
            ("version", b"3\n"),
        ):
            archive.writestr(f"a/{name}", content)
    return file.getvalue()


def _tensor(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, numel: int = 16) -> bytes:
    """A pickle of {"w": tensor} whose numbers may be anything."""

    def number(value: int) -> bytes:
        return b"\x8a" + bytes([9]) + value.to_bytes(9, "little", signed=True)

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def several(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(numel) + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + several(size) + several(stride)
    return b"\x80\x02}" + text("w") + rebuilt + b"\x89ccollections\nOrderedDict\n)RtR" + b"s."


TORCH: list[Callable[[random.Random, Path], bytes]] = [
    call,
    lambda _chance, _canary: _archive(_tensor((2**40,), (0,))),
    lambda _chance, _canary: _archive(_tensor((2**40,), (1,))),
    call,
    lambda _chance, _canary: _archive(_tensor((16,), (1,), offset=2**40)),
    lambda _chance, _canary: _archive(_tensor((16,), (1,), numel=2**50)),
    call,
    lambda _chance, _canary: _archive(_tensor((-5,), (1,))),
    lambda _chance, _canary: _archive(_tensor((4,), (-1,), offset=3)),
    call,
    lambda _chance, _canary: _archive(b"", bytes(2**27), compressed=True),
    lambda _chance, _canary: _archive(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."),
    lambda _chance, _canary: _archive(b"\x80\x02" + b"(" * 3_000_000),
    lambda _chance, _canary: _archive(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."),
    lambda _chance, _canary: _archive(b"\x80\x02X\xff\xff\xff\x7f"),
]


# Other formats --------------------------------------------------------------------------------------------------------


def _safetensors(header: bytes, data: bytes = bytes(64), length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def _entry(**changed: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} | changed}).encode()


SAFETENSORS: list[Callable[[random.Random, Path], bytes]] = [
    lambda _chance, _canary: _safetensors(b"{}", length=2**63),
    lambda _chance, _canary: _safetensors(b"{}", length=2**26),
    lambda _chance, _canary: _safetensors(b'{"a":' * 100_000),
    lambda _chance, _canary: _safetensors(b"[" * 1_000_000),
    lambda _chance, _canary: _safetensors(_entry(shape=[2**40, 2**40])),
    lambda _chance, _canary: _safetensors(_entry(data_offsets=[64, 0])),
    lambda _chance, _canary: _safetensors(_entry(data_offsets=[-64, 64])),
    lambda _chance, _canary: _safetensors(_entry(dtype="os.system")),
    lambda _chance, _canary: _safetensors(_entry(shape=[-16])),
    lambda _chance, _canary: _safetensors(_entry(shape="x" * 100_000)),
    lambda _chance, _canary: _safetensors(b'{"__metadata__": {"model_args": "[[[["}}', b""),
    lambda _chance, _canary: _safetensors(b'{"__metadata__": {"pretrained_cfg": "{\\"classifier\\": 7}"}}', b""),
]


def _onnx(change: Callable[[Any, Any], None]) -> bytes:
    import onnx

    model = onnx.load_from_string(onnx_file())
    change(onnx, model)
    return bytes(model.SerializeToString())


def _external(onnx: Any, model: Any) -> None:
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../../../../etc/passwd")
        tensor.ClearField("raw_data")


def _loops(onnx: Any, model: Any) -> None:
    helper, kinds = onnx.helper, onnx.TensorProto
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Sin", ["v"], ["w"])], "body",
        [helper.make_tensor_value_info("i", kinds.INT64, []), helper.make_tensor_value_info("c", kinds.BOOL, []),
         helper.make_tensor_value_info("v", kinds.FLOAT, [1, 5])],
        [helper.make_tensor_value_info("d", kinds.BOOL, []), helper.make_tensor_value_info("w", kinds.FLOAT, [1, 5])],
    )  # fmt: skip
    last = model.graph.output[0].name
    model.graph.initializer.append(helper.make_tensor("trips", kinds.INT64, [], [2**62]))
    model.graph.initializer.append(helper.make_tensor("go", kinds.BOOL, [], [True]))
    model.graph.node.append(helper.make_node("Loop", ["trips", "go", last], ["endless"], body=body))
    model.graph.output[0].name = "endless"


def _swells(onnx: Any, model: Any) -> None:
    shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [4], [2**15, 2**15, 2**15, 1])
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("ConstantOfShape", ["shape"], ["swollen"]))
    model.graph.node.append(onnx.helper.make_node("Add", [model.graph.output[0].name, "swollen"], ["sum"]))
    model.graph.output[0].name = "sum"


def _dims(_onnx: Any, model: Any) -> None:
    model.graph.initializer[0].dims[:] = [2**31, 2**31]


def _cycle(_onnx: Any, model: Any) -> None:
    model.graph.node[0].input[0] = model.graph.output[0].name


def _unknown(_onnx: Any, model: Any) -> None:
    model.graph.node[1].op_type, model.graph.node[1].domain = "System", "os"


def _deep() -> bytes:
    """Graphs inside of graphs, deeper than the library of protocol buffers would write them."""

    def field(number: int, content: bytes) -> bytes:
        size, n = b"", len(content)
        while n > 0x7F:
            size, n = size + bytes([n & 0x7F | 0x80]), n >> 7
        return bytes([number << 3 | 2]) + size + bytes([n]) + content

    graph = b""
    for _ in range(3000):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    return b"\x08\x08" + field(7, graph)


ONNX: list[Callable[[random.Random, Path], bytes]] = [
    lambda _chance, _canary, change=change: _onnx(change)  # type: ignore[misc]
    for change in ((_external, _swells, _dims, _cycle, _unknown) * 4)
]
ONNX[5:5] = [lambda _chance, _canary: _deep(), lambda _chance, _canary: _onnx(_loops)]


def _h5(change: Callable[[Any, Any, Path], None]) -> Callable[[random.Random, Path], bytes]:
    def made(_chance: random.Random, canary: Path) -> bytes:
        import h5py

        file = io.BytesIO(keras_file(".h5"))
        with h5py.File(file, "r+") as opened:
            change(h5py, opened, canary)
        return file.getvalue()

    return made


def _kernel(opened: Any) -> tuple[Any, str]:
    """(the group of the first kernel, its name there)"""
    found: list[str] = []
    opened["model_weights"].visit(lambda name: found.append(name) if name.endswith("kernel") else None)
    whole = f"model_weights/{found[0]}"
    group, _, name = whole.rpartition("/")
    return opened[group], name


def _h5_external(h5py: Any, opened: Any, _canary: Path) -> None:
    group, name = _kernel(opened)
    del group[name]
    group[name] = h5py.ExternalLink("/etc/passwd", "/a")


def _h5_storage(_h5py: Any, opened: Any, _canary: Path) -> None:
    group, name = _kernel(opened)
    shape = group[name].shape
    del group[name]
    group.create_dataset(name, shape, "f4", external=[("/etc/passwd", 0, 1000)])


def _h5_virtual(h5py: Any, opened: Any, _canary: Path) -> None:
    group, name = _kernel(opened)
    layout = h5py.VirtualLayout(group[name].shape, "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "a", group[name].shape)
    del group[name]
    group.create_virtual_dataset(name, layout)


def _h5_cycle(h5py: Any, opened: Any, _canary: Path) -> None:
    opened["model_weights"]["again"] = opened["model_weights"]
    opened["soft"] = h5py.SoftLink("/soft")


def _h5_huge(_h5py: Any, opened: Any, _canary: Path) -> None:
    group, name = _kernel(opened)
    del group[name]
    group.create_dataset(name, (2**20, 2**20), "f4", chunks=(64, 64))


def _h5_bomb(_h5py: Any, opened: Any, _canary: Path) -> None:
    group, name = _kernel(opened)
    del group[name]
    group.create_dataset(name, data=np.zeros((2**24,), "f4"), compression="gzip", chunks=(2**24,))


def _h5_deep(_h5py: Any, opened: Any, _canary: Path) -> None:
    group = opened["model_weights"]
    for _ in range(300):
        group = group.create_group("a")


def _h5_lambda(_h5py: Any, opened: Any, canary: Path) -> None:
    opened.attrs["model_config"] = _harmful_config(str(opened.attrs["model_config"]), canary)


def _harmful_config(text: str, canary: Path) -> str:
    config = json.loads(text)
    command = f"import os; os.system(\"touch '{canary}'\")"
    layer = {"class_name": "Lambda", "config": {"name": "x", "function": ["4wEAAAA=", None, None], "module": command}}
    config["config"]["layers"].append(layer)
    return json.dumps(config)


def _keras(change: Callable[[str, bytes, Path], tuple[str, bytes]]) -> Callable[[random.Random, Path], bytes]:
    """Write the archive again, each member changed."""

    def made(_chance: random.Random, canary: Path) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(keras_file(".keras"))) as sound, zipfile.ZipFile(file, "w") as archive:
            for name in sound.namelist():
                renamed, content = change(name, sound.read(name), canary)
                archive.writestr(renamed, content, zipfile.ZIP_DEFLATED)
        return file.getvalue()

    return made


def _if(wanted: str, change: Callable[[bytes, Path], bytes]) -> Callable[[str, bytes, Path], tuple[str, bytes]]:
    return lambda name, content, canary: (name, change(content, canary) if name == wanted else content)


H5 = [
    _h5(change)
    for change in (_h5_external, _h5_storage, _h5_virtual, _h5_cycle, _h5_huge, _h5_bomb, _h5_deep, _h5_lambda)
]
KERAS = [
    _keras(_if("config.json", lambda content, canary: _harmful_config(content.decode(), canary).encode())),
    _keras(_if("config.json", lambda _content, _canary: b"[" * 1_000_000)),
    _keras(_if("config.json", lambda _content, _canary: b'{"a": ' + b" " * 2**27 + b"1}")),
    _keras(_if("model.weights.h5", lambda _content, _canary: bytes(2**27))),
    _keras(lambda name, content, _canary: (f"../../../../tmp/{name}", content)),
    _keras(_if("config.json", lambda content, _canary: content.replace(b'"Conv2D"', b'"os.system"'))),
]

SOUND: dict[str, tuple[str, Callable[[], bytes]]] = {
    ".h5": (".h5", lambda: keras_file(".h5")),
    ".keras": (".keras", lambda: keras_file(".keras")),
    ".pt, old": (".pt", lambda: torch_file(True)),
    ".pt, new": (".pt", lambda: torch_file(False)),
    ".safetensors": (".safetensors", safetensors_file),
    ".onnx": (".onnx", onnx_file),
    ".pt2": (".pt2", program_file),
}
"""Kind -> ending of its files, and a sound one."""
HARMFUL = {".h5": H5, ".keras": KERAS, ".pt, old": TORCH, ".pt, new": TORCH, ".safetensors": SAFETENSORS, ".onnx": ONNX,
           ".pt2": TORCH}  # fmt: skip
