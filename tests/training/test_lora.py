"""Low-rank updates learn in the place of weights, and what ships is the sum of both."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.contracts.zoo import create, images
from torch import nn

from thawline.backbones.receipt import tensor_digests
from thawline.backbones.signature import Signature
from thawline.backbones.thaw import Thaw
from thawline.errors import UsageError
from thawline.training.lora import low_rank
from thawline.training.net import Above, Net

RANK = 2


def thaw(model: nn.Module, names: tuple[str, ...], rung: str) -> Thaw:
    frozen = tuple(name for name, _ in model.named_parameters() if name not in names)
    return Thaw(
        setting="some", rung=rung, thawed=names, distance=tuple(range(1, len(names) + 1)), frozen=frozen, buffers=(),
        n_trainable=0, n_frozen=0, trainable_at=(),
    )  # fmt: skip


def above_last_block(architecture: str, px: int, block: str, rung: str) -> Above:
    model = create(architecture)
    names = tuple(name for name, _ in model.named_parameters() if name.startswith(block))
    width = model(images(1, px)).shape[1]
    return Above(
        Net(model, nn.Linear(width, 3)),
        thaw(model, names, rung),
        Signature("timm", (3, px, px)),
        moving_statistics=False,
    )


def learn(above: Above, px: int, steps: int = 3) -> None:
    """Some steps of SGD on noise."""
    crossing = above.cut.prefix(images(6, px))
    optimiser = torch.optim.SGD(above.learning.values(), lr=0.1)
    above.train()
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(above.logits(crossing), torch.arange(6) % 3).backward()
        optimiser.step()
    above.eval()


CASES = {"test_vit": (160, "blocks.5.", "blocks.4"), "test_efficientnet": (64, "blocks.4.", "blocks.3.0")}


@pytest.mark.parametrize("architecture", CASES)
def test_the_merged_weights_give_what_the_updates_gave(architecture: str) -> None:
    px, block, rung = CASES[architecture]
    above = above_last_block(architecture, px, block, rung)
    before = copy.deepcopy(above.net.state_dict())
    crossing = above.cut.prefix(images(4, px))
    with low_rank(above, RANK, "stage", seed=0) as receipts:
        assert all(".lora_" in name or name.startswith("head.") for name in above.learning)
        learn(above, px)
        with torch.no_grad():
            adapted = above.logits(crossing)
    with torch.no_grad():
        merged = above.logits(crossing)
        whole = above.net.head(above.net.backbone(images(4, px)))
    assert torch.allclose(adapted, merged, atol=1e-5) and torch.allclose(merged, whole, atol=1e-5)
    after = above.net.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and all(name.startswith((f"backbone.{block}", "head.")) for name in changed)
    for name in changed - {"head.weight", "head.bias"}:
        update = (after[name] - before[name]).flatten(1)
        assert name.endswith(".weight") and torch.linalg.matrix_rank(update, rtol=1e-3) <= RANK
    assert receipts[0].status == "clean" and receipts[0].stage == "stage, merged"


def test_the_updates_start_at_nothing_and_depend_on_the_seed_alone() -> None:
    def factors(seed: int) -> dict[str, str]:
        above = above_last_block("test_vit", 160, "blocks.5.", "blocks.4")
        crossing = above.cut.prefix(images(2, 160))
        with torch.no_grad():
            plain = above.logits(crossing)
        torch.manual_seed(seed + 100)
        state = torch.random.get_rng_state()
        with low_rank(above, RANK, "stage", seed=seed):
            assert torch.equal(torch.random.get_rng_state(), state)
            with torch.no_grad():
                assert torch.equal(above.logits(crossing), plain)
            return {name: digest for name, digest in tensor_digests(above.net).items() if ".lora_A" in name}

    assert factors(0) == factors(0) != factors(1)


def test_distances_are_those_of_the_weights() -> None:
    above = above_last_block("test_vit", 160, "blocks.5.", "blocks.4")
    distance = dict(above.distance)
    with low_rank(above, RANK, "stage", seed=0):
        for name, away in above.distance.items():
            base = f"{name.partition('.lora_')[0]}.weight" if ".lora_" in name else name
            assert away == distance[base]
    assert above.distance == distance


def test_nothing_to_adapt_is_refused() -> None:
    model = create("test_efficientnet")
    resolved = thaw(model, ("blocks.4.0.bn1.weight",), "blocks.3.0")
    above = Above(Net(model, nn.Linear(256, 3)), resolved, Signature("timm", (3, 64, 64)), moving_statistics=False)
    with (
        pytest.raises(UsageError, match="lora_rank must come with a thawed layer that has a weight matrix"),
        low_rank(above, RANK, "stage", seed=0),
    ):
        pass


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from thawline.training import packages

    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'thawline\[lora\]'"):
        packages.check_peft()
