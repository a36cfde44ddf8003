"""torchvision's models: what they compute, their preparation, their weights, and what is refused."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import thawline as tl
from thawline.backbones.providers import provider_of
from thawline.backbones.providers import torchvision_architectures as architectures
from thawline.backbones.providers import torchvision_weights as published
from thawline.backbones.providers.timm_import import import_torchvision_models
from thawline.errors import HubError, ModelError, UnknownModelError, UsageError, WeightsError

WIDTHS = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 1024,
    "regnet_y_400mf": 440,
    "resnet50": 2048,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_0": 512,
    "swin_t": 768,
    "vgg11": 4096,
    "vit_b_16": 768,
}
"""An architecture of each of torchvision's modules -> length of the features that its classifier sees."""
SMALL = ("squeezenet1_1", "mnasnet0_5", "shufflenet_v2_x0_5", "mobilenet_v3_small")


def whole(architecture: str, n_classes: int = 7, **model_args: object) -> nn.Module:
    """torchvision's own model with its classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = import_torchvision_models().get_model(architecture, num_classes=n_classes, **model_args)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.rand(buffer.shape) * 0.1)
    return model.eval()


def saved(model: nn.Module, path: Path, prefix: str = "") -> Path:
    save_file({prefix + name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def before(model: nn.Module, layer: str, pictures: torch.Tensor) -> torch.Tensor:
    """What a layer of a model is given."""
    caught: list[torch.Tensor] = []
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _module, given: caught.append(given[0]))
    with torch.inference_mode():
        model(pictures)
    hook.remove()
    return caught[0].flatten(1)


def pictures(px: int) -> torch.Tensor:
    return torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0))


CLASSIFIERS = {"squeezenet1_1": "", "mnasnet0_5": "classifier.0", "shufflenet_v2_x0_5": "fc",
               "mobilenet_v3_small": "classifier.3"}  # fmt: skip


@pytest.mark.parametrize("architecture", [name for name in SMALL if CLASSIFIERS[name]])
def test_features_are_what_torchvisions_classifier_sees(tmp_path: Path, architecture: str) -> None:
    model = whole(architecture)
    backbone = tl.open_backbone(f"torchvision/{architecture}@{saved(model, tmp_path / 'weights.safetensors')}")
    with torch.inference_mode():
        found = backbone.module()(pictures(96))
    assert torch.equal(found, before(model, CLASSIFIERS[architecture], pictures(96)))


def test_the_features_of_a_squeezenet_are_its_last_activations_averaged(tmp_path: Path) -> None:
    """Its classifier is a convolution before the average."""
    model = whole("squeezenet1_1")
    backbone = tl.open_backbone(f"torchvision/squeezenet1_1@{saved(model, tmp_path / 'weights.safetensors')}")
    with torch.inference_mode():
        assert torch.equal(backbone.module()(pictures(96)), model.features(pictures(96)).mean((2, 3)))


@pytest.mark.parametrize("architecture", WIDTHS)
def test_one_architecture_of_each_family(architecture: str) -> None:
    backbone = tl.open_backbone(f"torchvision/{architecture}", architecture_only=True)
    assert backbone.ladder.rungs[-1].shape == (WIDTHS[architecture],)
    assert [rung.name for rung in backbone.ladder.rungs][:: len(backbone.ladder.rungs) - 1] == ["input", "pooled"]


def test_every_architecture_has_a_head_that_is_known() -> None:
    models = import_torchvision_models()
    for name in architectures.names():
        builder = models.get_model_builder(name)
        assert not builder.__module__.startswith("torchvision.models.quantization")
        assert architectures.head_of(name).in_files


def test_parameters_are_counted_from_the_header(tmp_path: Path) -> None:
    model = whole("mobilenet_v3_small")
    backbone = tl.open_backbone(f"torchvision/mobilenet_v3_small@{saved(model, tmp_path / 'weights.safetensors')}")
    classifier = sum(parameter.numel() for parameter in model.classifier[3].parameters())
    assert backbone.n_parameters() == sum(parameter.numel() for parameter in model.parameters()) - classifier
    assert backbone.n_parameters() == backbone.ladder.parameters


@pytest.mark.parametrize("prefix", ["module.", "model.backbone."])
def test_a_prefix_is_taken_off(tmp_path: Path, prefix: str) -> None:
    model = whole("squeezenet1_1")
    plain = tl.open_backbone(f"torchvision/squeezenet1_1@{saved(model, tmp_path / 'plain.safetensors')}")
    path = saved(model, tmp_path / "wrapped.safetensors", prefix)
    wrapped = tl.open_backbone(f"torchvision/squeezenet1_1@{path}")
    assert wrapped.weights_sha256 == plain.weights_sha256
    assert f"begin with {prefix!r}, which was taken off" in wrapped.notes[0]


def test_a_classifier_of_another_form_is_left_out(tmp_path: Path) -> None:
    model = whole("mnasnet0_5")
    plain = tl.open_backbone(f"torchvision/mnasnet0_5@{saved(model, tmp_path / 'plain.safetensors')}")
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 30), nn.ReLU(), nn.Linear(30, 4))
    changed = tl.open_backbone(f"torchvision/mnasnet0_5@{saved(model, tmp_path / 'changed.safetensors')}")
    assert changed.weights_sha256 == plain.weights_sha256


def test_auxiliary_classifiers_are_left_out(tmp_path: Path) -> None:
    model = whole("googlenet", aux_logits=True, init_weights=False)
    path = saved(model, tmp_path / "weights.safetensors")
    assert any(name.startswith("aux1.") for name in load_file(path))
    backbone = tl.open_backbone(f"torchvision/googlenet@{path}", model_args={"transform_input": False})
    with torch.inference_mode():
        assert torch.equal(backbone.module()(pictures(64)), before(model, "dropout", pictures(64)))


def test_googlenet_normalises_again_as_its_weights_need_and_says_so(tmp_path: Path) -> None:
    model = whole("googlenet", aux_logits=True, init_weights=False, transform_input=True)
    path = saved(model, tmp_path / "weights.safetensors")
    backbone = tl.open_backbone(f"torchvision/googlenet@{path}")
    with torch.inference_mode():
        assert torch.equal(backbone.module()(pictures(64)), before(model, "dropout", pictures(64)))
    assert "--model-arg transform_input=false" in backbone.notes[-1]
    without = tl.open_backbone(f"torchvision/googlenet@{path}", model_args={"transform_input": False})
    assert not any("transform_input" in note for note in without.notes)
    assert without.weights_sha256 != backbone.weights_sha256


OLDER = {
    "densenet121": ("denselayer1.norm1.", "denselayer1.norm.1."),
    "vit_b_32": ("encoder_layer_0.mlp.3.", "encoder_layer_0.mlp.linear_2."),
}


@pytest.mark.parametrize("architecture", [pytest.param(name, marks=pytest.mark.slow) for name in OLDER])
def test_names_of_older_files(tmp_path: Path, architecture: str) -> None:
    """The files that torchvision publishes have names that torchvision itself changes when it loads them."""
    today, older = OLDER[architecture]
    model = whole(architecture)
    plain = tl.open_backbone(f"torchvision/{architecture}@{saved(model, tmp_path / 'plain.safetensors')}")
    tensors = {name.replace(today, older): tensor.contiguous() for name, tensor in model.state_dict().items()}
    assert tensors.keys() != model.state_dict().keys()
    save_file(tensors, tmp_path / "older.safetensors")
    older_file = tl.open_backbone(f"torchvision/{architecture}@{tmp_path / 'older.safetensors'}")
    assert older_file.weights_sha256 == plain.weights_sha256


PREPARED = ("resnet50.imagenet1k_v1", "resnet50.IMAGENET1K_V2", "efficientnet_b1.imagenet1k_v2",
            "efficientnet_v2_s", "swin_t", "vit_b_16.imagenet1k_swag_e2e_v1", "inception_v3")  # fmt: skip


@pytest.mark.parametrize("name", PREPARED)
@pytest.mark.parametrize("size", [(500, 375), (319, 480), (120, 260)])
def test_pictures_are_prepared_as_torchvisions_transforms_do(name: str, size: tuple[int, int]) -> None:
    from thawline.inputs import kind_of

    architecture, _, tag = name.partition(".")
    backbone = tl.open_backbone(f"torchvision/{name}", architecture_only=True)
    coarse = np.random.default_rng(0).integers(0, 256, (size[1] // 20, size[0] // 20, 3), np.uint8)
    picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    expected = published.choose(architecture, tag, name).value.transforms()(picture)
    preparation = backbone.preparation
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    prepared = kind_of("image").prepare(buffer.getvalue(), preparation)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preparation.mean, preparation.std))
    ours = (torch.from_numpy(prepared).permute(2, 0, 1) / 255 - mean) / std
    assert ours.shape == expected.shape
    assert float((ours - expected).abs().mean()) < 0.5 / 255 / float(std.min())


def test_the_weights_that_a_name_means() -> None:
    default = tl.open_backbone("torchvision/resnet50", architecture_only=True)
    second = tl.open_backbone("torchvision/resnet50.IMAGENET1K_V2", architecture_only=True)
    first = tl.open_backbone("torchvision/resnet50.imagenet1k_v1", architecture_only=True)
    argument = tl.open_backbone(
        "torchvision/resnet50", architecture_only=True, model_args={"weights": "ResNet50_Weights.IMAGENET1K_V1"}
    )
    assert default.preparation == second.preparation
    assert (default.preparation.resize_px, first.preparation.resize_px) == (232, 256)
    assert argument.preparation == first.preparation
    assert default.preparation_said


def test_overrides_win(tmp_path: Path) -> None:
    path = saved(whole("squeezenet1_1"), tmp_path / "weights.safetensors")
    backbone = tl.open_backbone(
        f"torchvision/squeezenet1_1@{path}", input_px=112, mean=0.5, std=(0.1, 0.2, 0.3), interpolation="bicubic"
    )
    assert backbone.preparation.input_px == (112, 112)
    assert backbone.preparation.resize_px == 128  # the share of 224 in 256 stays
    assert backbone.preparation.mean == (0.5, 0.5, 0.5)
    assert backbone.preparation.interpolation == "bicubic"
    assert tl.open_backbone(backbone.name, **backbone.settings).preparation == backbone.preparation


def test_a_file_that_does_not_say_takes_torchvisions_default_and_says_so(tmp_path: Path) -> None:
    backbone = tl.open_backbone(
        f"torchvision/squeezenet1_1@{saved(whole('squeezenet1_1'), tmp_path / 'my.safetensors')}"
    )
    assert not backbone.preparation_said
    assert "Taken from torchvision's squeezenet1_1.imagenet1k_v1: mean 0.485,0.456,0.406" in backbone.notes[0]
    named = tl.open_backbone(f"torchvision/squeezenet1_1.imagenet1k_v1@{tmp_path / 'my.safetensors'}")
    assert named.preparation_said
    assert named.notes == ()


def test_a_file_with_the_name_of_torchvisions_own_is_prepared_as_that(tmp_path: Path) -> None:
    path = saved(whole("mobilenet_v3_large"), tmp_path / "mobilenet_v3_large-8738ca79.safetensors")
    backbone = tl.open_backbone(f"torchvision/mobilenet_v3_large@{path}")  # V1, and not the default
    assert backbone.preparation.resize_px == 256
    assert backbone.preparation_said


def test_random_weights_are_always_the_same() -> None:
    name, args = "torchvision/squeezenet1_1", {"weights": "none"}
    one, two = (tl.open_backbone(name, model_args=args) for _ in range(2))
    assert one.weights_sha256 == two.weights_sha256
    torch.rand(3)
    again = tl.open_backbone(name, **one.settings)
    assert torch.equal(again.module()(pictures(64)), one.module()(pictures(64)))
    assert "weights" not in one.model_args
    assert one.notes == ()


def test_vision_transformers_take_the_input_that_their_positions_were_made_for(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = import_torchvision_models().vit_b_32(image_size=96, num_classes=3)
    shapes = {name: torch.zeros(tensor.shape, dtype=torch.float16) for name, tensor in model.state_dict().items()}
    save_file(shapes, tmp_path / "positions.safetensors")
    backbone = tl.open_backbone(f"torchvision/vit_b_32@{tmp_path / 'positions.safetensors'}")
    assert backbone.preparation.input_px == (96, 96)
    assert backbone.model_args == {"image_size": 96}
    assert backbone.shapes() == backbone.tensors.shapes()


def test_counting_is_that_of_the_ladder() -> None:
    backbone = tl.open_backbone("torchvision/squeezenet1_1", architecture_only=True)
    assert provider_of("torchvision").count("squeezenet1_1.imagenet1k_v1") == backbone.ladder.parameters


def test_a_fixed_input_is_refused_where_it_does_not_fit() -> None:
    backbone = tl.open_backbone("torchvision/vit_b_32", architecture_only=True, model_args={"image_size": 384})
    with pytest.raises(ModelError, match=r"vit_b_32 takes 384 px input only; got 224 px\."):
        backbone.blueprint()


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (
            "torchvision/resnet5",
            r"classification model of torchvision; got 'torchvision/resnet5'\. Did you mean 'resnet50'",
        ),
        ("torchvision/fasterrcnn_resnet50_fpn", "must be a classification model of torchvision"),
        ("torchvision/resnet50.imagenet1k_v3", r"comes as imagenet1k_v1, imagenet1k_v2; got 'imagenet1k_v3'"),
    ],
)
def test_unknown_names(name: str, match: str) -> None:
    with pytest.raises(UnknownModelError, match=match):
        tl.open_backbone(name)


@pytest.mark.parametrize(
    ("model_args", "match"),
    [
        ({"num_classes": 5}, "Thawline's own head knows the classes"),
        ({"progress": True}, "got 'progress', which says where to load from"),
        ({"depth": 3}, "must be ones that torchvision's squeezenet1_1 takes"),
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, model_args: dict[str, object], match: str) -> None:
    backbone = tl.open_backbone("torchvision/squeezenet1_1", model_args=model_args, architecture_only=True)
    with pytest.raises(ModelError, match=match):
        backbone.blueprint()


def test_random_weights_beside_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights=none asks for random weights"):
        tl.open_backbone("torchvision/resnet18.imagenet1k_v1", model_args={"weights": "none"})
    with pytest.raises(UsageError, match="weights must be named once"):
        tl.open_backbone("torchvision/resnet50.imagenet1k_v1", model_args={"weights": "imagenet1k_v2"})


def test_weights_of_another_architecture_name_the_one_that_fits(tmp_path: Path) -> None:
    path = saved(whole("squeezenet1_1"), tmp_path / "mine.safetensors")
    backbone = tl.open_backbone(f"torchvision/squeezenet1_0@{path}")
    with pytest.raises(WeightsError, match=r"fit torchvision's squeezenet1_1: give --model torchvision/squeezenet1_1@"):
        backbone.module()


def test_timm_sends_torchvisions_names_to_torchvision(tmp_path: Path) -> None:
    path = saved(whole("mobilenet_v3_small"), tmp_path / "mine.safetensors")
    backbone = tl.open_backbone(f"timm/mobilenetv3_small_100@{path}")
    with pytest.raises(WeightsError, match=r"give --model torchvision/mobilenet_v3_small@.*mine\.safetensors"):
        backbone.module()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's own cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    assert published.checkpoints() == folder
    return folder


def test_weights_that_cannot_be_fetched(hub: Path) -> None:
    with pytest.raises(
        HubError, match=r"torchvision/squeezenet1_1 must be fetched .*b8a52dc0\.pth.*Offline: put that file"
    ):
        tl.open_backbone("torchvision/squeezenet1_1")
    assert list(hub.iterdir()) == []


def test_a_file_in_torchs_cache_must_have_the_digest_of_its_name(hub: Path) -> None:
    saved(whole("squeezenet1_1"), hub / "squeezenet1_1-b8a52dc0.pth")
    with pytest.raises(WeightsError, match="must have a SHA-256 that begins with b8a52dc0, as their name says"):
        tl.open_backbone("torchvision/squeezenet1_1")


def test_a_file_in_torchs_cache_is_opened_without_a_network(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(whole("squeezenet1_1", 1000), hub / "draft")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(published, "file_name", lambda weights: f"squeezenet1_1-{digest[:8]}.pth")
    path.rename(hub / f"squeezenet1_1-{digest[:8]}.pth")
    backbone = tl.open_backbone("torchvision/squeezenet1_1")
    model = whole("squeezenet1_1", 1000)
    with torch.inference_mode():
        assert torch.equal(backbone.module()(pictures(64)), model.features(pictures(64)).mean((2, 3)))


def test_weights_that_must_not_be_used_commercially_say_so() -> None:
    swag = tl.open_backbone("torchvision/vit_b_16.imagenet1k_swag_linear_v1", architecture_only=True)
    assert swag.notes == ("The licence of these weights forbids commercial use: cc-by-nc-4.0.",)
    assert tl.open_backbone("torchvision/vit_b_16", architecture_only=True).notes == ()


def test_the_real_weights_give_torchvisions_features(real_weights: Path, real_data: Path) -> None:
    """From files of pictures; torchvision resizes the whole picture before it crops, which is a level or two apart."""
    from thawline.inputs import kind_of

    path = real_weights / "torchvision" / "mobilenet_v2-b0353104.pth"
    backbone = tl.open_backbone(f"torchvision/mobilenet_v2@{path}")
    assert backbone.preparation_said
    model = import_torchvision_models().mobilenet_v2()
    model.load_state_dict(torch.load(path, weights_only=True))
    data = tl.open_data(real_data / "hymenoptera")
    rows = list(range(0, len(data.files), 16))
    files = [data.root / data.files[row] for row in rows]
    found = tl.extract_features(data, backbone, precision="f32").values[rows]

    prepared = np.stack([kind_of("image").prepare(file.read_bytes(), backbone.preparation) for file in files])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.preparation.mean, backbone.preparation.std))
    same_pixels = (torch.from_numpy(prepared).permute(0, 3, 1, 2) / 255 - mean) / std
    expected = before(model.eval(), "classifier", same_pixels).numpy()
    assert np.abs(found - expected).max() < 1e-3

    transform = published.choose("mobilenet_v2", "imagenet1k_v1", "").value.transforms()
    pictures = []
    for file in files:
        with Image.open(file) as picture:
            pictures.append(transform(picture.convert("RGB")))
    theirs = before(model, "classifier", torch.stack(pictures))
    lengths = np.linalg.norm(found, axis=1) * theirs.norm(dim=1).numpy()
    assert float(((found * theirs.numpy()).sum(1) / lengths).min()) > 0.99995
