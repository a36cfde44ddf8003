"""The OpenVINO engine against plain torch in float32, on small real architectures."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from openvino.frontend.pytorch import ts_decoder
from safetensors.torch import save_file
from torch import nn

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm
from thawline.engines import building
from thawline.engines.building import ConvertedBackbone
from thawline.engines.converting import conversion, refining
from thawline.engines.converting.conversion import convert
from thawline.engines.converting.refining import run, smallest_cosine
from thawline.engines.converting.rounding import round_weights, run_watched, split, to_bfloat16, work
from thawline.engines.graph_store import GraphStore
from thawline.engines.openvino_engine import OpenVINOEngine
from thawline.errors import ModelError, NotConvertibleError, StorageError
from thawline.features import extract_features, extract_rungs
from thawline.inputs.image.stand_ins import stand_ins
from thawline.store.store import FeatureStore

ASKED = {"engine": "openvino", "device": "cpu"}


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tl.Backbone]:
    """Architecture -> backbone with random weights, and statistics as training leaves them."""
    folder = tmp_path_factory.mktemp("weights")

    def open_(architecture: str, **settings: Any) -> tl.Backbone:
        path = folder / f"{architecture}.safetensors"
        if not path.exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = import_timm().create_model(architecture, num_classes=3)
                for name, buffer in model.named_buffers():
                    if name.endswith("running_mean"):
                        buffer.copy_(0.3 * torch.randn(buffer.shape))
                    if name.endswith("running_var"):
                        buffer.copy_(0.5 + torch.rand(buffer.shape))
            metadata = {"architecture": architecture, "pretrained_cfg": json.dumps(model.pretrained_cfg)}
            save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path, metadata)
        return tl.open_backbone(f"timm/{architecture}@{path}", **settings)

    return open_


def _by_torch(backbone: tl.Backbone, rungs: tuple[str, ...], pixels: np.ndarray) -> list[np.ndarray]:
    p = backbone.preparation
    images = (pixels.astype(np.float32) / 255 - np.float32(p.mean)) / np.float32(p.std)
    with torch.no_grad():
        return [rows.numpy() for rows in backbone.reader(rungs)(torch.from_numpy(images).permute(0, 3, 1, 2))]


@pytest.mark.parametrize(
    ("architecture", "rungs"),
    [
        ("test_resnet", ("pooled",)),
        ("test_efficientnet", ("blocks.1", "pooled", "conv_stem")),
        ("test_vit", ("blocks.1", "pooled")),
    ],
)
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_features_are_those_of_torch(
    opened: Callable[..., tl.Backbone], architecture: str, rungs: tuple[str, ...], precision: Any
) -> None:
    backbone = opened(architecture)
    engine = OpenVINOEngine(ConvertedBackbone(FeatureStore().root, backbone, rungs).opened(precision), precision)
    pixels = stand_ins(11, backbone.preparation.input_px, seed=5)  # none of those that the conversion saw
    expected = _by_torch(backbone, rungs, pixels)
    got = np.split(engine.run(pixels), np.cumsum(engine.widths)[:-1], axis=1)
    assert [rows.shape for rows in got] == [rows.shape for rows in expected]
    assert smallest_cosine(got, expected) > (0.999 if precision == "bf16" else 0.999999)


def test_bits_depend_on_neither_the_neighbours_nor_the_threads(opened: Callable[..., tl.Backbone]) -> None:
    backbone = opened("test_efficientnet")
    engine = OpenVINOEngine(ConvertedBackbone(FeatureStore().root, backbone, ("pooled",)).opened("bf16"), "bf16")
    pixels = stand_ins(19, backbone.preparation.input_px, seed=1)
    whole = engine.run(pixels)
    for size in (1, 3, 8, 13):
        parts = [engine.run(pixels[start : start + size]) for start in range(0, 19, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes(), size
    order = np.random.default_rng(0).permutation(19)
    assert engine.run(pixels[order]).tobytes() == whole[order].tobytes()
    found: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: engine.run(np.roll(pixels, i, axis=0)).tobytes()}))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: np.roll(whole, i, axis=0).tobytes() for i in range(6)}


def test_threads_that_are_first_together_do_not_wait_for_ever(
    opened: Callable[..., tl.Backbone], in_child: Callable
) -> None:
    """OpenVINO's binding finds numpy when it first meets an array, which two threads must not do at once."""
    backbone = opened("test_resnet", input_px=64)
    ConvertedBackbone(FeatureStore().root, backbone, ("pooled",)).opened("f32")
    done = in_child(
        "import faulthandler, threading, numpy as np, thawline as tl\n"
        "faulthandler.dump_traceback_later(60, exit=True)\n"
        "from thawline.store import FeatureStore\n"
        "from thawline.engines.building import ConvertedBackbone\n"
        "from thawline.engines.openvino_engine import OpenVINOEngine\n"
        f"backbone = tl.open_backbone({backbone.name!r}, input_px=64)\n"
        "engine = OpenVINOEngine(ConvertedBackbone(FeatureStore().root, backbone, ('pooled',)).opened('f32'), 'f32')\n"
        "together = threading.Barrier(8)\n"
        "def work():\n"
        "    together.wait()\n"
        "    engine.run(np.zeros((8, 64, 64, 3), np.uint8))\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print('done')"
    )
    assert done.stdout.strip() == "done", done.stderr


