"""Every family of text encoders of transformers, small: cut equals whole at every block and every padding."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tests.contracts.test_cut import close
from tests.contracts.zoo import above
from tests.hf_text_models import LENGTH, SMALL, small_text_backbone

from thawline.backbones import Backbone
from thawline.backbones.cut import cut, segment

SHARED = ("encoder.relative_attention_bias.", "encoder.rel_embeddings.", "encoder.LayerNorm.")
"""Beginnings of the names of parameters that all blocks of MPNet, and of DeBERTa, use."""
QUICK = ("bert", "mpnet", "modernbert")
"""One of each way of positions; the others are of the second tier."""
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SMALL]

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Backbone:
    """The small encoder of the family that the test asks for."""
    return small_text_backbone(tmp_path / "model", request.param)


def texts(backbone: Backbone, lengths: list[int], filled_to: int) -> torch.Tensor:
    """Ids of random tokens (len(lengths), filled_to), none of them padding before its length."""
    pad, draws = backbone.preparation.pad, torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(0, backbone.preparation.vocabulary - 1, (len(lengths), filled_to), generator=draws)
    ids += ids >= pad
    for row, n in zip(ids, lengths, strict=True):
        row[n:] = pad
    return ids


def learning(backbone: Backbone, rung: str) -> set[str]:
    """Names of the parameters above a rung; what all blocks share learns only if it is frozen for none of them."""
    module, rungs = backbone.module(), [rung.name for rung in backbone.ladder.rungs]
    shared = {name for name, _ in module.named_parameters() if name.startswith(SHARED)}
    return above(module, rungs, rung) | (shared if rungs.index(rung) < 2 else set())


@pytest.mark.parametrize("opened", FAMILIES, indirect=True)
def test_every_rung_at_several_paddings(opened: Backbone) -> None:
    module, rungs = opened.module(), [rung.name for rung in opened.ladder.rungs]
    assert (rungs[0], rungs[-1]) == ("input", "pooled")
    assert len(rungs) >= 6
    for rung in rungs:
        halves = cut(opened, rung)
        assert set(halves.suffix_parameter_names) == learning(opened, rung), rung
        for lengths, filled_to in (([7, 2, 5], 7), ([7, 2, 5], 24), ([LENGTH, 3], LENGTH)):
            ids = texts(opened, lengths, filled_to)
            (crossing,) = halves.prefix(ids)
            with torch.no_grad():
                whole = module(ids)
                close(halves.suffix(crossing), whole)
                if crossing.ndim == 3:
                    assert torch.equal((crossing != 0).any(-1), ids != opened.preparation.pad), rung
                    further = torch.nn.functional.pad(crossing, (0, 0, 0, LENGTH - filled_to))
                    close(halves.suffix(further), whole)


@pytest.mark.parametrize("opened", FAMILIES, indirect=True)
def test_between_two_rungs(opened: Backbone) -> None:
    names = [rung.name for rung in opened.ladder.rungs]
    low, high = names[1], names[-3]
    stretch = segment(opened, low, high)
    ids = texts(opened, [9, 30, 4], 32)
    (given,), (expected,) = cut(opened, low).prefix(ids), cut(opened, high).prefix(ids)
    assert torch.equal(stretch(given)[0], expected)


@pytest.mark.parametrize("opened", FAMILIES, indirect=True)
def test_one_text_gives_what_it_gives_among_many(opened: Backbone) -> None:
    module, lengths = opened.module(), [LENGTH, 2, 17, 9]
    ids = texts(opened, lengths, LENGTH)
    with torch.no_grad():
        together = module(ids)
        alone = torch.cat([module(row[None, :n]) for row, n in zip(ids, lengths, strict=True)])
    close(alone, together)


@pytest.mark.parametrize("opened", FAMILIES, indirect=True)
def test_gradients_are_those_of_a_model_frozen_by_hand(opened: Backbone) -> None:
    """In train mode: dropout inside the blocks that learn acts, and in no others."""
    module, rungs = opened.module(), [rung.name for rung in opened.ladder.rungs]
    for rung in rungs[1:3]:
        halves, ids = cut(opened, rung), texts(opened, [12, 30, 4, 8], 32)
        by_hand, thawed = copy.deepcopy(module).train(), learning(opened, rung)
        for name, parameter in by_hand.named_parameters():
            parameter.requires_grad_(name in thawed)
        for name in rungs[1 : rungs.index(rung) + 1]:
            by_hand.get_submodule(name).eval()
        halves.suffix.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = halves.suffix(*halves.prefix(ids))
            torch.manual_seed(0)
            expected = by_hand(ids)
        close(found, expected)
        direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
        (found * direction).sum().backward()
        (expected * direction).sum().backward()
        gradients = dict(by_hand.named_parameters())
        largest = max(float(held.grad.abs().max()) for held in gradients.values() if held.grad is not None)
        for name, parameter in module.named_parameters():
            assert (parameter.grad is None) == (name not in thawed), name
            if parameter.grad is not None:
                assert float((parameter.grad - gradients[name].grad).abs().max()) <= 1e-5 * largest, name
                parameter.grad = None
        module.eval()
