"""Recorded graphs: what comes of them is, to the bit, what converting with torch gives."""

from __future__ import annotations

import functools
import json
import logging
import lzma
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recording
import torch
from recording import NotRecordableError, record, write_archive
from safetensors.torch import load_file, save, save_file

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm
from thawline.engines.building import ConvertedBackbone, count_multiply_adds
from thawline.engines.choices import EngineChoice
from thawline.engines.converting import topology
from thawline.engines.converting.conversion import convert
from thawline.engines.converting.refining import in_bfloat16, in_float32, run_compiled, smallest_cosine
from thawline.engines.converting.topology import ARCHIVE, Topology, entry_name, read, recorded
from thawline.errors import WeightsError
from thawline.features import extract_features
from thawline.features.extract import feature_key
from thawline.inputs.image.stand_ins import stand_ins
from thawline.store.store import FeatureStore

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

POOLED = ("pooled",)
ASKED = {"engine": "openvino", "device": "cpu"}


@functools.cache
def _recorded(architecture: str, px: int) -> Topology:
    return record(architecture, input_px=px)


SMALL = ("test_resnet", "test_vit")


@pytest.fixture(scope="module")
def _archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "recorded.zip"
    write_archive([_recorded(architecture, 160) for architecture in SMALL], path)
    return path


