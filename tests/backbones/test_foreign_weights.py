"""Weights as other people's programs save them: wrapped, beside other things, of another format or model."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.backbones.conftest import CONFIG, state_dict

import thawline as tl
from thawline.backbones.providers.timm_import import import_timm
from thawline.errors import WeightsError

Tensors = dict[str, torch.Tensor]
METADATA = {"architecture": "test_resnet", "model_args": "{}", "pretrained_cfg": json.dumps(CONFIG)}


def saved(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> str:
    """Write tensors, and name the model that they are."""
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, metadata)
    return f"timm/test_resnet@{path}"


def renamed(tensors: Tensors, prefix: str) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def run_advice(error: BaseException, folder: Path) -> None:
    """Do what a message says behind ``python -c``, as a shell reads it."""
    _, _, code = shlex.split(str(error)[str(error).index("python -c") :])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, timeout=120)


@pytest.mark.parametrize("metadata", [METADATA, None], ids=["described", "bare"])
@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "backbone.", "encoder.", "net.", "_orig_mod.", "module.model.", "state_dict.", "0.",
     "my.own.", "teacher.backbone."],
)  # fmt: skip
def test_a_prefix_of_all_names_is_taken_off_and_said(
    tmp_path: Path, prefix: str, metadata: dict[str, str] | None
) -> None:
    tensors = state_dict()
    plain = tl.open_backbone(saved(tmp_path / "plain.safetensors", tensors, metadata))
    backbone = tl.open_backbone(saved(tmp_path / "wrapped.safetensors", renamed(tensors, prefix), metadata))
    assert backbone.notes[0] == f"All names in wrapped.safetensors begin with {prefix!r}, which was taken off."
    assert len(backbone.notes) == 1 + (metadata is None)
    assert backbone.weights_sha256 == plain.weights_sha256  # so features that are stored serve both
    for name, tensor in backbone.module().state_dict().items():
        assert torch.equal(tensor, tensors[name])


@pytest.mark.parametrize("head", ["fc", "head", "classifier.1"])
@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "features_of_mine."])
def test_a_head_beside_the_backbone_is_left_out_and_said(tmp_path: Path, prefix: str, head: str) -> None:
    tensors = {name: tensor for name, tensor in state_dict().items() if not name.startswith("fc.")}
    others = {f"{head}.weight": torch.ones(5, 9), f"{head}.bias": torch.ones(5)}
    backbone = tl.open_backbone(saved(tmp_path / "a.safetensors", renamed(tensors, prefix) | others))
    assert backbone.notes[0] == (
        f"The model's names in a.safetensors begin with {prefix!r}, which was taken off. "
        f"2 tensors that are not the model's were left out ({head}.bias, {head}.weight)."
    )
    assert backbone.module().state_dict().keys() == tensors.keys()


def test_an_optimiser_and_a_moving_average_beside_the_model_are_left_out(tmp_path: Path) -> None:
    tensors = state_dict()
    more = renamed(tensors, "ema.") | {"optimizer.state.0.exp_avg": torch.ones(3), "epoch": torch.ones(())}
    backbone = tl.open_backbone(saved(tmp_path / "a.safetensors", tensors | more, METADATA))
    assert backbone.notes and "tensors that are not the model's were left out" in backbone.notes[0]
    plain = tl.open_backbone(saved(tmp_path / "b.safetensors", tensors, METADATA))
    assert plain.notes == ()
    assert backbone.weights_sha256 == plain.weights_sha256


@pytest.mark.parametrize("prefixes", [("student.", "teacher."), ("model.", "model_ema.module.")])
def test_a_model_that_is_there_twice_is_refused_with_a_way_to_choose(tmp_path: Path, prefixes: tuple[str, str]) -> None:
    twice = renamed(state_dict(seed=0), prefixes[0]) | renamed(state_dict(seed=1), prefixes[1])
    first, second = sorted(prefixes)
    with pytest.raises(WeightsError, match=f"names begin with '{first}' and with '{second}'") as caught:
        tl.open_backbone(saved(tmp_path / "twice.safetensors", twice, METADATA))
    run_advice(caught.value, tmp_path)
    (one,) = set(tmp_path.glob("*.safetensors")) - {tmp_path / "twice.safetensors"}
    backbone = tl.open_backbone(f"timm/test_resnet@{one}")
    kept = state_dict(seed=prefixes.index(second))
    assert torch.equal(backbone.module().state_dict()["conv1.0.weight"], kept["conv1.0.weight"])


def test_a_larger_model_does_not_pass_for_a_smaller_one(tmp_path: Path) -> None:
    larger = state_dict()
    larger["layer1.9.conv1.weight"] = torch.ones(1)
    for prefix in ("", "module."):
        backbone = tl.open_backbone(saved(tmp_path / "a.safetensors", renamed(larger, prefix)))
        with pytest.raises(WeightsError, match=r"1 tensors differ .*unexpected layer1.9.conv1.weight"):
            backbone.module()


def test_what_differs_behind_a_prefix_is_said_without_it(tmp_path: Path) -> None:
    tensors = state_dict()
    tensors["bn1.weight"] = torch.ones(3)
    backbone = tl.open_backbone(saved(tmp_path / "a.safetensors", renamed(tensors, "module."), METADATA))
    with pytest.raises(
        WeightsError,
        match=r"1 tensors differ .*bn1.weight is \(3,\) instead.*begin with 'module.', which is left out here",
    ):
        backbone.module()


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in state_dict().items() if not name.endswith("num_batches_tracked")}
    for prefix in ("", "module."):
        module = tl.open_backbone(saved(tmp_path / "a.safetensors", renamed(tensors, prefix), METADATA)).module()
        assert torch.equal(module.state_dict()["bn1.running_mean"], tensors["bn1.running_mean"])
        assert int(module.state_dict()["bn1.num_batches_tracked"]) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state_dict().items()}
    weight = tl.open_backbone(saved(tmp_path / "a.safetensors", tensors, METADATA)).module().state_dict()["bn1.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, tensors["bn1.weight"].float())


def test_whole_numbers_are_refused(tmp_path: Path) -> None:
    tensors = state_dict()
    tensors["conv1.0.weight"] = (tensors["conv1.0.weight"] * 127).to(torch.int8)
    with pytest.raises(WeightsError, match=r"must be floating-point numbers; conv1.0.weight holds I8"):
        tl.open_backbone(saved(tmp_path / "a.safetensors", tensors, METADATA)).module()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_that_are_not_finite_name_their_tensor(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    tensors = state_dict()
    tensors["layer2.0.conv1.weight"][0, 0, 0, 0] = value
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    backbone = tl.open_backbone(saved(tmp_path / "a.safetensors", renamed(tensors, "model."), METADATA))
    with pytest.raises(WeightsError, match=r"finite numbers; model\.layer2\.0\.conv1\.weight holds 1 NaN or infinite"):
        _ = backbone.weights_sha256


def test_layers_of_zeros_alone_are_refused(tmp_path: Path) -> None:
    tensors = state_dict()
    some = tensors | {"conv1.0.weight": torch.zeros_like(tensors["conv1.0.weight"])}
    assert tl.open_backbone(saved(tmp_path / "some.safetensors", some, METADATA)).weights_sha256
    empty = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    with pytest.raises(WeightsError, match="must not be zero in every layer"):
        _ = tl.open_backbone(saved(tmp_path / "all.safetensors", empty, METADATA)).weights_sha256


def test_grey_weights_are_spread_over_three_channels(tmp_path: Path) -> None:
    tensors = state_dict(in_chans=1)
    name = saved(tmp_path / "grey.safetensors", renamed(tensors, "module."), METADATA)
    backbone = tl.open_backbone(name)
    assert backbone.notes[-1] == (
        "grey.safetensors was adapted to test_resnet (conv1.0.weight: spread over channels 1 -> 3)."
    )
    module = backbone.module()
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    model = import_timm().create_model("test_resnet", num_classes=7, in_chans=1)
    model.load_state_dict(tensors)
    with torch.inference_mode():
        expected = model.eval().forward_head(model.forward_features(grey), pre_logits=True)
        assert torch.allclose(module(grey.repeat(1, 3, 1, 1)), expected, atol=1e-5)


def test_weights_for_four_channels_name_no_false_cure(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"made for pictures of 4 channels.*Choose weights that were made for one or three"
    ):
        tl.open_backbone(saved(tmp_path / "four.safetensors", state_dict(in_chans=4), METADATA)).module()


def test_position_embeddings_tell_the_input(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    save_file(state_dict("test_vit", img_size=96), path)
    with pytest.raises(WeightsError, match=r"made for an input of 96 px: add --input-px 96"):
        tl.open_backbone(f"timm/test_vit@{path}").module()
    assert tl.open_backbone(f"timm/test_vit@{path}", input_px=96).load_receipt().counts()["adapted"] == 0


def test_another_architecture_is_found_by_its_shapes(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(state_dict("resnet18"), path)
    with pytest.raises(
        WeightsError, match=re.escape(f"The weights fit timm's resnet18: give --model timm/resnet18@{path}.")
    ):
        tl.open_backbone(f"timm/resnet34@{path}").module()


def test_a_model_without_its_last_layers_is_named(tmp_path: Path) -> None:
    tensors = {name: t for name, t in state_dict().items() if not name.startswith(("layer4", "fc"))}
    with pytest.raises(WeightsError, match=r"Everything from layer4.0.conv1 on is missing"):
        tl.open_backbone(saved(tmp_path / "a.safetensors", tensors, METADATA)).module()


@pytest.mark.parametrize(
    ("library", "names"),
    [
        ("torchvision", [f"features.{n}.conv.0.0.weight" for n in range(9)]),
        ("torchvision", [f"encoder.layers.encoder_layer_{n}.mlp.0.weight" for n in range(9)]),
        ("Hugging Face transformers", [f"vit.encoder.layer.{n}.output.dense.weight" for n in range(9)]),
        ("Ultralytics", [f"model.{n}.conv.weight" for n in range(9)]),
    ],
)
def test_names_of_another_library_are_recognised(tmp_path: Path, library: str, names: list[str]) -> None:
    backbone = tl.open_backbone(saved(tmp_path / "a.safetensors", {name: torch.ones(1) for name in names}))
    with pytest.raises(
        WeightsError, match=f"Its names are those of {library}(, and timm's differ|: give --model hf/NAME@)"
    ):
        backbone.module()


def _zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.safetensors", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
         r"is a pointer of Git LFS.*`git lfs pull`"),
        ("a.safetensors", lambda path: path.write_text("\n<!DOCTYPE html><html>Sign in</html>"),
         r"is a web page.*download link"),
        ("a.safetensors", lambda path: path.write_bytes(b""), r"is empty\. Fetch the file again"),
        ("a.keras", lambda path: _zip(path, "config.json", "model.weights.h5"), r"is a Keras model.*keras/custom@"),
        ("a.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)),
         r"is an HDF5 file, as Keras writes it.*keras/NAME@"),
        ("a.onnx", lambda path: path.write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(90)),
         r"is an ONNX model.*--model onnx/a@"),
        ("a.tflite", lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(90)), r"is a TensorFlow Lite model"),
        ("a.pt2", lambda path: _zip(path, "a/archive_format", "a/models/model.json"), r"is an exported program.*ONNX"),
        ("a.npz", lambda path: _zip(path, "w.npy"), r"is an archive of NumPy arrays"),
        ("a.safetensors.gz", lambda path: path.write_bytes(b"\x1f\x8b" + bytes(90)), r"is compressed\. Unpack it"),
        ("a.zip", lambda path: _zip(path, "weights.safetensors"), r"is a zip archive\. Unpack it"),
        ("a.json", lambda path: path.write_text("{}"), r"is a JSON file"),
        ("a.safetensors", lambda path: path.write_bytes(b"\xff" * 99), r"is not \(its header is damaged or missing\)"),
    ],
)  # fmt: skip
def test_other_files_are_named_with_the_next_step(
    tmp_path: Path, name: str, write: Callable[[Path], object], said: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(WeightsError, match=rf"(?s)must be in the safetensors format; .*{said}"):
        tl.open_backbone(f"timm/test_resnet@{tmp_path / name}")


@pytest.mark.parametrize("legacy", [True, False])
def test_a_checkpoint_opens_like_the_safetensors_file_of_its_tensors(tmp_path: Path, legacy: bool) -> None:
    kept = {"state_dict": state_dict(), "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}
    torch.save(kept, tmp_path / "it's mine.pth", _use_new_zipfile_serialization=not legacy)
    backbone = tl.open_backbone(f"timm/test_resnet@{tmp_path / chr(105)}t's mine.pth")
    assert backbone.notes[0] == "All names in it's mine.pth begin with 'state_dict.', which was taken off."
    plain = tl.open_backbone(saved(tmp_path / "plain.safetensors", state_dict()))
    assert backbone.weights_sha256 == plain.weights_sha256


def test_a_checkpoint_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state_dict(), tmp_path / "a.pth")
    before = tl.open_backbone(f"timm/test_resnet@{tmp_path / 'a.pth'}").tensors.path
    monkeypatch.setattr("subprocess.Popen", None)
    assert tl.open_backbone(f"timm/test_resnet@{tmp_path / 'a.pth'}").tensors.path == before


def test_the_digest_that_is_asked_for_is_that_of_the_file_itself(tmp_path: Path) -> None:
    torch.save(state_dict(), tmp_path / "a.pth")
    digest = hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()
    assert tl.open_backbone(f"timm/test_resnet@{tmp_path / 'a.pth'}", sha256=digest)
    with pytest.raises(WeightsError, match=f"must have SHA-256 {'0' * 64}; got {digest}"):
        tl.open_backbone(f"timm/test_resnet@{tmp_path / 'a.pth'}", sha256="0" * 64)


@pytest.mark.parametrize("given", ["", "model.safetensors.index.json", "model-00001-of-00002.safetensors"])
def test_the_parts_of_a_large_file_are_joined(tmp_path: Path, given: str) -> None:
    tensors = state_dict()
    parts = two_parts(tmp_path, tensors)
    plain = tl.open_backbone(saved(tmp_path / "plain.safetensors", tensors))
    assert tl.open_backbone(f"timm/test_resnet@{tmp_path / given}").weights_sha256 == plain.weights_sha256
    (tmp_path / parts[1]).unlink()
    with pytest.raises(WeightsError, match=rf"belongs to 2 parts, and {tmp_path / parts[1]} is not there. Fetch it"):
        tl.open_backbone(f"timm/test_resnet@{tmp_path / given}")


def two_parts(folder: Path, tensors: Tensors) -> list[str]:
    names = sorted(tensors)
    parts = {f"model-{n:05d}-of-00002.safetensors": names[n - 1 :: 2] for n in (1, 2)}
    for part, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return list(parts)


def test_an_index_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(WeightsError, match=r"must list the parts beside it; .*'../secret.safetensors' is not a file"):
        tl.open_backbone(f"timm/test_resnet@{index}")


def test_a_folder_or_a_path_that_holds_something_else_names_it(tmp_path: Path, weights_file: Path) -> None:
    with pytest.raises(WeightsError, match=r"is not there\. Did you mean 'small.safetensors'"):
        tl.open_backbone(f"timm/test_resnet@{tmp_path / 'smal.safetensors'}")
    with pytest.raises(WeightsError, match=rf"must be called model.safetensors; .*Give that file: {weights_file}"):
        tl.open_backbone(f"timm/test_resnet@{tmp_path}")
    (tmp_path / "other").mkdir()
    torch.save(state_dict(), tmp_path / "other" / "best.ckpt")
    with pytest.raises(WeightsError, match=rf"Give that file: {tmp_path / 'other' / 'best.ckpt'}"):
        tl.open_backbone(f"timm/test_resnet@{tmp_path / 'other'}")
    (tmp_path / "other" / "best.ckpt").rename(tmp_path / "other" / "pytorch_model.bin")
    assert tl.open_backbone(f"timm/test_resnet@{tmp_path / 'other'}").weights_sha256


def test_a_described_file_without_the_name_of_its_classifier_opens(tmp_path: Path) -> None:
    config = {key: value for key, value in CONFIG.items() if key not in ("classifier", "first_conv")}
    backbone = tl.open_backbone(
        saved(tmp_path / "a.safetensors", state_dict(), METADATA | {"pretrained_cfg": json.dumps(config)})
    )
    assert backbone.module()
    assert backbone.notes == ()


def test_weights_that_are_cut_in_their_header_are_incomplete(tmp_path: Path, weights_file: Path) -> None:
    shutil.copy(weights_file, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(weights_file.read_bytes()[:500])
    with pytest.raises(WeightsError, match=r"must be complete; .* holds 500 bytes"):
        tl.open_backbone(f"timm/test_resnet@{tmp_path / 'cut.safetensors'}")


def test_what_masked_pretraining_adds_is_left_out(tmp_path: Path) -> None:
    tensors = state_dict("test_vit")
    more = {"mask_token": torch.ones(1, 1, 8), "decoder_pos_embed": torch.ones(1, 5, 8),
            "decoder_blocks.0.norm1.weight": torch.ones(8)}  # fmt: skip
    path = tmp_path / "mae.safetensors"
    save_file(tensors | more, path)
    backbone = tl.open_backbone(f"timm/test_vit@{path}")
    assert backbone.notes[0].startswith("mae.safetensors: 3 tensors that are not the model's were left out (")
    assert backbone.module().state_dict().keys() < tensors.keys()
