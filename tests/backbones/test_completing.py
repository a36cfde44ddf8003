"""Weights that do not fit as they lie in their file: adapted to another input, or filled in by name."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.backbones.conftest import CONFIG, check_sum, state_dict

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.adapting import how
from thawline.backbones.matching import COUNTER
from thawline.backbones.providers.timm_import import import_timm
from thawline.errors import ModelError, UsageError, WeightsError

Tensors = dict[str, torch.Tensor]
GREY = CONFIG | {"input_size": [1, 64, 64], "mean": [0.5], "std": [0.2]}


def saved(path: Path, tensors: Tensors, **metadata: object) -> Path:
    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, said)
    return path


def files_of(cache: Path) -> list[Path]:
    return sorted(cache.glob("weights/*/weights.safetensors"))


# Another number of channels


def test_weights_of_one_channel_that_describe_themselves_are_spread(tmp_path: Path, clean_cache: Path) -> None:
    tensors = state_dict(in_chans=1)
    described = {"architecture": "test_resnet", "model_args": {"in_chans": 1}, "pretrained_cfg": GREY}
    path = saved(tmp_path / "grey.safetensors", tensors, **described)
    backbone = tl.open_backbone(f"timm/test_resnet@{path}")
    receipt = backbone.load_receipt()
    check_sum(receipt, backbone, path)
    (adapted,) = receipt.of("adapted")
    assert (adapted.name, adapted.how) == ("conv1.0.weight", "spread over channels 1 -> 3")
    assert (backbone.preparation.tensor_shape, backbone.preparation.mean) == ((3, 64, 64), (0.5, 0.5, 0.5))
    assert receipt.file == "grey.safetensors"
    weight = backbone.module().get_parameter("conv1.0.weight")
    from timm.models import adapt_input_conv

    assert torch.allclose(adapt_input_conv(1, weight), tensors["conv1.0.weight"])  # timm's own way back
    assert len(files_of(clean_cache)) == 1
    again = tl.open_backbone(f"timm/test_resnet@{path}")
    assert again.weights_sha256 == backbone.weights_sha256 and len(files_of(clean_cache)) == 1


@pytest.mark.parametrize("n", [1, 4])
def test_a_model_takes_pictures_of_three_channels(weights_file: Path, n: int) -> None:
    with pytest.raises(ModelError, match=f"in_chans must be 3: .* Got {n}: leave it out"):
        tl.open_backbone(f"timm/test_resnet@{weights_file}", model_args={"in_chans": n})


def test_weights_of_six_channels_are_refused(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "six.safetensors",
        state_dict(in_chans=6),
        architecture="test_resnet",
        model_args={"in_chans": 6},
        pretrained_cfg=CONFIG,
    )
    with pytest.raises(ModelError, match=r"made for pictures of one or three channels; those of .* take 6"):
        tl.open_backbone(f"timm/test_resnet@{path}")


# Another input size


def reference(architecture: str, tensors: Tensors, px: int) -> torch.nn.Module:
    """Load as timm itself does, with the filter of the architecture's own module."""
    timm = import_timm()
    model = timm.create_model(architecture, num_classes=7, img_size=px)
    filter_of = sys.modules[timm.model_entrypoint(architecture).__module__].checkpoint_filter_fn
    with warnings.catch_warnings(action="ignore"):
        filtered = filter_of(dict(tensors), model)
    model.load_state_dict(filtered)
    model.reset_classifier(0)
    return model.eval()


@pytest.mark.parametrize(
    ("architecture", "px", "change"),
    [
        ("test_vit", 224, "position embedding interpolated 10x10 -> 14x14"),
        ("test_vit", 96, "position embedding interpolated 10x10 -> 6x6"),
        ("test_coatnet", 224, "relative positions interpolated 19x19 -> 27x27"),
        *(
            pytest.param(name, px, change, marks=pytest.mark.slow)
            for name, px, change in (
                ("deit_tiny_distilled_patch16_224", 256, "position embedding interpolated 14x14 -> 16x16"),
                ("vit_small_patch14_dinov2", 224, "position embedding interpolated 37x37 -> 16x16"),
                ("vit_small_patch14_reg4_dinov2", 252, "position embedding interpolated 37x37 -> 18x18"),
                ("beit_base_patch16_224", 256, "relative positions interpolated 27x27 -> 31x31"),
                ("maxvit_tiny_tf_224", 256, "relative positions interpolated 13x13 -> 15x15"),
            )
        ),
    ],
)
def test_positions_are_interpolated_as_timm_does(tmp_path: Path, architecture: str, px: int, change: str) -> None:
    tensors = state_dict(architecture)
    path = saved(tmp_path / "w.safetensors", {f"module.{name}": tensor for name, tensor in tensors.items()})
    backbone = tl.open_backbone(f"timm/{architecture}@{path}", input_px=px)
    expected, module = reference(architecture, tensors, px), backbone.module()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor), name
    pictures = torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(module(pictures), expected(pictures))
    receipt = backbone.load_receipt()
    check_sum(receipt, backbone, path)
    assert change in {tensor.how for tensor in receipt.of("adapted")}
    assert f"was adapted to {architecture}" in backbone.notes[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "px"), [("swin_tiny_patch4_window7_224", 288), ("xcit_nano_12_p8_224", 256)])
