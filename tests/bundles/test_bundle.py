"""What is saved is what is loaded, to the bit; what was altered is refused."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.providers.timm import build
from thawline.bundles import Bundle, load_bundle, save_bundle
from thawline.errors import RunError, StorageError, WeightsError
from thawline.heads import Head, LinearHead
from thawline.heads.modules import from_module, new_mlp


def test_the_file_holds_backbone_and_head_bit_for_bit(bundle: Bundle, saved: Path) -> None:
    written = load_file(saved / "model.safetensors")
    source = bundle.backbone.tensors.load()
    assert {f"backbone.{name}" for name in source} | {"head.weight", "head.bias"} == set(written)
    for name, tensor in source.items():
        assert torch.equal(written[f"backbone.{name}"], tensor)
        assert written[f"backbone.{name}"].dtype == tensor.dtype
    for name, array in bundle.head.tensors().items():
        assert np.array_equal(written[f"head.{name}"].numpy(), array)


def test_the_data_begin_at_a_multiple_of_eight(saved: Path) -> None:
    """As the format recommends, so that tensors can be mapped as they lie."""
    with (saved / "model.safetensors").open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    assert length % 8 == 0


def test_the_classifier_of_the_source_is_left_behind(bundle: Bundle, saved: Path) -> None:
    classifier = {"fc.weight", "fc.bias"}
    assert classifier <= set(load_file(bundle.backbone.tensors.path))
    assert not {f"backbone.{name}" for name in classifier} & set(load_file(saved / "model.safetensors"))


def test_a_loaded_bundle_predicts_the_same_bits_in_another_process(
    bundle: Bundle, saved: Path, photos: tl.Dataset, tmp_path: Path
) -> None:
    """Other process, other cache, other order, other batch: nothing but the saved folder is shared."""
    expected = dict(zip(photos.files, bundle.predict(photos).probabilities, strict=True))
    code = (
        "import sys, json, thawline as tl\n"
        f"files = sorted(__import__('pathlib').Path({str(photos.root)!r}).rglob('*.png'))[::-1][:11]\n"
        f"answer = tl.load_bundle({str(saved)!r}).predict(files)\n"
        "print(json.dumps([[str(f), p.tobytes().hex()] for f, p in zip(files, answer.probabilities)]))\n"
    )
    environment = os.environ | {"THAWLINE_CACHE": str(tmp_path / "elsewhere")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert len(rows) == 11
    for file, bits in rows:
        name = str(Path(file).relative_to(photos.root))
        assert bits == expected[name].tobytes().hex(), name


def test_one_picture_gets_the_bits_that_many_get(bundle: Bundle, photos: tl.Dataset) -> None:
    together = bundle.predict(photos).probabilities
    for row in (0, 7, 29):
        path = photos.root / photos.files[row]
        assert bundle.predict(path).probabilities.tobytes() == together[row].tobytes()


def test_loading_builds_nothing(saved: Path) -> None:
    code = f"import sys, thawline as tl; tl.load_bundle({str(saved)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_unreadable_files_are_listed_and_the_rest_is_predicted(
    bundle: Bundle, photos: tl.Dataset, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    answer = bundle.predict([photos.root / photos.files[0], tmp_path / "broken.jpg", tmp_path / "missing.png"])
    assert len(answer) == 1
    assert [Path(skipped.file).name for skipped in answer.failed] == ["broken.jpg", "missing.png"]


def test_predictions_as_json_and_csv(bundle: Bundle, photos: tl.Dataset, tmp_path: Path) -> None:
    answer = bundle.predict(photos)
    first = answer.to_json(n_top=2)["predictions"][0]
    assert first["label"] == photos.classes[answer.probabilities[0].argmax()]
    assert list(first["top"].values()) == sorted(answer.probabilities[0])[:-3:-1]
    with (tmp_path / "p.csv").open("w") as file:
        answer.write_csv(file)
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == list(answer.labels)
    read_back = np.array([[float(row[f"p({name})"]) for name in photos.classes] for row in rows])
    assert np.array_equal(read_back, answer.probabilities)


def edit(folder: Path, **fields: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_newer_format_is_refused(saved: Path) -> None:
    edit(saved, format=3)
    with pytest.raises(RunError, match=r"must have format 1 or 2.*newer version.*pip install -U thawline"):
        load_bundle(saved)


def test_an_altered_model_is_refused(saved: Path) -> None:
    data = bytearray((saved / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (saved / "model.safetensors").write_bytes(data)
    with pytest.raises(RunError, match=r"must have the SHA-256 that bundle.json promises"):
        load_bundle(saved)


def test_a_model_that_a_stranger_changed_and_signed_is_refused(saved: Path) -> None:
    data = (saved / "model.safetensors").read_bytes()
    for changed in (data[:-8], data.replace(b'"F64"', b'"F99"'), data.replace(b'"data_offsets"', b'"data_offsetz"')):
        (saved / "model.safetensors").write_bytes(changed)
        edit(saved, tensors_sha256=hashlib.sha256(changed).hexdigest())
        with pytest.raises(RunError, match=r"must hold tensors that can be read; .*Copy the run folder again"):
            load_bundle(saved)


def test_classes_and_head_must_agree(bundle: Bundle, saved: Path) -> None:
    edit(saved, classes=bundle.classes[:-1])
    with pytest.raises(RunError, match=r"must name the 3 classes that model.safetensors tells apart; it names 2"):
        load_bundle(saved)


@pytest.mark.parametrize("missing", ["bundle.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(saved: Path, missing: str) -> None:
    (saved / missing).unlink()
    with pytest.raises(RunError, match=f"lacks {missing}"):
        load_bundle(saved)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="none does not exist"):
        load_bundle(tmp_path / "none")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"precision": "f8"}, "precision: Input should be 'f32', 'bf16' or 'int8'"),
        ({"classes": "ants"}, "classes"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"provider": "elsewhere"}, "provider: Value error, must be embedded or .*; got 'elsewhere'"),
        ({"input_kind": "smell"}, "input_kind: Value error, must be image or text; got 'smell'"),
    ],
)
def test_a_description_that_cannot_be_is_refused(saved: Path, fields: dict[str, object], text: str) -> None:
    edit(saved, **fields)
    with pytest.raises(RunError, match=f"bundle.json must be readable; {text}"):
        load_bundle(saved)


def test_a_description_that_is_no_json_is_refused(saved: Path) -> None:
    for content in (b"\xff\x00{", b"[1]", b""):
        (saved / "bundle.json").write_bytes(content)
        with pytest.raises(RunError, match=r"bundle.json must be a JSON object"):
            load_bundle(saved)


def test_a_hostile_description_cannot_point_elsewhere(saved: Path, photos: tl.Dataset) -> None:
    shutil.rmtree(saved / "graphs")
    edit(saved, graphs_sha256=None, engine="torch", architecture="hf-hub:somebody/model")
    with pytest.raises(tl.ThawlineError, match="architecture must be one that timm knows"):
        load_bundle(saved).predict(photos)
    edit(saved, architecture="resnet34")
    with pytest.raises(WeightsError, match="must fit the architecture resnet34"):
        load_bundle(saved).predict(photos)


def test_a_bundle_is_known_by_its_content(bundle: Bundle, saved: Path) -> None:
    """What it says of itself decides nothing: features of one model can never be taken for those of another."""
    assert load_bundle(saved).backbone.weights_sha256 == bundle.backbone.weights_sha256
    edit(saved, weights_sha256="0" * 64, graphs_sha256=None)
    assert load_bundle(saved).backbone.weights_sha256 == bundle.backbone.weights_sha256


def test_a_bundle_can_be_moved(bundle: Bundle, saved: Path, photos: tl.Dataset, tmp_path: Path) -> None:
    shutil.move(saved, tmp_path / "moved")
    moved = load_bundle(tmp_path / "moved")
    assert np.array_equal(moved.predict(photos).probabilities, bundle.predict(photos).probabilities)
    assert moved.classes == bundle.classes


def tuned(source: Backbone, path: Path) -> Backbone:
    """The backbone with weights and statistics that differ a little from those of its source."""
    module = build(source.architecture, source.model_args, source.preparation)
    if source.tensors.path.is_file():
        module.load_state_dict(source.tensors.load())
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.02 * torch.rand(tensor.shape, generator=draws))
            else:
                tensor.fill_(3)
    return source.tuned(module, path)


def a_head(kind: str, width: int) -> Head:
    if kind == "mlp":
        return from_module(new_mlp(width, (16,), 3, 0.1, 0), kind="mlp", temperature=1.3)
    return LinearHead("linear", np.random.default_rng(0).standard_normal((3, width)) / width, np.arange(3.0), 0.8)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_tuned_backbone_predicts_the_same_bits_once_saved(
    bundle: Bundle, photos: tl.Dataset, tmp_path: Path, kind: str, precision: str
) -> None:
    backbone = tuned(bundle.backbone, tmp_path / "tuned.safetensors")
    head = a_head(kind, bundle.head.weight.shape[1])
    before = Bundle(backbone=backbone, head=head, classes=photos.classes, layer="pooled", precision=precision)
    expected = before.predict(photos).probabilities
    save_bundle(before, tmp_path)
    (tmp_path / "tuned.safetensors").unlink()
    after = load_bundle(tmp_path)
    assert after.backbone.weights_sha256 == backbone.weights_sha256 != bundle.backbone.weights_sha256
    assert (after.head.kind, after.head.settings()) == (kind, head.settings())
    assert after.predict(photos).probabilities.tobytes() == expected.tobytes()


def test_the_tensors_of_a_tuned_backbone_are_float32_and_its_counters_int64(bundle: Bundle, tmp_path: Path) -> None:
    backbone = tuned(bundle.backbone, tmp_path / "tuned.safetensors")
    head = a_head("mlp", bundle.head.weight.shape[1])
    save_bundle(Bundle(backbone=backbone, head=head, classes=bundle.classes, layer="pooled", precision="f32"), tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    for name, tensor in backbone.tensors.load().items():
        counts = name.endswith("num_batches_tracked")
        assert written[f"backbone.{name}"].dtype == (torch.int64 if counts else torch.float32), name
        assert torch.equal(written[f"backbone.{name}"], tensor)
    assert {name for name in written if name.startswith("head.")} == {
        f"head.{layer}.{part}" for layer in (0, 1) for part in ("weight", "bias")
    }


@pytest.mark.parametrize(("architecture", "width"), [("test_efficientnet", 256), ("resnet10t", 512)])
def test_a_backbone_trained_from_scratch_makes_a_bundle(
    photos: tl.Dataset, tmp_path: Path, architecture: str, width: int
) -> None:
    described = tl.open_backbone(f"timm/{architecture}", architecture_only=True, input_px=64)
    backbone = tuned(described, tmp_path / "scratch.safetensors")
    before = Bundle(
        backbone=backbone, head=a_head("linear", width), classes=photos.classes, layer="pooled", precision="f32"
    )
    expected = before.predict(photos).probabilities
    save_bundle(before, tmp_path)
    after = load_bundle(tmp_path)
    assert after.backbone.preparation == described.preparation
    assert len(set(expected[:, 0].tolist())) > 20, "the network tells the pictures apart"
    assert after.predict(photos).probabilities.tobytes() == expected.tobytes()


def test_a_bundle_can_be_saved_over_itself(bundle: Bundle, saved: Path, photos: tl.Dataset) -> None:
    """The file that is read is the one that is replaced."""
    expected = bundle.predict(photos).probabilities
    before = (saved / "model.safetensors").read_bytes()
    save_bundle(load_bundle(saved), saved)
    assert (saved / "model.safetensors").read_bytes() == before
    assert np.array_equal(load_bundle(saved).predict(photos).probabilities, expected)


def test_a_full_disk_leaves_the_bundle_that_was_there(
    bundle: Bundle, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="cannot be written: the disk is full"):
        save_bundle(bundle, saved)
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == files


def test_a_damaged_layer_of_an_mlp_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    head = a_head("mlp", bundle.head.weight.shape[1])
    save_bundle(
        Bundle(backbone=bundle.backbone, head=head, classes=bundle.classes, layer="pooled", precision="f32"), tmp_path
    )
    edit(tmp_path, head_settings={"temperature": 1.0, "dropout": 2.0})
    with pytest.raises(RunError, match="mlp head is damaged: dropout must be at least 0 and below 1; got 2"):
        load_bundle(tmp_path)
    edit(tmp_path, head="logistic")
    with pytest.raises(RunError, match="logistic head must hold 'weight'"):
        load_bundle(tmp_path)
