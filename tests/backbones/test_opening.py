"""Names, weights files, overrides, and everything that is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import thawline as tl
from thawline.backbones.providers.embedded import EMBEDDED
from thawline.backbones.providers.timm_import import import_timm
from thawline.errors import HubError, ModelError, UnknownModelError, UsageError, WeightsError


def reference(path: Path, **model_args: object) -> torch.nn.Module:
    """The same weights, loaded the plain way."""
    model = import_timm().create_model("test_resnet", num_classes=7, **model_args)
    model.load_state_dict(load_file(path))
    return model.eval()


def test_features_equal_plain_timm(weights_file: Path) -> None:
    backbone = tl.open_backbone(f"timm/test_resnet@{weights_file}")
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = reference(weights_file)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
        assert torch.equal(backbone.module()(images), expected)


def test_preparation_comes_from_the_file(weights_file: Path) -> None:
    preparation = tl.open_backbone(f"timm/test_resnet@{weights_file}").preparation
    assert preparation.input_px == (64, 64)
    assert preparation.resize_px == 71  # floor(64 / 0.9)
    assert preparation.mean == (0.5, 0.4, 0.3)
    assert preparation.std == (0.2, 0.25, 0.3)
    assert preparation.interpolation == "bicubic"


def test_a_folder_with_config_opens_like_a_file(weights_file: Path, hub_folder: Path) -> None:
    from_file = tl.open_backbone(f"timm/test_resnet@{weights_file}")
    from_folder = tl.open_backbone(f"timm/test_resnet.r160_in1k@{hub_folder}")
    assert from_folder.preparation == from_file.preparation
    assert from_folder.weights_sha256 == from_file.weights_sha256  # the same tensors, described elsewhere
    for name, tensor in from_folder.module().state_dict().items():
        assert torch.equal(tensor, from_file.module().state_dict()[name])


def test_weights_without_description_take_timms(tmp_path: Path, weights_file: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(weights_file), bare)
    backbone = tl.open_backbone(f"timm/test_resnet@{bare}")
    config = import_timm().get_pretrained_cfg("test_resnet")
    assert backbone.preparation.input_px == config.input_size[1:]
    assert backbone.preparation.mean == config.mean
    assert backbone.module()(torch.zeros(1, 3, 160, 160)).shape == (1, *backbone.ladder.rungs[-1].shape)


def test_overrides_win_and_are_remembered(weights_file: Path) -> None:
    settings = {"input_px": 96, "mean": 0.5, "std": (0.1, 0.2, 0.3), "interpolation": "bilinear", "crop_pct": 1.0}
    backbone = tl.open_backbone(f"timm/test_resnet@{weights_file}", **settings)
    assert backbone.preparation.input_px == (96, 96)
    assert backbone.preparation.resize_px == 96
    assert backbone.preparation.mean == (0.5, 0.5, 0.5)
    assert backbone.preparation.std == (0.1, 0.2, 0.3)
    assert backbone.preparation.interpolation == "bilinear"
    assert backbone.settings == settings
    again = tl.open_backbone(backbone.name, **backbone.settings)
    assert again.preparation == backbone.preparation


def test_model_arguments_change_the_identity_and_the_model(weights_file: Path) -> None:
    plain = tl.open_backbone(f"timm/test_resnet@{weights_file}")
    silu = tl.open_backbone(f"timm/test_resnet@{weights_file}", model_args={"act_layer": "silu"})
    assert plain.weights_sha256 != silu.weights_sha256
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert not torch.equal(plain.module()(images), silu.module()(images))


def test_one_changed_weight_changes_the_identity(tmp_path: Path, weights_file: Path) -> None:
    tensors = load_file(weights_file)
    tensors["conv1.0.weight"][0, 0, 0, 0] += 1e-3
    other = tmp_path / "other.safetensors"
    save_file(tensors, other)
    one, two = (tl.open_backbone(f"timm/test_resnet@{path}") for path in (weights_file, other))
    assert one.weights_sha256 != two.weights_sha256


def test_opening_a_described_file_loads_no_framework(weights_file: Path) -> None:
    code = (
        "import sys, thawline as tl\n"
        f"backbone = tl.open_backbone('timm/test_resnet@{weights_file}')\n"
        "backbone.n_parameters(); backbone.receipt('head')\n"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    "architecture", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_nfnet", "regnetx_002"]
)
def test_parameters_are_counted_from_the_header(tmp_path: Path, architecture: str) -> None:
    timm = import_timm()
    model = timm.create_model(architecture, num_classes=3)
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    expected = sum(p.numel() for p in timm.create_model(architecture, num_classes=0).parameters())
    assert tl.open_backbone(f"timm/{architecture}@{path}").n_parameters() == expected


def test_half_precision_weights_are_run_in_float32(tmp_path: Path, weights_file: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in load_file(weights_file).items()}
    path = tmp_path / "half.safetensors"
    save_file(half, path)
    backbone = tl.open_backbone(f"timm/test_resnet@{path}")
    weight = backbone.module().state_dict()["conv1.0.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, half["conv1.0.weight"].float())


def test_the_embedded_model_opens_offline_with_its_digest() -> None:
    backbone = tl.open_backbone()
    model = next(iter(EMBEDDED.values()))
    assert backbone.name == f"embedded/{model.name}"
    assert hashlib.sha256(model.path.read_bytes()).hexdigest() == model.sha256
    assert backbone.n_parameters() == model.parameters == sum(p.numel() for p in backbone.module().parameters())
    assert backbone.preparation.input_px == (model.input_px, model.input_px)
    assert model.path.stat().st_size <= 12e6
    assert model.card.is_file()


def test_a_tampered_embedded_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = next(iter(EMBEDDED.values()))
    data = bytearray(model.path.read_bytes())
    data[-1] ^= 1
    (tmp_path / model.file).write_bytes(data)
    monkeypatch.setattr("thawline.backbones.providers.embedded.WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(WeightsError, match=f"must have SHA-256 {model.sha256}; got"):
        tl.open_backbone()


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("resnet18", UnknownModelError, r"model must be embedded/NAME, timm/NAME or .*; got 'resnet18'"),
        ("nowhere/google/vit", UnknownModelError, r"got 'nowhere/google/vit'"),
        ("timm/", UnknownModelError, r"got 'timm/'"),
        (
            "embedded/resnet",
            UnknownModelError,
            r"embedded model must be one of resnet18_half, words; got 'resnet'. Did you mean",
        ),
        ("embedded/resnet18_half@x.safetensors", UsageError, r"bring their own weights"),
        ("embedded/words@folder", UsageError, r"bring their own weights.* Write hf/NAME@folder"),
        ("timm/mobilenetv2_10", UnknownModelError, r"got 'timm/mobilenetv2_10'. Did you mean .*'mobilenetv2_100'"),
        ("timm/resnet18.nothing", UnknownModelError, r"resnet18 comes as .*a1_in1k.*; got tag 'nothing'"),
        ("timm/resnet18@missing.safetensors", WeightsError, r"missing.safetensors is not there"),
    ],
)
def test_names_that_cannot_be(name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        tl.open_backbone(name)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"input_px": 0}, r"input_size must be \[3, height, width\]; got \[3, 0, 0\]"),
        ({"input_px": 5000}, r"at most 4096 px; got 5000"),
        ({"mean": (0.5, 0.5)}, r"mean must be one number or three"),
        ({"mean": float("nan")}, r"mean must be one number or three"),
        ({"std": 0.0}, r"std must be above 0"),
        ({"interpolation": "fancy"}, r"interpolation must be one of nearest, .*; got 'fancy'"),
        ({"crop_pct": 1.5}, r"crop_pct must be in \(0, 1\]; got 1.5"),
    ],
)
def test_overrides_that_cannot_be(weights_file: Path, setting: dict[str, object], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        tl.open_backbone(f"timm/test_resnet@{weights_file}", **setting)


def test_weights_that_say_they_are_another_architecture(weights_file: Path) -> None:
    with pytest.raises(ModelError, match=r"weights of 'resnet18' were asked for; .* says it holds 'test_resnet'"):
        tl.open_backbone(f"timm/resnet18@{weights_file}")


def test_weights_of_another_architecture_name_the_tensors(tmp_path: Path, weights_file: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(weights_file), bare)
    backbone = tl.open_backbone(f"timm/test_vit@{bare}")
    with pytest.raises(
        WeightsError, match=r"must fit the architecture test_vit; \d+ tensors differ .*missing cls_token;"
    ):
        backbone.module()


def test_weights_of_another_width_name_both_shapes(tmp_path: Path, weights_file: Path) -> None:
    tensors = load_file(weights_file)
    tensors["conv1.0.weight"] = torch.zeros(2, 3, 3, 3)
    path = tmp_path / "narrow.safetensors"
    save_file(tensors, path)
    with pytest.raises(
        WeightsError, match=r"1 tensors differ .*conv1.0.weight is \(2, 3, 3, 3\) instead of \(\d+, 3, 3, 3\)"
    ):
        tl.open_backbone(f"timm/test_resnet@{path}").module()


def test_hostile_arguments_allocate_nothing(weights_file: Path) -> None:
    """Shapes are compared before any memory is taken: this would be some terabytes."""
    backbone = tl.open_backbone(f"timm/test_resnet@{weights_file}", model_args={"channels": [10**6] * 4})
    with pytest.raises(WeightsError, match="tensors differ"):
        backbone.module()


@pytest.mark.parametrize("argument", ["checkpoint_path", "pretrained", "pretrained_cfg", "num_classes"])
def test_arguments_that_load_files_are_refused(weights_file: Path, argument: str) -> None:
    backbone = tl.open_backbone(f"timm/test_resnet@{weights_file}", model_args={argument: "/etc/passwd"})
    with pytest.raises(ModelError, match=f"must describe the architecture; got '{argument}'"):
        backbone.module()


def test_arguments_that_the_architecture_does_not_take(weights_file: Path) -> None:
    backbone = tl.open_backbone(f"timm/test_resnet@{weights_file}", model_args={"colour": "red"})
    with pytest.raises(ModelError, match=r"arguments must be ones that timm's test_resnet takes; .*colour"):
        backbone.module()


def test_a_scheme_is_no_architecture(weights_file: Path) -> None:
    from thawline.backbones.providers.timm import build

    preparation = tl.open_backbone(f"timm/test_resnet@{weights_file}").preparation
    with pytest.raises(ModelError, match="architecture must be one that timm knows; got 'hf-hub:somebody/model'"):
        build("hf-hub:somebody/model", {}, preparation)


def test_a_model_whose_weights_are_tied_to_an_input_size_says_so(tmp_path: Path) -> None:
    timm = import_timm()
    path = tmp_path / "mixer.safetensors"
    save_file({k: v.contiguous() for k, v in timm.create_model("gmlp_ti16_224").state_dict().items()}, path)
    with pytest.raises(
        WeightsError, match=r"belong to an input of 224 px and cannot be interpolated: leave --input-px"
    ):
        tl.open_backbone(f"timm/gmlp_ti16_224@{path}", input_px=128).module()


def test_a_wrong_digest_is_refused(weights_file: Path) -> None:
    right = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    tl.open_backbone(f"timm/test_resnet@{weights_file}", sha256=right.upper())
    with pytest.raises(WeightsError, match=f"must have SHA-256 {'0' * 64}; got {right}"):
        tl.open_backbone(f"timm/test_resnet@{weights_file}", sha256="0" * 64)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04N.", b"\xff" * 64, b"\x08" + b"\0" * 7 + b"[1, 2,3]", b"PK\x03\x04" * 30]
)
def test_what_is_not_safetensors_is_not_opened(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"must be (in the safetensors format|a sound checkpoint of PyTorch)"):
        tl.open_backbone(f"timm/test_resnet@{path}")


def test_a_cut_file_is_refused(weights_file: Path) -> None:
    weights_file.write_bytes(weights_file.read_bytes()[:-5])
    with pytest.raises(WeightsError, match=r"must be complete; .* Fetch the file again"):
        tl.open_backbone(f"timm/test_resnet@{weights_file}")


def test_metadata_that_is_no_json_is_refused(tmp_path: Path, weights_file: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(load_file(weights_file), path, {"architecture": "test_resnet", "model_args": "pad_type=same"})
    with pytest.raises(WeightsError, match=r"metadata 'model_args' must be a JSON object; got 'pad_type=same'"):
        tl.open_backbone(f"timm/test_resnet@{path}")


def test_a_config_that_is_no_json_is_refused(hub_folder: Path) -> None:
    (hub_folder / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match=r"config.json beside the weights must be a JSON object"):
        tl.open_backbone(f"timm/test_resnet@{hub_folder}")


def test_an_unreachable_hub_is_one_sentence_with_the_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        HubError, match=r"must be fetched from the model hub .* Offline: --model embedded/resnet18_half, or"
    ):
        tl.open_backbone("timm/test_resnet.r160_in1k")


def test_what_the_hub_gave_before_needs_no_hub(
    hub_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own cache layout, filled as a download fills it."""
    cache = tmp_path / "hub-cache"
    snapshot = cache / "models--timm--test_resnet.r160_in1k" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes((hub_folder / name).read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    backbone = tl.open_backbone("timm/test_resnet.r160_in1k")
    local = tl.open_backbone(f"timm/test_resnet@{hub_folder}")
    assert backbone.weights_sha256 == local.weights_sha256
    assert backbone.preparation == local.preparation


def test_json_settings_survive(weights_file: Path) -> None:
    backbone = tl.open_backbone(f"timm/test_resnet@{weights_file}", model_args={"act_layer": "silu"}, mean=0.5)
    assert json.loads(json.dumps(backbone.settings)) == {"model_args": {"act_layer": "silu"}, "mean": 0.5}
