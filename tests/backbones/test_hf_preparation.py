"""What ``preprocessor_config.json`` says, done by Thawline, beside what the library's own processor does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.hf_models import need_transformers

from thawline.backbones.providers.hf_families import FAMILIES, PROCESSORS
from thawline.backbones.providers.hf_preparation import prepared
from thawline.backbones.providers.provider import ModelAsk
from thawline.errors import ModelError
from thawline.inputs import kind_of
from thawline.inputs.image.decode import payload_from
from thawline.records import ImagePreparation

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def preparation(said: dict[str, Any] | None, model_type: str = "vit", **asked: Any) -> ImagePreparation:
    return prepared(said, FAMILIES[model_type], ModelAsk(**asked), "hf/a/b", "preprocessor_config.json").preparation


def ours(image: Image.Image, how: ImagePreparation) -> torch.Tensor:
    kind = kind_of("image")
    pixels = kind.prepare(payload_from(image), how)
    return kind.to_tensors(how, torch.device("cpu"))(torch.from_numpy(pixels[None]))[0]


@pytest.mark.parametrize("size", [(160, 120), (70, 200)])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ViT", {"size": {"height": 64, "width": 64}, "resample": 2}),
        ("ViT", {"size": 64, "resample": 3, **IMAGENET}),  # as Swin has it
        ("ViT", {"size": 64, "do_normalize": False}),
        ("ViT", {"size": 64, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}),
        ("DeiT", {"size": {"height": 80, "width": 80}, "crop_size": {"height": 64, "width": 64}, **IMAGENET}),
        ("Beit", {"size": {"height": 64, "width": 64}, "do_center_crop": False}),
        ("Bit", {"size": {"shortest_edge": 73}, "crop_size": {"height": 64, "width": 64}, **IMAGENET}),
        ("CLIP", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}),
        ("ConvNext", {"size": {"shortest_edge": 64}, "crop_pct": 0.875, "resample": 3, **IMAGENET}),
        ("ConvNext", {"size": {"shortest_edge": 384}, "resample": 2}),
        ("Siglip", {"size": {"height": 64, "width": 64}}),
    ],
)
def test_pictures_are_prepared_as_the_processor_does(
    photo: Callable[..., Image.Image], kind: str, said: dict[str, Any], size: tuple[int, int]
) -> None:
    transformers = need_transformers()
    image = photo(3, size)
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**said)
    expected = torch.as_tensor(np.asarray(processor(images=image)["pixel_values"][0]))
    how = preparation({"image_processor_type": f"{kind}ImageProcessorFast", **said})
    found = ours(image, how)
    assert found.shape == expected.shape
    steps = (found - expected).abs() * 255 * torch.tensor(how.std)[:, None, None]
    assert float(steps.max()) < 1.6  # one grey value, where a crop is resized by another order of rounding
    assert float(steps.mean()) < 0.01


@pytest.mark.parametrize("kind", PROCESSORS)
def test_defaults_are_those_of_the_library(kind: str) -> None:
    processor = getattr(need_transformers(), f"{kind}ImageProcessor")()
    known = PROCESSORS[kind]
    size = processor.size
    assert known.size == (size.shortest_edge or size.height)
    if kind != "Siglip":  # which has a default for a number that it is never given
        assert known.square == (size.shortest_edge is None)
    assert known.crop == (processor.crop_size.height if processor.do_center_crop else None)
    assert known.interpolation == {2: "bilinear", 3: "bicubic"}[int(processor.resample)]
    assert known.mean == pytest.approx(tuple(processor.image_mean))
    assert known.std == pytest.approx(tuple(processor.image_std))


def test_older_files_name_an_extractor_and_give_one_number() -> None:
    assert preparation({"feature_extractor_type": "CLIPFeatureExtractor", "size": 48, "crop_size": 40}) == preparation(
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 48}, "crop_size": 40}
    )
    squashed = preparation({"feature_extractor_type": "ViTFeatureExtractor", "size": 48})
    assert (squashed.crop_mode, squashed.input_px, squashed.resize_px) == ("squash", (48, 48), 48)


def test_what_is_asked_wins_and_a_crop_keeps_its_share() -> None:
    said = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "crop_size": 224}
    larger = preparation(said, input_px=448)
    assert (larger.input_px, larger.resize_px) == ((448, 448), 512)
    whole = preparation(said, crop_pct=1.0, mean=0.5, std=0.25, interpolation="nearest")
    assert (whole.resize_px, whole.mean, whole.std, whole.interpolation) == (224, (0.5,) * 3, (0.25,) * 3, "nearest")


def test_without_a_file_the_usual_preparation_is_taken_and_said() -> None:
    found = prepared(None, FAMILIES["dinov2"], ModelAsk(std=0.2), "hf/a/b", "preprocessor_config.json")
    assert (found.preparation.resize_px, found.preparation.input_px) == (256, (224, 224))
    assert not found.said
    (note,) = found.notes
    assert note == (
        "There is no preprocessor_config.json. Taken from the usual dinov2: mean 0.485,0.456,0.406, bicubic "
        "interpolation, 224 px input, crop 0.875. If it was trained otherwise, set --mean, --interpolation, "
        "--input-px, --crop-pct."
    )


def test_a_processor_that_cuts_nothing_out_is_made_square_and_that_is_said() -> None:
    said = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 64}, "do_center_crop": False}
    found = prepared(said, FAMILIES["vit"], ModelAsk(), "hf/a/b", "preprocessor_config.json")
    assert found.notes == ("Its processor cuts nothing out; Thawline takes the square in the centre of a picture.",)
    assert found.preparation.input_px == (64, 64)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"size": {"height": 64, "width": 48}}, r"size must be one number of pixels, or equal height and width"),
        ({"size": {"longest_edge": 64}}, r"size must be one number .*; got \{'longest_edge': 64\}"),
        ({"size": -3}, r"size must be one number .*; got -3"),
        ({"size": 64, "crop_size": 80, "do_center_crop": True}, r"crop_size must be at most the size of 64 px; got 80"),
        ({"resample": 5}, r"resample must be one of 0 \(nearest\), .*; got 5 \(preprocessor_config\.json\)"),
        ({"image_mean": [0.5]}, r"image_mean must be three numbers; got \[0\.5\]"),
        ({"image_std": [0, 0, 0]}, r"std must be above 0"),
        ({"rescale_factor": 0}, r"rescale_factor must be above 0; got 0"),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": 64, "crop_pct": 7},
            r"crop_pct must be from 0\.1 to 1; got 7",
        ),
        ({"image_processor_type": "ConvNextImageProcessor", "size": 64, "crop_pct": 1e-9}, r"to 1; got 1e-09"),
    ],
)
def test_what_cannot_be_is_refused(said: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        preparation(said)
