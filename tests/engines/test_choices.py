import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from thawline.backbones import open_backbone
from thawline.engines import choices as engines_module
from thawline.engines import devices, torch_engine
from thawline.engines.arithmetic import padded_size
from thawline.engines.choices import EngineChoice, engine_choices, hardware
from thawline.engines.devices import resolve
from thawline.engines.torch_engine import TorchEngine
from thawline.errors import UsageError


def _pixels(n: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)


def _plain(backbone: object, pixels: np.ndarray) -> np.ndarray:
    """The float32 eager reference: one picture layout, no padding, no autocast."""
    p = backbone.preparation  # type: ignore[attr-defined]
    images = (pixels.astype(np.float32) / 255 - np.float32(p.mean)) / np.float32(p.std)
    with torch.no_grad():
        return backbone.module()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()  # type: ignore[attr-defined]


def test_f32_gives_what_plain_torch_gives(toy: ModuleType) -> None:
    expected = _plain(toy.ToyBackbone(), _pixels(11))
    engine = TorchEngine(toy.ToyBackbone(), precision="f32", device="cpu")
    got = engine.run(_pixels(11))
    assert (engine.name, engine.precision, got.dtype) == ("torch", "f32", np.float32)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_bf16_points_the_same_way_and_is_not_f32(toy: ModuleType) -> None:
    expected = _plain(toy.ToyBackbone(), _pixels(11))
    got = TorchEngine(toy.ToyBackbone(), precision="bf16", device="cpu").run(_pixels(11))
    cosine = (got * expected).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
    assert got.dtype == np.float32
    assert cosine.min() > 0.999
    assert np.abs(got - expected).max() > 1e-4