def test_refuses_what_is_no_batch(opened: Callable[..., tl.Backbone]) -> None:
    backbone = opened("test_resnet", input_px=64)
    engine = OpenVINOEngine(ConvertedBackbone(FeatureStore().root, backbone, ("pooled",)).opened("f32"), "f32")
    for batch in (np.zeros((2, 64, 64, 3), np.float32), np.zeros((0, 64, 64, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"batch must be uint8 \(B, 64, 64, 3\) with B > 0; got"):
            engine.run(batch)


def test_a_converted_backbone_needs_no_torch(
    opened: Callable[..., tl.Backbone], tiny_photos: Path, in_child: Callable
) -> None:
    backbone = opened("test_resnet", input_px=64)
    first = extract_features(tl.open_data(tiny_photos), backbone, **ASKED)
    assert (first.engine, first.computed) == ("openvino", 30)
    FeatureStore().clear()  # the features, not what they are computed with
    done = in_child(
        "import sys, numpy, thawline as tl\n"
        f"data = tl.open_data({str(tiny_photos)!r})\n"
        f"backbone = tl.open_backbone({backbone.name!r}, input_px=64)\n"
        "again = tl.extract_features(data, backbone, device='cpu')\n"
        "print(again.engine, again.computed, again.why, 'torch' in sys.modules, 'timm' in sys.modules, sep='|')\n"
        "print(again.values.tobytes().hex())"
    )
    assert not done.returncode, done.stderr
    told, values = done.stdout.splitlines()
    assert told.split("|") == ["openvino", "30", "converted already", "False", "False"]
    assert bytes.fromhex(values) == first.values.tobytes()


def test_several_rungs_come_from_one_pass(opened: Callable[..., tl.Backbone], tiny_photos: Path) -> None:
    data, backbone = tl.open_data(tiny_photos), opened("test_resnet", input_px=64)
    for options in (ASKED, {"engine": "torch", "device": "cpu", "precision": "f32"}):
        told: list[tuple[int, int]] = []
        both = extract_rungs(
            data, backbone, ("layer2", "pooled"), progress=lambda *now, told=told: told.append(now), **options
        )
        assert told[0] == (0, 30) and told[-1] == (30, 30)
        assert [features.rung for features in both] == ["layer2", "pooled"]
        alone = [extract_features(data, backbone, rung=rung, **options) for rung in ("layer2", "pooled")]
        assert smallest_cosine([f.values for f in both], [f.values for f in alone]) > 0.9999
        again = extract_rungs(data, backbone, ("layer2", "pooled"), **options)
        assert [f.computed for f in again] == [0, 0]
        assert [f.values.tobytes() for f in again] == [f.values.tobytes() for f in both]


def test_what_cannot_be_converted_runs_with_torch(
    opened: Callable[..., tl.Backbone],
    tiny_photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no rule for aten::odd\nmore")

    monkeypatch.setattr(ts_decoder, "TorchScriptPythonDecoder", refuse)
    monkeypatch.setattr("thawline.engines.forecast.CONVERSION_S", -100.0)
    data, backbone = tl.open_data(tiny_photos), opened("test_resnet", input_px=64)
    got = extract_features(data, backbone, device="cpu")
    assert (got.engine, got.precision, got.why) == ("torch", "f32", "it cannot be converted for OpenVINO")
    assert "no rule for aten::odd. Use --engine torch. It runs with torch now." in caplog.text
    with pytest.raises(
        NotConvertibleError, match=r"timm/test_resnet@.* cannot be converted .*: no rule for aten::odd\."
    ):
        extract_features(data, opened("test_resnet", input_px=96), **ASKED)


def test_a_graph_that_computes_something_else_is_refused(
    opened: Callable[..., tl.Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, truth = opened("test_resnet", input_px=64), conversion._by_torch
    monkeypatch.setattr(conversion, "_by_torch", lambda reader, pictures: [-rows for rows in truth(reader, pictures)])
    with pytest.raises(NotConvertibleError, match=r"computes other features than torch: their cosine is -1\.00"):
        convert(backbone, ("pooled",), "f32")


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(1, 8), (302_592, 8), (393_216, 4), (802_816, 2), (1_204_224, 2), (1_250_001, 1), (10**8, 1)],
)
def test_the_larger_the_activations_the_fewer_samples_at_once(largest: int, expected: int) -> None:
    assert conversion.samples_at_once(largest) == expected


def test_the_largest_output_is_that_of_any_layer_not_of_the_module() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 2, 1), nn.Flatten(), nn.Linear(2 * 8 * 8, 5))
    assert conversion.largest_output(layers, torch.zeros(1, 3, 8, 8)) == 12 * 8 * 8
    assert not any(layer._forward_hooks for layer in layers.modules())


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_features_do_not_depend_on_how_many_pictures_a_graph_takes(
    at_once: int, opened: Callable[..., tl.Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, pixels = opened("test_efficientnet", input_px=64), stand_ins(8, (64, 64), seed=2)
    expected = run(convert(backbone, ("pooled",), "f32").graphs, [pixels])
    monkeypatch.setattr(conversion, "samples_at_once", lambda _: at_once)
    graphs = convert(backbone, ("pooled",), "f32").graphs
    assert graphs[0][0].input(0).get_shape()[0] == at_once
    found = run(graphs, list(pixels.reshape(-1, at_once, 64, 64, 3)))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)


def test_an_unknown_layer_is_refused_before_it_is_converted(
    opened: Callable[..., tl.Backbone], tiny_photos: Path
) -> None:
    with pytest.raises(ModelError, match=r"layer must be 'pooled' or a layer of test_resnet; got 'layer22'"):
        extract_features(tl.open_data(tiny_photos), opened("test_resnet"), rung="layer22", **ASKED)
    assert GraphStore().usage() == []


def test_a_damaged_graph_is_converted_again(
    opened: Callable[..., tl.Backbone], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = ConvertedBackbone(FeatureStore().root, opened("test_resnet", input_px=64), ("pooled",))
    stored = graphs.opened("f32")
    assert graphs.are_there("f32") and not graphs.are_there("bf16")
    weights = stored.files[0].with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    assert not graphs.are_there("f32")
    assert "A stored model was damaged; it is converted again" in caplog.text
    assert GraphStore().usage() == []
    assert graphs.opened("f32") == stored


def test_the_store_says_what_it_holds_and_forgets_it(opened: Callable[..., tl.Backbone]) -> None:
    backbone = opened("test_resnet", input_px=64)
    graphs = ConvertedBackbone(FeatureStore().root, backbone, ("layer1", "pooled"))
    files = graphs.opened("f32").files
    (entry,) = GraphStore().usage()
    assert (entry.model, entry.rung, entry.precision, entry.rows) == (
        backbone.name,
        "layer1, pooled (converted)",
        "f32",
        0,
    )
    assert entry.bytes == sum(path.stat().st_size for path in files[0].parent.iterdir())
    assert GraphStore().clear(key="0" if entry.key[0] != "0" else "1") == 0
    assert GraphStore().clear(key=entry.key[:5]) == entry.bytes
    assert GraphStore().usage() == [] and not files[0].exists()


def test_a_full_cache_lets_the_oldest_graphs_go(
    opened: Callable[..., tl.Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THAWLINE_CACHE_LIMIT", "1MB")
    for px in (64, 96):
        ConvertedBackbone(FeatureStore().root, opened("test_resnet", input_px=px), ("pooled",)).opened("f32")
    assert len(GraphStore().usage()) == 1
    assert ConvertedBackbone(FeatureStore().root, opened("test_resnet", input_px=96), ("pooled",)).are_there("f32")


def test_a_cache_that_cannot_be_written_is_one_sentence(opened: Callable[..., tl.Backbone], tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(StorageError, match=r"models/[0-9a-f]{64} cannot be written: "):
        ConvertedBackbone(tmp_path, opened("test_resnet", input_px=64), ("pooled",)).opened("f32")


@pytest.mark.parametrize(("free", "said"), [(1000, "the disk is full"), (2**40, "Input/output error")])
def test_a_disk_that_takes_no_graph_is_one_sentence(
    opened: Callable[..., tl.Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr("openvino.save_model", refuse)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(StorageError, match=rf"cannot be written: {said}.*THAWLINE_CACHE"):
        ConvertedBackbone(tmp_path, opened("test_resnet", input_px=64), ("pooled",)).opened("f32")
    assert list((tmp_path / "models").iterdir()) == []


# Rounding


def _graph(seed: int = 0) -> ov.Model:
    """Pixels uint8 (8, 24, 24, 3) -> (8, 12): a dense and a depthwise convolution, a residual branch and a product."""
    draws = np.random.default_rng(seed)

    def weights(*shape: int) -> Any:
        return ops.constant((draws.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    pixels = ops.parameter([8, 24, 24, 3], np.uint8)
    x = ops.transpose(ops.convert(pixels, np.float32), np.array([0, 3, 1, 2]))
    x = ops.divide(x, ops.constant(np.float32(255)))
    x = ops.convolution(x, weights(16, 3, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    x = ops.clamp(ops.add(x, weights(1, 16, 1, 1)), 0.0, 6.0)
    y = ops.group_convolution(x, weights(16, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    y = ops.add(ops.add(y, weights(1, 16, 1, 1)), x)
    z = ops.reduce_mean(ops.clamp(y, 0.0, 6.0), np.array([2, 3]), False)
    z = ops.matmul(z, weights(12, 16), False, True)
    return ov.Model([ops.result(z)], [pixels], "small")


def _exact(model: ov.Model, batches: list[np.ndarray]) -> np.ndarray:
    return run(((model, "f32"),), batches)[0]


def test_work_is_counted_as_on_paper() -> None:
    dense, depthwise, product = 16 * 24 * 24 * 27, 16 * 24 * 24 * 9, 12 * 16
    assert work(_graph()) == 8 * (dense + depthwise + product)


def test_numbers_are_rounded_as_torch_rounds_them() -> None:
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 1e3
    values = np.concatenate([values, np.float32([0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, 1e-40])])
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    assert to_bfloat16(values).tobytes() == expected.tobytes()


def test_rounded_weights_shift_no_channel_on_average() -> None:
    model, batches = _graph(), [stand_ins(8, (24, 24), seed=i) for i in range(4)]
    rounded, naive = model.clone(), model.clone()
    features, means = run_watched(model, batches)
    np.testing.assert_allclose(features[0], _exact(model, batches), rtol=1e-5, atol=1e-6)
    round_weights(rounded, means)
    for node in naive.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            constant = node.input_value(1).get_node()
            node.input(1).replace_source_output(ops.constant(to_bfloat16(np.array(constant.data))).output(0))
    expected = _exact(model, batches)
    shift = np.abs((_exact(rounded, batches) - expected).mean(0)).max()
    naive_shift = np.abs((_exact(naive, batches) - expected).mean(0)).max()
    assert shift < naive_shift / 5
    held = [
        node.input_value(1).get_node()
        for node in rounded.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution", "MatMul")
    ]
    assert all(np.array_equal(to_bfloat16(np.array(constant.data)), constant.data) for constant in held)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_halves_give_what_the_whole_gives(share: float, opened: Callable[..., tl.Backbone]) -> None:
    backbone = opened("test_efficientnet", input_px=64)
    ((whole, _),) = convert(backbone, ("blocks.1", "pooled"), "f32").graphs
    halves = split(whole, share)
    assert halves is not None
    assert share <= work(halves.head) / work(whole) < 2 * share
    assert work(halves.head) + work(halves.tail) == work(whole)
    batches = [stand_ins(8, (64, 64))]
    expected, got = run(((whole, "f32"),), batches), run(((halves.head, "f32"), (halves.tail, "f32")), batches)
    for right, rows in zip(expected, got, strict=True):
        np.testing.assert_allclose(rows, right, rtol=1e-5, atol=1e-6)


def test_a_graph_of_one_product_cannot_be_split() -> None:
    pixels = ops.parameter([8, 4, 4, 3], np.uint8)
    flat = ops.reshape(ops.convert(pixels, np.float32), np.array([8, 48]), False)
    product = ops.matmul(flat, ops.constant(np.ones((48, 2), np.float32)), False, False)
    model = ov.Model([ops.result(product)], [pixels], "one")
    assert split(model, 0.1) is None


def test_where_bfloat16_is_not_enough_all_stays_in_float32(
    opened: Callable[..., tl.Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = opened("test_resnet", input_px=64)
    monkeypatch.setattr(refining, "_LITTLE_IN_FLOAT32_COSINE", 2.0)
    part = convert(backbone, ("pooled",), "bf16")
    assert [precision for _, precision in part.graphs] == ["f32", "bf16"]
    assert refining._MUCH <= part.float32_share < 0.5 and part.cosine >= refining.MIN_COSINE
    monkeypatch.setattr(refining, "MIN_COSINE", 2.0)
    whole = convert(backbone, ("pooled",), "bf16")
    assert [precision for _, precision in whole.graphs] == ["f32"] and whole.float32_share == 1


def test_stand_ins_are_the_same_every_time_and_look_alike_in_any_number() -> None:
    some = stand_ins(4, (32, 48))
    assert some.shape == (4, 32, 48, 3) and some.dtype == np.uint8
    assert some[:2].tobytes() == stand_ins(2, (32, 48)).tobytes()
    assert some.tobytes() != stand_ins(4, (32, 48), seed=1).tobytes()
    noise, leaves = some[0].reshape(-1, 3), some[1].reshape(-1, 3)
    assert len(np.unique(noise, axis=0)) > 500 > len(np.unique(leaves, axis=0)) > 10


@pytest.mark.parametrize("weights", ["imagenet", "inat_bird"])
@pytest.mark.parametrize("data", ["hymenoptera", "flowers5_128"])
def test_on_photographs_bf16_points_where_float32_points(
    data: str, weights: str, real_data: Path, real_weights: Path
) -> None:
    photos = tl.open_data(real_data / data)
    some = tl.data.subset(photos, np.arange(0, len(photos), len(photos) // 60)[:60])
    backbone = tl.open_backbone(f"timm/mobilenetv2_100@{real_weights}/mobilenetv2_100.{weights}.safetensors")
    rungs = ("blocks.2", "blocks.4", "pooled")
    found = extract_rungs(some, backbone, rungs, precision="bf16", **ASKED)
    alone = extract_features(some, backbone, precision="bf16", **ASKED)
    exact = extract_rungs(some, backbone, rungs, engine="torch", precision="f32", device="cpu")
    assert [features.precision for features in found] == ["bf16"] * 3
    assert smallest_cosine([f.values for f in found], [f.values for f in exact]) > 0.999
    assert smallest_cosine([alone.values], [exact[2].values]) > 0.999


def test_any_module_can_be_converted(toy: ModuleType) -> None:
    """The toy network has no architecture in timm."""
    graphs = building.ConvertedBackbone(FeatureStore().root, toy.ToyBackbone(), ("pooled", "3"))
    engine = OpenVINOEngine(graphs.opened("f32"), "f32")
    pixels = stand_ins(5, (16, 16))
    got = np.split(engine.run(pixels), np.cumsum(engine.widths)[:-1], axis=1)
    assert smallest_cosine(got, _by_torch(toy.ToyBackbone(), ("pooled", "3"), pixels)) > 0.999999


def test_a_signal_is_heard_after_engines_have_gone() -> None:
    """The thread that compiled first must keep its stack for signals, whichever thread lets go of the last engine."""
    code = (
        "import gc, os, signal, threading, time\n"
        "import numpy as np, openvino as ov\n"
        "from openvino import opset13 as ops\n"
        "from thawline.engines.openvino_engine import compile_graphs\n"
        "given = ops.parameter([8, 64, 32, 32], np.float32)\n"
        "weight = ops.constant(np.ones((64, 64, 3, 3), np.float32))\n"
        "graph = ov.Model([ops.convolution(given, weight, [1, 1], [1, 1], [1, 1], [1, 1])], [given])\n"
        "held = [compile_graphs([(graph, 'bf16')])]\n"
        "held[0][0]([np.zeros((8, 64, 32, 32), np.float32)])\n"
        "last = threading.Thread(target=lambda: (held.clear(), gc.collect()))\n"
        "last.start(); last.join()\n"
        "junk = [bytearray(30_000) for _ in range(500)]\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('heard'))\n"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.2); print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, ["heard", "alive"]), done.stderr
