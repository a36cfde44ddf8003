"""The recipe of the text backbone that ships."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from tokenizers import Tokenizer

from thawline.backbones.providers.embedded import EMBEDDED, WEIGHTS_FOLDER

LINES = (
    "  1 This software and database is being provided to you",
    '00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which exists; "it is an entity apart"; "a thing"',
    "00002098 00 a 02 able(p) 0 well-off 0 001 = 05200169 n 0000 | having the means",
)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The recipe's own module, which stands beside the package, not in it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "pretraining"))
    return import_module("text_words")


def test_examples_and_definitions_of_wordnet(recipe: Any, tmp_path: Path) -> None:
    for name in ("data.noun", "data.verb", "data.adj", "data.adv"):
        (tmp_path / name).write_text("\n".join(LINES) + "\n")
    examples, definitions = recipe.wordnet_texts(tmp_path)
    assert examples == ["it is an entity apart"]
    assert definitions == ["entity: that which exists", "able, well-off: having the means"]


def test_the_ridge_is_that_of_the_normal_equations(recipe: Any) -> None:
    rng = np.random.default_rng(0)
    pieces = sparse.random(40, 12, 0.3, random_state=rng, dtype=np.float32, format="csr")
    missing = rng.normal(size=(40, 5)).astype(np.float32)
    dense = pieces.toarray()
    expected = np.linalg.solve(dense.T @ dense + 0.5 * np.eye(12), dense.T @ missing)
    found = recipe._ridge(pieces, missing, recipe.Recipe(ridge=0.5, steps=12))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_vectors_come_near_what_the_teacher_says_of_texts(recipe: Any) -> None:
    """A teacher whose texts are means of its pieces, moved: the pieces alone miss it, the distilled ones do not."""
    rng = np.random.default_rng(0)
    pieces = sparse.csr_matrix(rng.dirichlet(np.full(30, 0.2), 200).astype(np.float32))
    true = rng.normal(size=(30, 8)).astype(np.float32)
    alone = true + rng.normal(size=true.shape).astype(np.float32)
    whole = pieces @ true
    near = [
        recipe.distilled(alone, whole, pieces, recipe.Recipe(width=8, ridge=ridge, steps=60)) for ridge in (1e6, 1e-3)
    ]
    centred = whole - whole.mean(0)
    similar = [np.corrcoef(_distances(pieces @ table), _distances(centred))[0, 1] for table in near]
    assert similar[0] < 0.9
    assert similar[1] > 0.99


def _distances(rows: Any) -> Any:
    rows = np.asarray(rows)
    return np.linalg.norm(rows[:, None] - rows[None], axis=2)[np.triu_indices(len(rows), 1)]


def test_a_byte_a_number_is_within_half_a_step(recipe: Any) -> None:
    table = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    held = recipe.packed(table)
    back = held["codes"].astype(np.float32) * held["scales"].astype(np.float32)[:, None]
    assert not back[0].any()
    assert (np.abs(back - table)[1:] <= 0.51 * held["scales"].astype(np.float32)[1:, None]).all()


def test_the_tokenizer_that_ships_is_the_one_that_the_recipe_makes(recipe: Any, tmp_path: Path) -> None:
    shipped = WEIGHTS_FOLDER / str(EMBEDDED["words"].tokenizer)
    pieces = list(json.loads(shipped.read_text("utf-8"))["model"]["vocab"])
    theirs = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", *pieces[2:], "##本"]
    assert recipe.kept_pieces({piece: i for i, piece in enumerate(theirs)}) == pieces
    assert recipe.tokenizer_of(pieces, shipped) == shipped.read_text("utf-8")
    ids = Tokenizer.from_file(str(shipped)).encode("A [PAD] film").ids
    assert [pieces[i] for i in ids] == ["a", "[", "pad", "]", "film"]


def test_bags_are_the_shares_of_pieces(recipe: Any) -> None:
    tokenizer = Tokenizer.from_file(str(WEIGHTS_FOLDER / str(EMBEDDED["words"].tokenizer)))
    held = recipe.bags(["dog dog cat", "", "cat"], tokenizer)
    dog, cat = (tokenizer.token_to_id(word) for word in ("dog", "cat"))
    assert held.shape == (3, tokenizer.get_vocab_size())
    np.testing.assert_allclose(held[:, [dog, cat]].toarray(), [[2 / 3, 1 / 3], [0, 0], [0, 1]], rtol=1e-6)