def test_another_rung_is_read_where_it_is_asked(toy: ModuleType) -> None:
    backbone = toy.ToyBackbone()
    got = TorchEngine(backbone, "3", precision="f32", device="cpu").run(_pixels(2))
    p = backbone.preparation
    images = (_pixels(2).astype(np.float32) / 255 - np.float32(p.mean)) / np.float32(p.std)
    expected = backbone.module()[:4](torch.from_numpy(images).permute(0, 3, 1, 2)).mean((2, 3)).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_threads_that_read_layers_side_by_side_hear_of_their_own_batch_only() -> None:
    """Layers are read by hooks; on modules that threads share, one would catch what another is running."""
    backbone = open_backbone(input_px=32)
    rungs = ("bn1", "layer2", "layer3", "pooled")
    engine = TorchEngine(backbone, rungs, precision="f32", device="cpu")
    batches = [np.random.default_rng(i).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8) for i in range(24)]
    expected = [engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(engine.run, batches), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
    weights = {tensor.data_ptr() for tensor in backbone.module().parameters()}
    copied = torch_engine._sharing_weights(backbone.module())
    assert {tensor.data_ptr() for tensor in copied.parameters()} == weights


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_bits_do_not_depend_on_what_a_sample_is_batched_with(toy: ModuleType, precision: str) -> None:
    engine = TorchEngine(toy.ToyBackbone(), precision=precision, device="cpu")
    pixels = _pixels(40)
    whole = engine.run(pixels[:32])
    for size in (1, 2, 3, 5, 8, 13, 31):
        parts = [engine.run(pixels[start : min(start + size, 32)]) for start in range(0, 32, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes(), size
    order = np.random.default_rng(0).permutation(32)
    assert engine.run(pixels[order]).tobytes() == whole[order].tobytes()
    assert engine.run(pixels)[:32].tobytes() == whole.tobytes()


@pytest.mark.parametrize(("n", "size"), [(1, 32), (8, 32), (31, 32), (32, 32), (33, 64), (70, 96)])
def test_batches_come_in_few_sizes(n: int, size: int) -> None:
    assert padded_size(n) == size


def test_the_backbone_is_built_once_and_its_values_stay(toy: ModuleType) -> None:
    backbone = toy.ToyBackbone()
    before = {name: tensor.clone() for name, tensor in backbone.module().state_dict().items()}
    TorchEngine(backbone, precision="bf16", device="cpu").run(_pixels(3))
    TorchEngine(backbone, precision="f32", device="cpu").run(_pixels(3))
    assert backbone.n_built == 1
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.module().state_dict().items())


def test_a_cpu_engine_keeps_freed_memory(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(torch_engine, "keep_freed_memory", lambda: calls.append(1))
    backbone = toy.ToyBackbone()
    monkeypatch.setattr(backbone, "module", lambda plain=backbone.module: calls.append(2) or plain())
    TorchEngine(backbone, device="cpu")
    assert calls[:2] == [1, 2]  # before the weights are loaded


@pytest.mark.parametrize(
    "batch",
    [np.zeros((2, 16, 16, 3), np.float32), np.zeros((2, 3, 16, 16), np.uint8), np.zeros((0, 16, 16, 3), np.uint8)],
)
def test_refuses_what_is_no_batch(toy: ModuleType, batch: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"batch must be uint8 \(B, 16, 16, 3\) with B > 0; got"):
        TorchEngine(toy.ToyBackbone(), device="cpu").run(batch)


def test_auto_is_resolved_by_what_the_hardware_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(cuda: bool, mps: bool, native: set[str]) -> tuple[str, str]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.mps, "is_available", lambda: mps)
        monkeypatch.setattr(devices, "_computes_in_bf16", lambda kind: kind in native)
        return resolve("auto", "auto")

    assert machine(True, False, {"cuda"}) == ("cuda", "bf16")
    assert machine(True, True, set()) == ("cuda", "f32")
    assert machine(False, True, {"cpu"}) == ("mps", "f32")
    assert machine(False, False, {"cpu"}) == ("cpu", "bf16")
    assert resolve("f32", "cpu") == ("cpu", "f32")


@pytest.mark.parametrize(
    ("processor", "bf16", "amx", "onednn", "native"),
    [
        ("x86_64", True, False, True, True),
        ("AMD64", False, True, True, True),
        ("x86_64", False, False, True, False),  # oneDNN says yes to emulation in AVX-512
        ("aarch64", False, False, True, True),
        ("aarch64", False, False, False, False),
    ],
)
def test_emulated_bf16_does_not_count(
    monkeypatch: pytest.MonkeyPatch, processor: str, bf16: bool, amx: bool, onednn: bool, native: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: processor)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    assert devices._computes_in_bf16("cpu") is native
    assert devices._computes_in_bf16("mps") is False


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, toy: ModuleType) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"device must be one that torch finds here \(cpu\); got 'cuda'"):
        TorchEngine(toy.ToyBackbone(), device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=r"\(cuda, cpu\); got 'cuda:2'"):
        resolve("f32", "cuda:2")
    assert resolve("f32", "cuda:1") == ("cuda:1", "f32")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"engine": "tensorflow"}, "engine must be auto, openvino or torch; got 'tensorflow'"),
        ({"engine": "openvino", "device": "cuda", "precision": "f32"}, "needs a processor, .* got device cuda. Use"),
        ({"precision": "f64"}, "precision must be auto, f32, bf16 or int8; got 'f64'"),
        ({"device": "tpu"}, "device must be auto, cpu, mps, cuda or cuda:N; got 'tpu'. Leave it out"),
        ({"device": "cuda:x"}, "got 'cuda:x'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        engine_choices(**options)


def test_the_identity_names_what_rounds_differently() -> None:
    one = EngineChoice("torch", "cuda:1", "f32")
    assert one.identity == f"torch {torch.__version__} cuda"
    assert EngineChoice("torch", "cpu", "f32").identity != one.identity
    assert EngineChoice("absent-package", "cpu", "f32").identity == "absent-package absent cpu"


def test_on_a_processor_bf16_is_openvinos(monkeypatch: pytest.MonkeyPatch) -> None:
    def here(**asked: str) -> list[tuple[str, str]]:
        return [(choice.engine, choice.precision) for choice in engine_choices(**asked)]

    monkeypatch.setattr(engines_module, "_resolve", lambda device, memory: ("cpu", "bf16"))
    assert here() == [("openvino", "bf16"), ("torch", "f32")]
    assert here(engine="torch") == [("torch", "f32")]
    assert here(engine="openvino") == [("openvino", "bf16")]
    assert here(precision="bf16", device="cpu") == [("openvino", "bf16"), ("torch", "f32")]
    assert here(precision="f32", device="cpu") == [("openvino", "f32"), ("torch", "f32")]
    assert here(engine="torch", precision="bf16", device="cpu") == [("torch", "bf16")]
    assert here(precision="bf16", device="cuda") == [("torch", "bf16")]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert here() == [("torch", "f32")]
    assert here(precision="bf16", device="cpu") == [("torch", "bf16")]
    with pytest.raises(UsageError, match=r"openvino is not installed\. Use --engine torch"):
        engine_choices("openvino", "f32", "cpu")


@pytest.fixture
def doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of which only torch knows whether it has an accelerator."""
    monkeypatch.setattr(engines_module, "_may_have_accelerator", lambda: True)


@pytest.mark.usefixtures("doubtful")
def test_auto_is_asked_once_per_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def resolve_here(precision: str, device: str) -> tuple[str, str]:
        asked.append((precision, device))
        return ("cpu" if device == "auto" else device), "bf16"

    monkeypatch.setattr(devices, "resolve", resolve_here)
    assert not engines_module.is_remembered("auto", "auto", tmp_path)
    for _ in range(2):
        assert hardware(memory=tmp_path) == ("cpu", "bf16")
        assert hardware("f32", memory=tmp_path) == ("cpu", "f32")
    assert asked == [("auto", "auto")]
    assert engines_module.is_remembered("auto", "auto", tmp_path)
    assert engines_module.is_remembered("f32", "cpu", tmp_path / "nowhere")  # nothing is left to auto
    assert hardware("f32", "cpu") == ("cpu", "f32")
    assert hardware(device="cuda", memory=tmp_path) == ("cuda", "bf16")
    assert len(asked) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "another")
    hardware(memory=tmp_path)
    assert len(asked) == 3


@pytest.mark.usefixtures("doubtful")
@pytest.mark.parametrize("content", ["", "[1]", "{", '{"QUESTION": ["tpu", "f32"]}', '{"QUESTION": ["auto", 1]}'])
def test_a_memory_that_makes_no_sense_is_asked_again(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "resolve", lambda precision, device: ("cpu", "f32"))
    question = engines_module._fingerprint("auto")
    (tmp_path / "hardware.json").write_text(content.replace("QUESTION", question))
    assert hardware(memory=tmp_path) == ("cpu", "f32")
    assert json.loads((tmp_path / "hardware.json").read_text())[question] == ["cpu", "f32"]


def test_without_a_sign_of_an_accelerator_torch_need_not_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = "flags : fpu avx512_bf16"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(engines_module, "processor_features", lambda: flags)
    monkeypatch.setattr(engines_module, "_may_have_accelerator", lambda: False)
    with monkeypatch.context() as patch:
        patch.setattr(devices, "resolve", lambda *asked: pytest.fail("torch must not be asked"))
        assert hardware(memory=tmp_path) == hardware("auto", "cpu") == ("cpu", "bf16")
        flags = "flags : fpu avx512f"
        assert hardware() == ("cpu", "f32")
        assert engines_module.is_remembered("auto", "auto", tmp_path)
        assert not (tmp_path / "hardware.json").exists()
    asked: list[str] = []
    monkeypatch.setattr(devices, "resolve", lambda precision, device: asked.append(device) or ("cpu", "f32"))
    hardware(device="cuda")
    for name, answer in (("processor_features", ""), ("_may_have_accelerator", True)):
        with monkeypatch.context() as patch:
            patch.setattr(engines_module, name, lambda answer=answer: answer)
            hardware()
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    hardware(device="cpu")
    monkeypatch.setattr(sys, "platform", "darwin")
    hardware()
    assert asked == ["cuda", "auto", "auto", "cpu", "auto"]


def test_what_is_certain_is_what_torch_says() -> None:
    for device in ("auto", "cpu"):
        certain = engines_module._certain(device)
        assert certain is None or certain == resolve("auto", device)


def test_device_files_and_drivers_hint_at_accelerators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is here, a device file must not go unseen, nor a driver's library."""
    monkeypatch.setattr(engines_module, "Path", lambda _: tmp_path)
    loaded: list[str] = []

    def absent(name: str) -> None:
        loaded.append(name)
        raise OSError(name)

    monkeypatch.setattr(engines_module.ctypes, "CDLL", absent)
    assert not engines_module._may_have_accelerator()
    assert loaded == ["libcuda.so.1", "libamdhip64.so"]
    for name in ("nvidia0", "dxg", "kfd", "nvhost-ctrl"):
        (tmp_path / name).touch()
        assert engines_module._may_have_accelerator(), name
        (tmp_path / name).unlink()
    monkeypatch.setattr(engines_module.ctypes, "CDLL", lambda name: object())
    assert engines_module._may_have_accelerator()


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert hardware(memory=tmp_path / "file")[0] in ("cpu", "cuda", "mps")


def test_importing_the_room_loads_no_torch(in_child: Callable) -> None:
    done = in_child("import sys, thawline.features.extract\nprint('torch' in sys.modules, 'timm' in sys.modules)")
    assert done.stdout.split() == ["False", "False"], done.stderr
