"""Encoders of transformers: opened, taken apart, interpolated, refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.hf_models import PX, SMALL, features_of, library_model, processor_of, save

import thawline as tl
from thawline.backbones import list_models
from thawline.backbones.providers.hf_known import KNOWN
from thawline.backbones.providers.hf_text_known import TEXT_KNOWN
from thawline.errors import HubError, ModelError, UnknownModelError, UsageError, WeightsError

Make = Callable[..., tuple[Path, Any]]
QUICK = ("vit", "dinov2", "swin", "convnext", "clip")
"""One of each kind; the others are of the second tier."""
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SMALL]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """(model_type, **settings) -> a folder that holds such a model, and the model itself."""

    def made(model_type: str, *, folder: str = "model", **settings: Any) -> tuple[Path, Any]:
        model = library_model(model_type, **settings)
        return save(model, tmp_path / folder, processor_of(model_type)), model

    return made


def pictures(px: int = PX) -> torch.Tensor:
    return torch.randn(3, 3, px, px, generator=torch.Generator().manual_seed(0))


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return found.shape == expected.shape and float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("model_type", FAMILIES)
def test_features_are_what_the_library_gives(make: Make, model_type: str) -> None:
    folder, model = make(model_type)
    backbone = tl.open_backbone(f"hf/{model_type}@{folder}")
    found = backbone.module()(pictures())
    assert close(found, features_of(model, pictures()))
    assert found.shape[1] == backbone.ladder.rungs[-1].shape[-1]
    receipt = backbone.load_receipt().counts()
    assert receipt["random"] == receipt["adapted"] == 0
    assert receipt["loaded"] == len(backbone.module().state_dict())
    assert receipt["loaded"] + receipt["unused"] == len(load_file(folder / "model.safetensors"))
    assert backbone.n_parameters() == sum(held.numel() for held in backbone.module().parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("beit", {"use_relative_position_bias": False, "use_shared_relative_position_bias": True}),
        ("beit", {"use_mean_pooling": False, "use_absolute_position_embeddings": True}),
        ("swin", {"depths": [2, 2, 1], "num_heads": [2, 2, 2], "use_absolute_embeddings": True}),  # one window at last
        ("swinv2", {"window_size": 12}),
        ("dinov2", {"use_swiglu_ffn": True}),
        ("dinov3_vit", {"use_gated_mlp": True, "key_bias": True}),
        ("resnet", {"layer_type": "bottleneck", "downsample_in_first_stage": True}),
        ("siglip", {"vision_config": SMALL["siglip"][1]["vision_config"] | {"hidden_act": "gelu"}}),
    ],
)
def test_features_of_other_settings_too(make: Make, model_type: str, settings: dict[str, Any]) -> None:
    folder, model = make(model_type, **settings)
    backbone = tl.open_backbone(f"hf/{model_type}@{folder}")
    assert close(backbone.module()(pictures()), features_of(model, pictures()))
    assert backbone.load_receipt().counts()["random"] == 0


@pytest.mark.parametrize(
    ("model_type", "how"),
    [
        ("vit", "position embedding interpolated 4x4 -> 6x6"),
        pytest.param("deit", "position embedding interpolated 4x4 -> 6x6", marks=pytest.mark.slow),
        ("dinov2", "position embedding interpolated 4x4 -> 6x6"),
        pytest.param("dinov2_with_registers", "position embedding interpolated 4x4 -> 6x6", marks=pytest.mark.slow),
        ("beit", "relative positions interpolated 7x7 -> 11x11"),
        pytest.param("clip", "position embedding interpolated 4x4 -> 6x6", marks=pytest.mark.slow),
        pytest.param("siglip", "position embedding interpolated 4x4 -> 6x6", marks=pytest.mark.slow),
    ],
)
def test_another_input_size_interpolates_as_the_library_does(make: Make, model_type: str, how: str) -> None:
    folder, model = make(model_type)
    backbone = tl.open_backbone(f"hf/{model_type}@{folder}", input_px=48)
    asked = {} if model_type in ("dinov2", "dinov2_with_registers", "beit") else {"interpolate_pos_encoding": True}
    assert close(backbone.module()(pictures(48)), features_of(model, pictures(48), **asked))
    assert any(how[1:] in note for note in backbone.notes)
    receipt = backbone.load_receipt()
    assert {tensor.how for tensor in receipt.of("adapted")} == {how}
    assert not receipt.of("random")
    assert receipt.file == "model.safetensors"
    in_file = {name for tensor in receipt.tensors for name in tensor.sources}
    assert in_file == set(load_file(folder / "model.safetensors"))
    assert backbone.weights_sha256 != tl.open_backbone(f"hf/{model_type}@{folder}").weights_sha256


def test_what_a_strangers_file_says_of_its_making_is_not_believed(make: Make) -> None:
    folder, _ = make("vit")
    tensors = load_file(folder / "model.safetensors")
    said = {"unused": "no JSON", "sources": "[]", "adapted": '{"layernorm.weight": "made up"}', "source": "made up"}
    save_file(tensors, folder / "model.safetensors", said)
    receipt = tl.open_backbone(f"hf/vit@{folder}", input_px=48).load_receipt()
    assert receipt.file == "model.safetensors"
    assert [tensor.name for tensor in receipt.of("adapted")] == ["embeddings.position_embeddings"]


def test_patches_without_number_take_no_memory(make: Make) -> None:
    folder, _ = make("vit")
    changed(folder, patch_size=1)
    with pytest.raises(WeightsError, match=r"must fit the architecture vit; 2 tensors differ"):
        tl.open_backbone(f"hf/vit@{folder}", input_px=4096).module()


@pytest.mark.parametrize("model_type", ["swin", pytest.param("convnext", marks=pytest.mark.slow)])
def test_another_input_size_needs_no_other_weights_without_positions(make: Make, model_type: str) -> None:
    folder, model = make(model_type)
    backbone = tl.open_backbone(f"hf/{model_type}@{folder}", input_px=64)
    assert close(backbone.module()(pictures(64)), features_of(model, pictures(64)))
    assert not backbone.load_receipt().of("adapted")
    assert not backbone.notes


def test_names_of_older_releases_and_of_wrappers_are_known(make: Make) -> None:
    folder, _ = make("swin")
    before = tl.open_backbone(f"hf/swin@{folder}").weights_sha256
    tensors = load_file(folder / "model.safetensors")
    attention = "swin.encoder.layers.0.blocks.0.attention.self"
    tensors[f"{attention}.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    save_file({f"module.{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    again = tl.open_backbone(f"hf/swin@{folder}")
    assert again.weights_sha256 == before
    assert again.notes[0] == "The model's names in model.safetensors begin with 'module.swin.', which was taken off."
    assert ("the architecture computes it",) == tuple(
        tensor.how for tensor in again.load_receipt().of("unused") if "index" in tensor.sources[0]
    )


def test_the_file_itself_may_be_named_and_the_text_half_is_said_to_be_left_out(make: Make) -> None:
    folder, _ = make("clip")
    backbone = tl.open_backbone(f"hf/clip@{folder / 'model.safetensors'}")
    assert backbone.weights_sha256 == tl.open_backbone(f"hf/@{folder}").weights_sha256
    assert "tensors of model.safetensors that are not the encoder's were left out (logit_scale, " in backbone.notes[0]
    assert backbone.architecture == "clip_vision_model"


@pytest.mark.slow
def test_parts_with_an_index_and_pickled_weights_open(make: Make, tmp_path: Path) -> None:
    folder, model = make("vit")
    whole = tl.open_backbone(f"hf/vit@{folder}").weights_sha256
    model.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert (tmp_path / "parts" / "model.safetensors.index.json").is_file()
    parts = tl.open_backbone(f"hf/vit@{tmp_path / 'parts'}", input_px=PX)
    assert parts.weights_sha256 == whole
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    pickled = tl.open_backbone(f"hf/vit@{folder}", input_px=48)
    assert pickled.load_receipt().file == "pytorch_model.bin"
    assert not pickled.load_receipt().of("random")


def test_a_folder_of_timm_is_opened_by_timm(hub_folder: Path) -> None:
    backbone = tl.open_backbone(f"hf/somebody/net@{hub_folder}")
    assert backbone.provider == "timm"
    assert backbone.weights_sha256 == tl.open_backbone(f"timm/test_resnet@{hub_folder}").weights_sha256
    assert len(backbone.ladder.rungs) > 3


def test_dropout_and_settings_can_be_overridden(make: Make) -> None:
    folder, _ = make("dinov2")
    plain = tl.open_backbone(f"hf/dinov2@{folder}")
    dropping = tl.open_backbone(f"hf/dinov2@{folder}", model_args={"drop_path_rate": 0.9})
    assert plain.weights_sha256 != dropping.weights_sha256
    module = dropping.module()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        assert torch.equal(module(pictures()), plain.module()(pictures()))
        assert not torch.equal(module.train()(pictures()), module(pictures()))


def test_random_weights_are_always_the_same(make: Make) -> None:
    folder, _ = make("vit")
    one, two = (tl.open_backbone(f"hf/vit@{folder}", model_args={"weights": "none"}) for _ in range(2))
    assert one.weights_sha256 == two.weights_sha256 != tl.open_backbone(f"hf/vit@{folder}").weights_sha256
    with pytest.raises(UsageError, match="weights must be none, for random ones, or left out; got 'imagenet'"):
        tl.open_backbone(f"hf/vit@{folder}", model_args={"weights": "imagenet"})


def test_opening_and_accounting_load_no_framework(make: Make) -> None:
    folder, _ = make("vit")
    tl.open_backbone(f"hf/vit@{folder}").load_receipt()
    code = (
        "import sys, thawline as tl\n"
        f"backbone = tl.open_backbone('hf/vit@{folder}')\n"
        "backbone.n_parameters(); backbone.weights_sha256; backbone.load_receipt()\n"
        "assert not {'torch', 'timm', 'torchvision', 'transformers'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_model_of_timm_needs_no_transformers(weights_file: Path) -> None:
    code = (
        "import sys, torch, thawline as tl\n"
        f"backbone = tl.open_backbone('timm/test_resnet@{weights_file}')\n"
        "backbone.module()(torch.zeros(1, 3, 64, 64)); backbone.ladder\n"
        "assert not {'transformers', 'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def changed(folder: Path, **different: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | different))


@pytest.mark.parametrize(
    ("different", "error", "text"),
    [
        ({"model_type": "gpt2"}, UnknownModelError, r"model_type .* must be one of vit, .*; got 'gpt2' .*config\.json"),
        ({"model_type": None}, UnknownModelError, r"model_type in config\.json must be one of .*; got None"),
        ({"num_channels": 1}, ModelError, r"num_channels must be 3; got 1"),
        ({"num_hidden_layers": 10**9}, ModelError, r"at most 400 blocks; got \[1000000000, 0\]"),
        ({"patch_size": [8, 4]}, ModelError, r"patch_size must be a whole number of pixels; got \[8, 4\]"),
        (
            {"hidden_size": 10**7},
            WeightsError,
            r"must fit the architecture vit; .* Give the config\.json that was saved",
        ),
        ({"hidden_act": "no such"}, ModelError, r"settings must be ones that transformers' vit takes; .*no such"),
        ({"hidden_size": "wide"}, ModelError, r"settings must be ones that transformers' vit takes; .*wide"),
        ({"model_type": "convnext"}, WeightsError, r"hold a convnext, as config\.json .* no tensor of .* is called"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    make: Make, different: dict[str, Any], error: type[Exception], text: str
) -> None:
    folder, _ = make("vit")
    changed(folder, **different)
    with pytest.raises(error, match=text):
        tl.open_backbone(f"hf/vit@{folder}").module()


def test_what_is_asked_and_cannot_be_is_refused(make: Make, tmp_path: Path) -> None:
    folder, _ = make("vit")
    with pytest.raises(ModelError, match=r"settings of vit; got 'hiden_act' .* Did you mean 'hidden_act'"):
        tl.open_backbone(f"hf/vit@{folder}", model_args={"hiden_act": "relu"})
    with pytest.raises(ModelError, match=r"input must be a multiple of 8 px; got 50 px\. Take --input-px 48"):
        tl.open_backbone(f"hf/vit@{folder}", input_px=50).blueprint()
    with pytest.raises(WeightsError, match=r"config\.json must lie beside the weights; .* has none"):
        tl.open_backbone(f"hf/vit@{tmp_path}")
    with pytest.raises(UnknownModelError, match=r"model of the hub must be hf/OWNER/NAME; got 'hf/vit'"):
        tl.open_backbone("hf/vit")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {f"teacher.{name}": tensor.clone() for name, tensor in tensors.items()},
              folder / "model.safetensors")  # fmt: skip
    with pytest.raises(WeightsError, match=r"must be there once; names begin with 'teacher\.vit\.' and with 'vit\.'"):
        tl.open_backbone(f"hf/vit@{folder}")
    (folder / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match=r"config\.json must be a JSON object; .* holds a list"):
        tl.open_backbone(f"hf/vit@{folder}")


def test_a_library_that_is_not_there_or_too_old_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = make("vit")
    changed(folder, hidden_size=48)
    with monkeypatch.context() as patch:
        patch.setattr("thawline.backbones.providers.transformers_import.release", lambda _package: "5.9.1")
        with pytest.raises(WeightsError, match=r"may name its layers otherwise: pip install -U 'transformers>=5\.23'"):
            tl.open_backbone(f"hf/vit@{folder}").module()
    monkeypatch.setitem(sys.modules, "transformers.models.vit", None)
    with pytest.raises(ModelError, match=r"need transformers 5\.23 or newer; .* pip install 'thawline\[hf\]'"):
        tl.open_backbone(f"hf/vit@{folder}").module()


def test_windows_that_do_not_fit_are_refused(make: Make) -> None:
    folder, _ = make("swin")
    with pytest.raises(ModelError, match=r"at least 4 x 4 patches in each stage; got 2 x 2"):
        tl.open_backbone(f"hf/swin@{folder}", input_px=8).blueprint()


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """(repository, files of a folder) -> the snapshot in a cache of the hub's own layout, as a download fills it."""
    cache = tmp_path / "hub-cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def filled(repository: str, folder: Path, *names: str) -> Path:
        place = cache / f"models--{repository.replace('/', '--')}"
        snapshot = place / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("0" * 40)
        for name in names:
            (snapshot / name).write_bytes((folder / name).read_bytes())
        return snapshot

    return filled