@pytest.fixture
def archive(_archived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Topologies of two small architectures, in the place of those that ship; yours to break."""
    path = Path(shutil.copy(_archived, tmp_path / "recorded.zip"))
    monkeypatch.setattr(topology, "ARCHIVE", path)
    topology._read_once.cache_clear()
    yield path
    topology._read_once.cache_clear()


@functools.cache
def _written(architecture: str, dtype: torch.dtype, **model_args: Any) -> bytes:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = import_timm().create_model(architecture, num_classes=7, **model_args)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape))
    state = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    described = {"architecture": architecture, "pretrained_cfg": json.dumps(model.pretrained_cfg)}
    return save(state, described | {"model_args": json.dumps(model_args)})


@pytest.fixture
def weights(tmp_path: Path) -> Callable[..., Path]:
    """(architecture, dtype) -> a weights file as users have them, with a classifier."""

    def write(architecture: str = "test_resnet", dtype: torch.dtype = torch.float32, **model_args: Any) -> Path:
        path = tmp_path / f"{architecture}-{dtype}.safetensors".replace("torch.", "")
        path.write_bytes(_written(architecture, dtype, **model_args))
        return path

    return write


def _check_equal(backbone: tl.Backbone) -> None:
    found = recorded(backbone, POOLED)
    assert found is not None
    pixels = stand_ins(found.batch_size, backbone.preparation.input_px, seed=3)
    without_torch = run_compiled(in_float32(found.graph(backbone)).compiled, [pixels])[0]
    assert not backbone.is_built
    with_torch = run_compiled(convert(backbone, POOLED, "f32").compiled, [pixels])[0]
    assert np.isfinite(with_torch).all() and with_torch.std(0).max() > 0
    assert without_torch.tobytes() == with_torch.tobytes()


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("architecture", ["test_resnet", pytest.param("test_vit", marks=pytest.mark.slow)])
def test_features_are_those_of_torch_to_the_bit(
    architecture: str, dtype: torch.dtype, weights: Callable[..., Path]
) -> None:
    _check_equal(tl.open_backbone(f"timm/{architecture}@{weights(architecture, dtype)}", mean=0.4, std=(0.2, 0.3, 0.4)))


def test_the_embedded_backbone_needs_no_torch() -> None:
    _check_equal(tl.open_backbone())


@pytest.mark.parametrize("model_args", [{}, pytest.param({"pad_type": "same"}, marks=pytest.mark.slow)])
def test_a_mobilenet_needs_no_torch(weights: Callable[..., Path], model_args: dict[str, str]) -> None:
    _check_equal(tl.open_backbone(f"timm/mobilenetv2_100@{weights('mobilenetv2_100', **model_args)}"))


def test_what_ships_is_whole_small_and_of_the_release_of_timm_that_is_tested() -> None:
    with zipfile.ZipFile(ARCHIVE) as opened:
        names = opened.namelist()
    assert {"mobilenetv2_100-224.json", "resnet18-224.json", "resnet50-224.json"} < set(names)
    assert ARCHIVE.stat().st_size < 100_000
    installed = import_timm().__version__.split(".")[:2]
    for name in names:
        found = read(ARCHIVE, name)
        assert found is not None
        assert name == entry_name(found.architecture, found.model_args, found.input_px)
        assert found.timm.split(".")[:2] == installed, "run tools/record_topologies.py"
        assert found.rungs == POOLED
        assert found.batch_size in (1, 2, 4, 8)
        ends = [filling.offset + 4 * int(np.prod(filling.shape)) for filling in found.fillings]
        ends += [offset + len(literal) for offset, literal in found.literals]
        assert max(ends) == found.size


def test_every_topology_survives_being_written(archive: Path) -> None:
    for architecture in SMALL:
        found = _recorded(architecture, 160)
        assert read(archive, f"{architecture}-160.json") == found
        assert replace(found, timm="0", openvino="0").revision == found.revision
        assert replace(found, xml=found.xml + " ").revision != found.revision
    assert read(archive, "test_vit-224.json") is None


def test_the_same_topologies_give_the_same_archive(archive: Path, tmp_path: Path) -> None:
    write_archive([_recorded(architecture, 160) for architecture in SMALL], tmp_path / "again.zip")
    assert archive.read_bytes() == (tmp_path / "again.zip").read_bytes()


def test_one_topology_is_read_without_the_others(archive: Path) -> None:
    """Every entry is compressed by itself: damage to one leaves the others readable."""
    with zipfile.ZipFile(archive) as opened:
        second = opened.infolist()[1].header_offset
    content = bytearray(archive.read_bytes())
    content[second + 100 : second + 200] = bytes(100)
    archive.write_bytes(content)
    assert read(archive, "test_resnet-160.json") == _recorded("test_resnet", 160)
    with pytest.raises((zipfile.BadZipFile, lzma.LZMAError, OSError, ValueError)):
        read(archive, "test_vit-160.json")


@pytest.mark.usefixtures("archive")
def test_bfloat16_is_as_close_as_where_torch_converts(weights: Callable[..., Path]) -> None:
    backbone = tl.open_backbone(f"timm/test_resnet@{weights()}")
    graphs = ConvertedBackbone(FeatureStore().root, backbone, POOLED)
    pixels = stand_ins(11, backbone.preparation.input_px, seed=5)
    found, exact = (graphs.engine(precision).run(pixels) for precision in ("bf16", "f32"))
    assert smallest_cosine([found], [exact]) > 0.999 and found.tobytes() != exact.tobytes()
    assert not backbone.is_built
    assert count_multiply_adds(backbone) == graphs.topology.multiply_adds


def _opened(path: Path, **settings: Any) -> tl.Backbone:
    return tl.open_backbone(f"timm/test_resnet@{path}", **settings)


@pytest.mark.usefixtures("archive")
def test_both_ways_have_keys_of_their_own(weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path, choice = weights(), EngineChoice("openvino", "cpu", "f32")
    key = feature_key(_opened(path), "pooled", choice)
    assert "recorded" in key.engine
    graphs = ConvertedBackbone(FeatureStore().root, _opened(path), POOLED)
    graphs.opened("f32")
    other = feature_key(_opened(path), "layer1", choice)
    assert "recorded" not in other.engine
    monkeypatch.setattr(topology, "release", lambda package: "0.9.9" if package == "timm" else "2030.1")
    assert "recorded" not in feature_key(_opened(path), "pooled", choice).engine
    assert not ConvertedBackbone(FeatureStore().root, _opened(path), POOLED).are_there("f32")


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize(
    ("settings", "releases", "reason"),
    [
        ({"input_px": 64}, {}, None),
        ({"model_args": {"act_layer": "silu"}}, {}, None),
        ({}, {"timm": "1.1.0"}, r"it was recorded with timm \d"),
        ({}, {"openvino": "2024.6.0"}, r"it was recorded with OpenVINO \d"),
    ],
)
def test_what_was_not_recorded_is_converted_with_torch(
    settings: dict[str, Any],
    releases: dict[str, str],
    reason: str | None,
    weights: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    actual = topology.release
    monkeypatch.setattr(topology, "release", lambda package: releases.get(package) or actual(package))
    backbone = _opened(weights(), **settings)
    assert recorded(backbone, POOLED) is None
    told = [record.message for record in caplog.records if "is converted with torch" in record.message]
    assert len(told) == (reason is not None)
    if reason is not None:
        assert re.search(reason, told[0])
    ConvertedBackbone(FeatureStore().root, backbone, POOLED).opened("f32")
    assert backbone.is_built


@pytest.mark.usefixtures("archive")
def test_a_later_release_of_openvino_reads_what_was_recorded(
    weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = topology.release
    monkeypatch.setattr(topology, "release", lambda name: "2030.0.0" if name == "openvino" else actual(name))
    assert recorded(_opened(weights()), POOLED) is not None


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize("change", ["missing", "another shape", "one more", "whole numbers"])
def test_weights_that_do_not_fit_are_refused_as_ever(
    change: str, weights: Callable[..., Path], tiny_photos: Path
) -> None:
    path = weights()
    state = load_file(path)
    name = "layer2.0.conv1.weight"
    if change == "missing":
        del state[name]
    elif change == "another shape":
        state[name] = state[name][:-1].clone()
    elif change == "one more":
        state["extra"] = torch.zeros(1)
    else:
        state[name] = state[name].to(torch.int32)
    described = {"pretrained_cfg": json.dumps(import_timm().get_pretrained_cfg("test_resnet").to_dict())}
    save_file(state, path, described)
    backbone = _opened(path)
    assert recorded(backbone, POOLED) is None
    said = "weights must fit the architecture test_resnet; 1 tensors differ"
    if change == "whole numbers":
        said = rf"weights must be floating-point numbers; {re.escape(name)} holds I32"
    with pytest.raises(WeightsError, match=said):
        extract_features(tl.open_data(tiny_photos), backbone, **ASKED)


@pytest.mark.usefixtures("archive")
def test_a_tensor_of_fewer_bytes_than_its_shape_says_is_refused(weights: Callable[..., Path]) -> None:
    path = weights()
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["layer2.0.conv1.weight"]["data_offsets"][0] += 4
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(WeightsError, match=r"must be a sound safetensors file; .*layer2\.0\.conv1\.weight"):
        ConvertedBackbone(FeatureStore().root, _opened(path), POOLED).opened("f32")


@pytest.mark.parametrize("damage", ["cut", "other", "old", "missing"])
def test_a_damaged_archive_is_left_alone(
    damage: str, archive: Path, weights: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    if damage == "old":
        with zipfile.ZipFile(archive) as opened:
            changed = json.loads(opened.read("test_resnet-160.json")) | {"format": 0}
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("test_resnet-160.json", json.dumps(changed))
    elif damage == "missing":
        archive.unlink()
    else:
        archive.write_bytes(archive.read_bytes()[:100] if damage == "cut" else b"nonsense")
    backbone = _opened(weights())
    assert recorded(backbone, POOLED) is None and recorded(backbone, POOLED) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "this backbone is converted with torch" in caplog.text


def test_a_graph_whose_numbers_come_from_several_tensors_is_not_recorded() -> None:
    with pytest.raises(NotRecordableError, match=r"test_nfnet cannot be recorded: \d+ constants of up to \d+ bytes"):
        record("test_nfnet")


def test_a_fold_that_was_overlooked_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_folds", lambda backbone: ())
    with pytest.raises(NotRecordableError, match=r"a constant f32 \d+x\d+x3x3 of its graph is none of its tensors"):
        record("test_resnet", input_px=64)


def test_what_is_filled_in_is_compared_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = topology.with_folds
    off = lambda *given: lambda name: np.nextafter(exact(*given)(name), np.float32(1e9))  # noqa: E731
    monkeypatch.setattr(topology, "with_folds", off)
    with pytest.raises(NotRecordableError, match="filled in, it is not the same to the bit"):
        record("test_resnet", input_px=64)


@pytest.mark.usefixtures("archive")
def test_where_little_is_known_to_stray_it_is_not_tried(
    weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from thawline.engines.converting.refining import Reference

    backbone = _opened(weights())
    found = recorded(backbone, POOLED)
    assert found is not None
    reference = Reference.of(found.graph(backbone), stand_ins(8, (160, 160)))
    assert in_bfloat16(reference).float32_share < 0.25 <= in_bfloat16(reference, first_share=0.25).float32_share < 0.5


def test_the_first_extraction_needs_no_torch(tiny_photos: Path, in_child: Callable[..., Any]) -> None:
    done = in_child(
        "import sys, thawline as tl\n"
        f"data = tl.open_data({str(tiny_photos)!r})\n"
        "features = tl.extract_features(data, tl.open_backbone(), device='cpu', precision='bf16')\n"
        "print(features.engine, features.computed, features.why, sep='|')\n"
        "print(*sorted({'torch', 'timm', 'torchvision'} & set(sys.modules)))"
    )
    assert done.stdout == "openvino|30|its graph is recorded: torch need not be loaded\n\n", done.stderr
