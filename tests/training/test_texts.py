"""Training above the thaw line on texts: parts of a batch, masks, receipts, and the same bits after a kill."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.hf_text_models import sentence_folder
from tests.toy_text import PAD, text_dataset, toy_encoder
from tests.training.toy import Stopped, differing
from torch.nn import functional

from thawline.backbones import Backbone, open_backbone
from thawline.backbones.thaw import resolve_thaw
from thawline.errors import UsageError
from thawline.features.prepared import PreparedSamples
from thawline.planning.asking import ask_for
from thawline.planning.fit_plan import FitPlan, check_plan
from thawline.planning.ground import Ground
from thawline.planning.stage_plans import settle
from thawline.records import Dataset
from thawline.training import Fitted, fit_probe
from thawline.training.finetune import fine_tune
from thawline.training.inputs import BOUNDARY
from thawline.training.net import Above, Net
from thawline.training.ragged import PART_TOKENS, cut_to_longest, in_order, lengths_in, parts_of
from thawline.training.settings import TrainAsk

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

N = 64


class Listener:
    """Hears of the steps of a training, and stops it at one."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.heard = stop_at, 0
        self.notes: list[str] = []

    def progress(self, phase: str, done: int, total: int) -> None:
        self.heard += phase != BOUNDARY
        if self.heard == self.stop_at and phase != BOUNDARY:
            raise Stopped

    def evaluated(self, row: object) -> None:
        pass

    def found(self, data: object) -> None:
        raise AssertionError("training opens no data")

    def note(self, text: str) -> None:
        self.notes.append(text)


@cache
def data() -> Dataset:
    return text_dataset(N, seed=1)


@cache
def features(backbone: Backbone) -> NDArray[np.float32]:
    prepared = PreparedSamples(data(), backbone.preparation)
    ids = torch.from_numpy(np.stack([prepared.of(row) for row in range(N)])).long()
    with torch.no_grad():
        values: NDArray[np.float32] = backbone.module()(ids).numpy()
    return values


def planned(backbone: Backbone, thaw: str, *, from_scratch: bool = False, **asked: Any) -> tuple[FitPlan, Ground]:
    described = {"model": backbone.name, "weights_sha256": backbone.weights_sha256, "model_settings": backbone.settings}
    bare = check_plan(described | {"thaw": thaw, "from_scratch": from_scratch}, "a test")
    ground = Ground.of(data(), bare)
    return settle(bare, ground, backbone, TrainAsk(**{"epochs": 3, "lr": 3e-3, "batch_size": 8} | asked)), ground


def trained(backbone: Backbone, thaw: str, state: Path, listener: Listener | None = None, **asked: Any) -> Fitted:
    plan, ground = planned(backbone, thaw, **asked)
    split, probe, values = ground.held_out(plan), None, None
    if not plan.from_scratch:
        values = features(backbone)
        probe = fit_probe(
            "logistic", values, data().labels, split, 2, groups=data().groups, seed=0,
            backbone_parameters=backbone.n_parameters(),
        )  # fmt: skip
    state.mkdir(exist_ok=True)
    return fine_tune(ask_for(plan), data(), split, backbone, values, probe, state, listener or Listener())


def weights(fitted: Fitted) -> dict[str, torch.Tensor]:
    assert fitted.backbone is not None
    return {name: tensor.clone() for name, tensor in fitted.backbone.tensors.load().items()}


def moved(fitted: Fitted, backbone: Backbone) -> set[str]:
    """Names of the tensors that training changed."""
    return set(differing(weights(fitted), backbone.module().state_dict()))


WAYS: dict[str, dict[str, Any]] = {
    "last:1": {},
    "all": {"l2_sp": 0.01, "accumulate": 2},
    "last:2": {"lora_rank": 2},
    "from:blocks.0": {"ema_decay": 0.9, "mixup": 0.2, "schedule": "cosine"},
}
"""Thaw setting -> settings of training to try it with."""


@pytest.mark.parametrize("thaw", WAYS)
def test_what_is_thawed_learns_and_nothing_else(thaw: str, tmp_path: Path) -> None:
    backbone, asked = toy_encoder(), WAYS[thaw]
    fitted = trained(backbone, thaw, tmp_path / "state", **asked)
    assert fitted.kept == thaw
    assert fitted.receipts
    assert all(receipt["status"] == "clean" for receipt in fitted.receipts)
    thawed = set(resolve_thaw(backbone.ladder, thaw, backbone.blueprint()).thawed)
    if asked.get("lora_rank"):
        thawed = {name for name in thawed if name.endswith("weight") and "first" not in name and "second" not in name}
    # the gradient of a bias of keys is exactly 0: it adds the same number to all weights of a softmax
    assert moved(fitted, backbone) | {name for name in thawed if name.endswith("key.bias")} >= thawed
    assert moved(fitted, backbone) <= thawed


def test_a_random_encoder_learns(tmp_path: Path) -> None:
    fitted = trained(toy_encoder(), "all", tmp_path / "state", from_scratch=True, epochs=2)
    assert (fitted.kept, fitted.probe) == ("all", None)
    assert all(receipt["status"] == "clean" for receipt in fitted.receipts)


def test_progressive_unfreezing_adds_blocks_from_the_end(tmp_path: Path) -> None:
    backbone = toy_encoder()
    fitted = trained(backbone, "progressive", tmp_path / "state", epochs=2)
    trainings = [stage.training for stage in fitted.stages if stage.training]
    assert [training.rung for training in trainings][:2] == ["blocks.1", "blocks.0"]
    assert [training.cache.kind for training in trainings][:2] == ["boundary", "boundary"]
    assert all(receipt["status"] == "clean" for receipt in fitted.receipts)


