"""The text backbone that ships inside: what it computes, that it ships whole, and that it needs no library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import thawline as tl
from thawline.backbones import Backbone
from thawline.backbones.cut import cut
from thawline.backbones.names import DEFAULT_TEXT_MODEL
from thawline.backbones.providers.embedded import EMBEDDED, WEIGHTS_FOLDER
from thawline.errors import ModelError
from thawline.inputs import kind_of
from thawline.records import of_texts
from thawline.scale.disk import file_sha256

MODEL = EMBEDDED["words"]
TEXTS = ("A stirring, funny and finally transporting film.", "Отлично!", "no", "[PAD] \x07 naïve 🙂 שלום 東京")


@pytest.fixture
def backbone() -> Backbone:
    return tl.open_backbone(DEFAULT_TEXT_MODEL)


def prepared(backbone: Backbone, *texts: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([kind_of("text").prepare(text, backbone.preparation) for text in texts])).long()


def test_it_ships_with_its_tokenizer_and_its_card() -> None:
    assert MODEL.tokenizer is not None
    tokenizer = WEIGHTS_FOLDER / MODEL.tokenizer
    assert (file_sha256(MODEL.path), file_sha256(tokenizer)) == (MODEL.sha256, MODEL.tokenizer_sha256)
    assert MODEL.path.stat().st_size + tokenizer.stat().st_size < 8_000_000
    assert MODEL.sha256 in MODEL.card.read_text("utf-8")


def test_features_are_the_mean_of_the_rows_of_the_file(backbone: Backbone) -> None:
    held = load_file(MODEL.path)
    table = held["codes"].astype(np.float64) * held["scales"].astype(np.float64)[:, None]
    assert not table[0].any()
    ids = prepared(backbone, *TEXTS)
    expected = [table[row[row != 0]].mean(0) for row in ids.numpy()]
    np.testing.assert_allclose(backbone.module()(ids).numpy(), expected, atol=2e-4)  # float16 in the cache
    assert backbone.n_parameters() == MODEL.parameters == table.size


def test_a_text_means_what_it_says_where_it_names_a_special_token(backbone: Backbone) -> None:
    assert 0 not in prepared(backbone, "[PAD]")[0, :3]


@pytest.mark.parametrize("rung", ["input", "embeddings", "pooled"])
def test_every_cut_gives_what_the_whole_gives_at_every_padding(backbone: Backbone, rung: str) -> None:
    assert rung in [rung.name for rung in backbone.ladder.rungs]
    halves, ids = cut(backbone, rung), prepared(backbone, *TEXTS)
    whole = backbone.module()(ids).detach()
    used = int((ids != 0).sum(1).max())
    for filled_to in (used, used + 1, 64):
        torch.testing.assert_close(halves.suffix(*halves.prefix(ids[:, :filled_to])), whole)
    for row, alone in zip(whole, ids, strict=True):
        torch.testing.assert_close(backbone.module()(alone[None])[0], row)


def test_padding_stays_zero_while_the_table_learns(backbone: Backbone) -> None:
    halves, ids = cut(backbone, "input"), prepared(backbone, *TEXTS)
    weight = dict(halves.suffix.named_parameters())["embeddings.weight"]
    halves.suffix.train()(ids).sum().backward()
    assert weight.grad is not None and weight.grad[1:].any()
    assert not weight.grad[0].any()


def test_length_and_prompt_can_be_asked_for_and_nothing_else() -> None:
    backbone = tl.open_backbone(DEFAULT_TEXT_MODEL, model_args={"length": 5, "prompt": "query: "}, long="head-tail")
    ready = of_texts(backbone.preparation)
    assert (ready.length, ready.prompt, ready.long) == (5, "query: ", "head-tail")
    with pytest.raises(ModelError, match=r"model arguments of embedded/words must be length or prompt; got depth"):
        tl.open_backbone(DEFAULT_TEXT_MODEL, model_args={"depth": 3})


def test_neither_transformers_nor_a_library_of_pictures_is_needed() -> None:
    code = (
        "import sys, thawline as tl, torch\n"
        f"backbone = tl.open_backbone({DEFAULT_TEXT_MODEL!r})\n"
        "backbone.module()(torch.tensor([[5, 6, 0]])), backbone.ladder\n"
        "print(sorted({'transformers', 'timm', 'torchvision', 'PIL'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