def test_what_the_hub_gave_before_needs_no_hub(make: Make, hub_cache: Callable[..., Path]) -> None:
    folder, model = make("vit")
    hub_cache("owner/net", folder, "config.json", "model.safetensors", "preprocessor_config.json")
    backbone = tl.open_backbone("hf/owner/net")
    assert backbone.weights_sha256 == tl.open_backbone(f"hf/vit@{folder}").weights_sha256
    assert backbone.notes == ()
    model.save_pretrained(folder / "parts", max_shard_size="20KB")
    names = sorted(file.name for file in (folder / "parts").iterdir())
    snapshot = hub_cache("owner/parts", folder / "parts", *names)
    assert tl.open_backbone("hf/owner/parts", input_px=PX).weights_sha256 == backbone.weights_sha256
    next(snapshot.glob("*-00002-of-*")).unlink()
    with pytest.raises(HubError, match=r"hf/owner/parts must be fetched from the model hub \(owner/parts\)"):
        tl.open_backbone("hf/owner/parts")


def test_an_index_that_leads_out_of_its_folder_is_not_followed(make: Make, hub_cache: Callable[..., Path]) -> None:
    folder, _ = make("vit")
    index = {"weight_map": {"a": "../../../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hub_cache("owner/net", folder, "config.json", "model.safetensors.index.json")
    with pytest.raises(HubError, match="must be fetched from the model hub"):
        tl.open_backbone("hf/owner/net")


@pytest.mark.parametrize("parts", [False, True])
def test_nothing_but_safetensors_and_json_is_fetched(
    make: Make, hub_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, parts: bool
) -> None:
    """A hub that answers as the real one does; its repository holds pickled weights, too."""
    from huggingface_hub.errors import EntryNotFoundError

    folder, model = make("vit")
    if parts:
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="20KB")
    torch.save({}, folder / "pytorch_model.bin")
    fetched: list[str] = []

    def download(repository: str, file: str, *, revision: str | None) -> str:
        assert (repository, revision) == ("owner/net", "1" * 40)
        if not (folder / file).is_file():
            raise EntryNotFoundError(f"404: {file}")
        fetched.append(file)
        return str(folder / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(
        "huggingface_hub.get_hf_file_metadata", lambda _url, timeout: SimpleNamespace(commit_hash="1" * 40)
    )
    backbone = tl.open_backbone("hf/owner/net")
    assert backbone.notes == ()
    held = {file.name for file in folder.iterdir()}
    assert set(fetched) == held - {"pytorch_model.bin"}
    for file in held - {"config.json", "pytorch_model.bin"}:
        (folder / file).unlink()
    with pytest.raises(HubError, match=r"hf/owner/net must be fetched .*: it holds no model\.safetensors; other kinds"):
        tl.open_backbone("hf/owner/net")


def test_usual_models_are_described_without_their_weights(hub_cache: Callable[..., Path], make: Make) -> None:
    backbone = tl.open_backbone("hf/facebook/dinov2-small", architecture_only=True)
    assert backbone.ladder.layers == 14
    assert backbone.preparation.resize_px == 256
    with pytest.raises(ModelError, match="was opened for its architecture only"):
        backbone.module()
    with pytest.raises(
        HubError, match=r"the architecture of hf/owner/net must be known to describe it; .*thawline models hf"
    ):
        tl.open_backbone("hf/owner/net", architecture_only=True)
    folder, _ = make("vit")
    hub_cache("owner/net", folder, "config.json")
    assert tl.open_backbone("hf/owner/net", architecture_only=True).ladder.layers == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("google/vit-base-patch16-224", "vit_base_patch16_224"),
        ("facebook/deit-tiny-patch16-224", "deit_tiny_patch16_224"),
        ("microsoft/swin-tiny-patch4-window7-224", "swin_tiny_patch4_window7_224"),
        ("facebook/convnext-tiny-224", "convnext_tiny"),
        ("microsoft/resnet-18", "resnet18"),
        ("microsoft/resnet-50", "resnet50"),
        ("microsoft/beit-base-patch16-224", "beit_base_patch16_224"),
        ("google/siglip-base-patch16-224", "vit_base_patch16_siglip_224"),
        ("openai/clip-vit-base-patch32", "vit_base_patch32_clip_quickgelu_224"),
    ],
)
def test_usual_models_have_as_many_parameters_as_timm_has(name: str, same: str) -> None:
    from thawline.backbones.providers import hf, timm

    assert hf.count(name) == timm.count(same)


def test_the_catalogue_lists_the_usual_models() -> None:
    entries = {entry.name: entry for entry in list_models("hf/*")}
    assert set(entries) == {f"hf/{name}" for name in (*KNOWN, *TEXT_KNOWN)}
    assert entries["hf/google/vit-base-patch16-384"].input_px == 384
    assert entries["hf/facebook/dinov2-small"].licence == "apache-2.0"