def test_a_model_without_such_positions_needs_no_adapting(tmp_path: Path, architecture: str, px: int) -> None:
    tensors = state_dict(architecture)
    path = saved(tmp_path / "w.safetensors", tensors)
    backbone = tl.open_backbone(f"timm/{architecture}@{path}", input_px=px)
    pictures = torch.randn(1, 3, px, px, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(backbone.module()(pictures), reference(architecture, tensors, px)(pictures))
    assert backbone.load_receipt().counts()["adapted"] == 0


def test_half_precision_is_said_beside_the_change(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", {name: tensor.half() for name, tensor in state_dict("test_vit").items()})
    receipt = tl.open_backbone(f"timm/test_vit@{path}", input_px=224).load_receipt()
    told = {tensor.how for tensor in receipt.of("adapted")}
    cast = "cast float16 -> float32"
    assert told == {cast, f"{cast}, position embedding interpolated 10x10 -> 14x14"}


@pytest.mark.parametrize(
    ("name", "given", "wanted", "change"),
    [
        ("conv1.weight", (8, 1, 3, 3), (8, 3, 3, 3), "spread over channels 1 -> 3"),
        ("conv1.weight", (8, 4, 3, 3), (8, 3, 3, 3), ""),
        ("conv1.weight", (9, 1, 3, 3), (8, 3, 3, 3), ""),
        ("pos_embed", (1, 197, 4), (1, 257, 4), "position embedding interpolated 14x14 -> 16x16"),
        ("pos_embed", (197, 4), (257, 4), "position embedding interpolated 14x14 -> 16x16"),
        ("embeddings.position_embeddings", (1, 198, 4), (1, 258, 4), "position embedding interpolated 14x14 -> 16x16"),
        ("encoder.pos_embedding", (1, 50, 4), (1, 197, 4), "position embedding interpolated 7x7 -> 14x14"),
        ("pos_embed", (1, 14, 14, 4), (1, 16, 16, 4), "position embedding interpolated 14x14 -> 16x16"),
        ("pos_embed", (1, 4, 27, 27), (1, 4, 31, 31), "position embedding interpolated 27x27 -> 31x31"),
        ("pos_embed", (1, 197, 4), (1, 257, 5), ""),
        ("pos_embed", (1, 197, 4), (1, 260, 4), ""),
        ("a.relative_position_bias_table", (169, 3), (225, 3), "relative positions interpolated 13x13 -> 15x15"),
        ("a.relative_position_bias_table", (732, 3), (964, 3), "relative positions interpolated 27x27 -> 31x31"),
        ("a.relative_position_bias_table", (169, 3), (225, 4), ""),
        ("mlp_tokens.fc1.weight", (384, 196), (384, 256), ""),
    ],
)
def test_what_can_be_adapted_is_told_by_name_and_shapes(
    name: str, given: tuple[int, ...], wanted: tuple[int, ...], change: str
) -> None:
    assert how(name, given, wanted, takes_picture=name == "conv1.weight") == change
    assert how("blocks.0.conv.weight", (8, 1, 3, 3), (8, 3, 3, 3), takes_picture=False) == ""


# By name


def by_name(path: Path, architecture: str = "test_resnet", **more: object) -> Backbone:
    return tl.open_backbone(f"timm/{architecture}@{path}", weights_by_name=True, **more)  # type: ignore[arg-type]


DEEPER = {"layers": [1, 1, 1, 2]}


def test_what_matches_is_loaded_and_the_rest_begins_random(tmp_path: Path) -> None:
    tensors = state_dict()
    path = saved(tmp_path / "w.safetensors", {f"net.{name}": tensor for name, tensor in tensors.items()})
    backbone = by_name(path, model_args=DEEPER)
    receipt, state = backbone.load_receipt(), backbone.module().state_dict()
    check_sum(receipt, backbone, path)
    random = [tensor.name for tensor in receipt.of("random")]
    assert random and all(name.startswith("layer4.1.") for name in random)
    assert {tensor.how for tensor in receipt.of("random")} == {"not in the file"}
    for tensor in receipt.of("loaded"):
        assert tensor.sources == (f"net.{tensor.name}",)
        assert torch.equal(state[tensor.name], tensors[tensor.name])
    assert backbone.notes[-1].startswith(f"w.safetensors fills {receipt.counts()['loaded']} of ")
    assert f"{len(random)} begin random, first {random_first(backbone, random)}" in backbone.notes[-1]
    assert backbone.settings["weights_by_name"] is True
    assert tl.open_backbone(backbone.name, **backbone.settings).weights_sha256 == backbone.weights_sha256


def random_first(backbone: Backbone, random: list[str]) -> str:
    return next(name for name in backbone.module().state_dict() if name in random)


def test_both_shapes_of_what_does_not_match_are_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", state_dict() | {"layer4.0.conv1.weight": torch.ones(2, 3, 1, 1)})
    backbone = by_name(path)
    receipt = backbone.load_receipt()
    check_sum(receipt, backbone, path)
    (random,) = receipt.of("random")
    assert (random.name, random.how) == ("layer4.0.conv1.weight", "another shape: [2, 3, 1, 1] in the file")
    unused = {tensor.sources[0]: (tensor.shape, tensor.how) for tensor in receipt.of("unused")}
    assert unused["layer4.0.conv1.weight"] == (
        (2, 3, 1, 1),
        f"another shape: {list(random.shape or ())} in the model",
    )
    assert unused.keys() == {"layer4.0.conv1.weight", "fc.weight", "fc.bias"}
    assert "1 random (layer4.0.conv1.weight: another shape: [2, 3, 1, 1] in the file)" in receipt.summary


def test_random_weights_are_the_same_in_every_process_and_the_digest_covers_them(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", state_dict())
    first = by_name(path, model_args=DEEPER)
    code = (
        "import sys, thawline as tl; import torch; torch.manual_seed(99); torch.rand(3)\n"
        f"b = tl.open_backbone('timm/test_resnet@{path}', weights_by_name=True, model_args={DEEPER}); "
        "print(b.weights_sha256)"
    )
    environment = {"THAWLINE_CACHE": str(tmp_path / "other"), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == first.weights_sha256, done.stderr
    changed = saved(tmp_path / "changed.safetensors", state_dict() | {"bn1.bias": torch.full((32,), 0.25)})
    assert by_name(changed, model_args=DEEPER).weights_sha256 != first.weights_sha256


def test_a_file_that_says_it_is_another_architecture_can_be_taken_by_name(tmp_path: Path) -> None:
    described = {"architecture": "resnet26", "model_args": {"stem_width": 7}, "pretrained_cfg": CONFIG}
    path = saved(tmp_path / "w.safetensors", state_dict(), **described)
    with pytest.raises(ModelError, match="says it holds 'resnet26'"):
        tl.open_backbone(f"timm/test_resnet@{path}")
    with pytest.raises(WeightsError, match=r"by name must fill at least one layer; none in w\.safetensors"):
        by_name(path, "test_vit")
    backbone = by_name(path)
    check_sum(backbone.load_receipt(), backbone, path)
    assert backbone.load_receipt().counts()["random"] == 0
    assert backbone.preparation.mean == tuple(CONFIG["mean"])  # what the weights were trained to see


def test_by_name_a_whole_match_changes_nothing(weights_file: Path) -> None:
    plain = tl.open_backbone(f"timm/test_resnet@{weights_file}")
    assert by_name(weights_file).weights_sha256 == plain.weights_sha256
    assert by_name(weights_file).load_receipt() == plain.load_receipt()


def test_by_name_needs_a_file() -> None:
    with pytest.raises(UsageError, match=r"weights by name must come from a file.*Write timm/test_resnet@FILE"):
        tl.open_backbone("timm/test_resnet", weights_by_name=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], phases=[Phase.generate], max_examples=8)
@given(data=st.data())
def test_whatever_was_dropped_renamed_or_reshaped_the_sum_holds(data: st.DataObject, tmp_path: Path) -> None:
    """Compare with a plain loop over the names."""
    own = {name: tensor for name, tensor in state_dict().items() if not name.startswith("fc.")}
    fates = st.sampled_from(["kept", "dropped", "renamed", "reshaped"])
    drawn = data.draw(st.lists(fates, min_size=len(own), max_size=len(own)))
    drawn[0] = "kept"  # one layer matches, or the file is refused
    stored: Tensors = {}
    expected = {"loaded": set(), "random": set(), "initial": set()}
    for (name, tensor), fate in zip(own.items(), drawn, strict=True):
        if fate != "dropped":
            stored[f"{name}_old" if fate == "renamed" else name] = (
                torch.ones(*tensor.shape, 2) if fate == "reshaped" else tensor
            )
        absent = "initial" if name.endswith(COUNTER) else "random"
        expected["loaded" if fate == "kept" else absent].add(name)
    path = saved(tmp_path / "any.safetensors", stored)
    backbone = by_name(path)
    receipt = backbone.load_receipt()
    check_sum(receipt, backbone, path)
    told = {fate: {tensor.name for tensor in receipt.of(fate)} for fate in ("loaded", "random", "initial")}  # type: ignore[arg-type]
    assert told == expected


def test_what_is_made_lies_in_one_file_with_only_the_models_tensors(tmp_path: Path, clean_cache: Path) -> None:
    path = saved(tmp_path / "w.safetensors", state_dict())
    backbone = by_name(path, model_args=DEEPER)
    (file,) = files_of(clean_cache)
    assert load_file(file).keys() == backbone.module().state_dict().keys() - {
        name for name in backbone.module().state_dict() if name.endswith(COUNTER) and name.startswith("layer4.1.")
    }
