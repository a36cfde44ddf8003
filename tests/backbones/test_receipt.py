"""The freeze receipt catches what it is there to catch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import thawline as tl
from thawline.backbones.receipt import issue_receipt, tensor_digests
from thawline.errors import ReceiptError


@pytest.fixture
def backbone(weights_file: Path) -> tl.Backbone:
    return tl.open_backbone(f"timm/test_resnet@{weights_file}")


def test_an_unbuilt_backbone_says_that_it_never_ran(backbone: tl.Backbone) -> None:
    receipt = backbone.receipt("head")
    assert not receipt.ran
    assert receipt.status == "clean"
    assert not backbone.is_built


def test_a_backbone_that_ran_from_its_file_gets_the_receipt_of_one_that_was_built(backbone: tl.Backbone) -> None:
    from_file = backbone.receipt("head", ran=True)
    assert not backbone.is_built
    backbone.module()
    built = backbone.receipt("head")
    assert from_file == built
    assert from_file.frozen_buffers > 0


def test_weights_that_change_on_disk_while_they_are_used_are_caught(backbone: tl.Backbone, weights_file: Path) -> None:
    assert backbone.weights_sha256
    content = bytearray(weights_file.read_bytes())
    content[-1] ^= 1
    weights_file.write_bytes(content)
    with pytest.raises(ReceiptError, match="the file of the weights has changed while it was in use"):
        backbone.receipt("head", ran=True)


def test_running_leaves_everything_alone(backbone: tl.Backbone) -> None:
    with torch.inference_mode():
        backbone.reader(["pooled"])(torch.randn(8, 3, 64, 64))[0]
    receipt = backbone.receipt("head")
    module = backbone.module()
    assert receipt.ran
    assert receipt.frozen_parameters == len(list(module.parameters()))
    assert receipt.frozen_buffers == len(list(module.buffers())) > 0
    assert receipt.frozen_sha256 == backbone.receipt("again").frozen_sha256


def test_batch_norm_in_training_mode_is_caught(backbone: tl.Backbone) -> None:
    """The commonest accident: no parameter learns, and yet the statistics move."""
    module = backbone.module().train()
    with torch.no_grad():
        module(torch.randn(8, 3, 64, 64))
    with pytest.raises(
        ReceiptError,
        match=r"must leave frozen tensors bit-identical; \d+ moved, first '.*(num_batches_tracked|running_mean)'",
    ):
        backbone.receipt("head")


def test_one_flipped_bit_is_caught_and_named(backbone: tl.Backbone) -> None:
    module = backbone.module()
    with torch.no_grad():
        module.layer2[0].conv1.weight.view(torch.int32)[0, 0, 0, 0] ^= 1
    with pytest.raises(ReceiptError, match=r"1 moved, first 'layer2.0.conv1.weight'"):
        backbone.receipt("head")


def test_vanished_and_new_tensors_are_caught() -> None:
    module = torch.nn.Linear(3, 2)
    before = tensor_digests(module)
    module.register_buffer("new", torch.zeros(1))
    with pytest.raises(ReceiptError, match="1 moved, first 'new'"):
        issue_receipt("late", module, before)
    del module.new
    del module.bias
    with pytest.raises(ReceiptError, match="1 moved, first 'bias'"):
        issue_receipt("late", module, before)


def test_the_digest_knows_shape_and_type() -> None:
    digests = [
        tensor_digests(torch.nn.ParameterDict({"w": torch.zeros(shape, dtype=dtype)}))["w"]
        for shape, dtype in (
            ((4, 2), torch.float32),
            ((2, 4), torch.float32),
            ((4, 4), torch.float16),
            ((0,), torch.float32),
        )
    ]
    assert len(set(digests)) == 4


def test_the_digest_does_not_know_how_numbers_lie_in_memory() -> None:
    images = torch.nn.ParameterDict({"w": torch.randn(2, 3, 4, 5)})
    before = tensor_digests(images)
    images.to(memory_format=torch.channels_last)
    assert not images["w"].is_contiguous()
    assert tensor_digests(images) == before