@pytest.mark.parametrize(
    "n_kills", [2, pytest.param(None, marks=pytest.mark.slow)], ids=["a step of each part", "every step"]
)
def test_a_training_that_was_killed_ends_with_the_same_bits(n_kills: int | None, tmp_path: Path) -> None:
    # dropout draws numbers, the line moves from the middle to the input, and texts have every length
    backbone, undisturbed = toy_encoder(dropout=0.1), Listener()
    whole = weights(trained(backbone, "all", tmp_path / "whole", undisturbed))
    steps = undisturbed.heard
    kills = range(1, steps + 1) if n_kills is None else (steps // 4, steps - steps // 4)
    for stop_at in kills:
        state = tmp_path / f"killed at {stop_at}"
        with pytest.raises(Stopped):
            trained(backbone, "all", state, Listener(stop_at))
        assert not differing(weights(trained(backbone, "all", state)), whole), stop_at


def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    backbone = toy_encoder()
    for setting in ("all", "last:1"):
        net = Net(backbone.build(), torch.nn.Linear(16, 2))
        net.backbone.load_state_dict(backbone.tensors.load())
        thaw = resolve_thaw(backbone.ladder, setting, backbone.blueprint())
        above = Above(net, thaw, backbone.signature, moving_statistics=False)
        prepared = PreparedSamples(data(), backbone.preparation)
        ids = torch.from_numpy(np.stack([prepared.of(row) for row in range(N)])).long()
        labels = torch.from_numpy(data().labels)
        crossing = above.cut.prefix(ids)
        wanted = list(above.learning.values())
        whole = functional.cross_entropy(above.logits(crossing), labels, reduction="sum")
        expected = torch.autograd.grad(whole, wanted)
        ordered, order = in_order(crossing, PAD)
        parts = parts_of(ordered, PAD)
        assert len(parts) > 1
        losses = [
            functional.cross_entropy(
                above.logits(cut_to_longest(tuple(t[part] for t in ordered), PAD)), labels[order][part], reduction="sum"
            )
            for part in parts
        ]
        found = torch.autograd.grad(sum(losses), wanted)  # type: ignore[arg-type]
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def _hidden(lengths: list[int], width: int = 3) -> torch.Tensor:
    hidden = torch.zeros(len(lengths), max(lengths), width)
    for row, length in zip(hidden, lengths, strict=True):
        row[:length, 1] = 1.0
    return hidden


def test_lengths_are_read_off_ids_and_off_hidden_numbers() -> None:
    lengths = [3, 1, 7, 7, 2]
    ids = torch.tensor([[5] * n + [PAD] * (8 - n) for n in lengths])
    ids[2, 3] = PAD  # within a text, the number counts as a token like any other
    for crossing in ((ids,), (_hidden(lengths),)):
        found = lengths_in(crossing, PAD)
        assert found is not None
        assert found.tolist() == lengths
        ordered, order = in_order(crossing, PAD)
        assert order.tolist() == [1, 4, 0, 2, 3]
        assert torch.equal(ordered[0], crossing[0][order])
        assert cut_to_longest(crossing, PAD)[0].shape[1] == 7
    for crossing, pad in (((torch.randn(4, 6),), PAD), ((torch.randn(4, 3, 2, 2),), None)):
        assert lengths_in(crossing, pad) is None
        assert parts_of(crossing, pad) == [slice(0, 4)]
        assert cut_to_longest(crossing, pad) is crossing
        assert in_order(crossing, pad)[1].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(6))
def test_parts_are_the_cheapest_that_there_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = sorted(rng.integers(1, 400, 7).tolist())

    def cost(starts: tuple[int, ...]) -> int:
        ends = (*starts[1:], len(lengths))
        parts = zip(starts, ends, strict=True)
        return sum((end - start) * lengths[end - 1] + PART_TOKENS for start, end in parts)

    cheapest = min(
        cost((0, *rest)) for k in range(len(lengths)) for rest in itertools.combinations(range(1, len(lengths)), k)
    )
    parts = parts_of((_hidden(lengths, 2),), PAD)
    assert cost(tuple(part.start for part in parts)) == cheapest
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == len(lengths)


def test_tokens_cannot_be_mixed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mixup must have numbers to mix .* the ids of tokens cross it. Thaw less"):
        trained(toy_encoder(), "from:embeddings", tmp_path / "state", mixup=0.2)


@pytest.mark.parametrize(
    ("model_type", "asked"),
    [
        ("bert", {"lora_rank": 2}),
        *[
            pytest.param(name, asked, marks=pytest.mark.slow)
            for name in ("bert", "distilbert", "roberta", "mpnet", "deberta-v2", "modernbert")
            for asked in ({}, {"lora_rank": 2})
            if (name, asked) != ("bert", {"lora_rank": 2})
        ],
    ],
)
def test_encoders_of_transformers_are_trained(model_type: str, asked: dict[str, Any], tmp_path: Path) -> None:
    folder, _ = sentence_folder(tmp_path / "encoder", model_type)
    backbone = open_backbone(f"hf/small/{model_type}@{folder}")
    thaw = "last:2" if model_type == "modernbert" else "last:1"  # its last layer is a normalisation
    fitted = trained(backbone, thaw, tmp_path / "state", **asked)
    assert fitted.kept == thaw
    assert all(receipt["status"] == "clean" for receipt in fitted.receipts)
    thawed = set(resolve_thaw(backbone.ladder, thaw, backbone.blueprint()).thawed)
    changed = moved(fitted, backbone)
    assert changed
    assert changed <= thawed
    matrices = {name for name in thawed if weights(fitted)[name].ndim == 2}
    if asked:  # attention and dense layers all have updates, and no vector moves
        assert changed == matrices
