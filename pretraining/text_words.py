"""Make the text backbone that ships inside, ``embedded/words``: vectors of word pieces from a sentence encoder.

    python pretraining/text_words.py --teacher PATH/all-MiniLM-L6-v2 --wordnet /usr/share/wordnet --out build/words

The teacher reads every word piece alone, and texts of WordNet. The vector of a piece is what the teacher says of it
alone, moved so that the mean over the pieces of a text comes near what the teacher says of the whole text. Writes the
weights and the tokenizer. What the teacher said is kept in ``--out``, so the command may be run again.

Source:
    S. Tulkens, T. van Dongen, Model2Vec, 2024, github.com/MinishLab/model2vec (pieces alone, principal components,
    weights by rank); Arora et al. 2017, A Simple but Tough-to-Beat Baseline for Sentence Embeddings (rare words count
    for more).
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.numpy import save
from scipy import sparse
from text_corpus import wordnet_texts
from tokenizers import Tokenizer

from thawline.backbones import Backbone, open_backbone
from thawline.backbones.providers.embedded_words import CODES, PAD, SCALES
from thawline.inputs.text.tokens import tokens_of

WEIGHTS, TOKENIZER = "words.all_minilm.safetensors", "words.tokenizer.json"
AT_ONCE = 1024
"""Tokens that the teacher reads at once."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, beside the teacher and the texts."""

    width: int = 256
    n_texts: int = 57_344
    """Texts that the teacher reads: all examples of WordNet, and then definitions."""
    longest: int = 64
    """Tokens of a text that the teacher reads."""
    ridge: float = 1.0
    """How firmly a piece stays what the teacher says of it alone; a text that is nothing but the piece counts 1."""
    steps: int = 25
    """Of conjugate gradients."""
    seed: int = 0


def kept_pieces(vocabulary: dict[str, int]) -> list[str]:
    """Return the pieces that texts are made of, [PAD] and [UNK] first.

    Places that were never used, special tokens, and pieces inside words of Chinese and Japanese, which the tokenizer
    never makes, are left out.
    """
    in_order = sorted(vocabulary, key=lambda piece: vocabulary[piece])
    pieces = [piece for piece in in_order if not (piece.startswith("[") and piece.endswith("]") and len(piece) > 2)]
    return ["[PAD]", "[UNK]", *(piece for piece in pieces if not (piece.startswith("##") and _is_wide(piece[2:])))]


def _is_wide(piece: str) -> bool:
    return any(unicodedata.east_asian_width(character) in "WF" for character in piece)


def tokenizer_of(pieces: Sequence[str], teacher: Path) -> str:
    """Return a tokenizer that cuts as the teacher's does, into these pieces, without special tokens around a text."""
    said = json.loads(teacher.read_text(encoding="utf-8"))
    said["model"]["vocab"] = {piece: i for i, piece in enumerate(pieces)}
    # a text that says "[PAD]" means these letters: no token is special
    said |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


def read_by(teacher: Backbone, ids: Sequence[NDArray[np.int32]], file: Path, title: str) -> NDArray[np.float32]:
    """Return what the teacher says of texts, (N, D) of length 1; kept in a file."""
    if not file.exists():
        module, pad = teacher.module(), teacher.preparation.spec.pad
        rows = np.zeros((len(ids), teacher.width("pooled")), np.float16)
        in_order = np.argsort([len(one) for one in ids], kind="stable")
        parts = np.array_split(in_order, max(sum(map(len, ids)) // AT_ONCE, 1))
        with torch.inference_mode():
            for part in track(parts, title):
                batch = np.full((len(part), max(len(ids[i]) for i in part)), pad, np.int64)
                for row, i in zip(batch, part, strict=True):
                    row[: len(ids[i])] = ids[i]
                rows[part] = module(torch.from_numpy(batch)).numpy()
        np.save(file, rows)
    said = np.load(file).astype(np.float32)
    normal: NDArray[np.float32] = said / np.linalg.norm(said, axis=1, keepdims=True)
    return normal


def distilled(
    alone: NDArray[np.float32], whole: NDArray[np.float32], pieces: sparse.csr_matrix, recipe: Recipe
) -> NDArray[np.float32]:
    """Return the vectors of the pieces (V, W).

    Args:
        alone: (V, D) what the teacher says of each piece.
        whole: (N, D) what it says of the texts.
        pieces: (N, V) share of each piece in each text; a row adds up to 1.
    """
    centre = whole.mean(0)
    _, components = np.linalg.eigh(np.cov((whole - centre).T))
    components = components[:, ::-1][:, : recipe.width].astype(np.float32)  # (D, W)
    target = (whole - centre) @ components  # (N, W)
    rank = np.log1p(np.arange(len(alone), dtype=np.float32))[:, None]  # the pieces are in the order of their frequency
    table = (alone - alone.mean(0)) @ components * rank  # (V, W)
    guess = pieces @ table
    table *= float((guess * target).sum() / (guess * guess).sum())
    return table + _ridge(pieces, target - pieces @ table, recipe)


def _ridge(pieces: sparse.csr_matrix, missing: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Solve for what is to be added to the table (V, W), by conjugate gradients, each column for itself."""
    back = pieces.T.tocsr()
    left = back @ missing
    added, way = np.zeros_like(left), left.copy()
    size = (left * left).sum(0)
    for _ in range(recipe.steps):
        bent = back @ (pieces @ way) + recipe.ridge * way
        step = size / np.maximum((way * bent).sum(0), 1e-12)
        added += step * way
        left -= step * bent
        before, size = size, (left * left).sum(0)
        way = left + size / np.maximum(before, 1e-12) * way
    return added


def packed(table: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return int8 rows (V, W) and their scales (V,); the row of padding is 0."""
    table = table.copy()
    table[PAD] = 0
    scales = np.maximum(np.abs(table).max(1) / 127, 2**-14).astype(np.float16)
    return {CODES: np.rint(table / scales.astype(np.float32)[:, None]).clip(-127, 127).astype(np.int8), SCALES: scales}


def bags(texts: Sequence[str], tokenizer: Tokenizer) -> sparse.csr_matrix:
    """Return the share of each piece in each text, (N, V)."""
    ids = [encoded.ids for encoded in tokenizer.encode_batch(list(texts))]
    shares = np.concatenate([np.full(len(one), 1 / len(one), np.float32) for one in ids if one])
    ends = np.cumsum([0, *map(len, ids)])
    held = sparse.csr_matrix((shares, np.concatenate([np.array(one, np.int32) for one in ids]), ends))
    held.resize(len(ids), tokenizer.get_vocab_size())
    held.sum_duplicates()
    return held


def main() -> None:
    """Make the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--teacher", type=Path, required=True, help="folder of a BERT as sentence-transformers saves it"
    )
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun, data.verb, ...")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    recipe, out = Recipe(), asked.out
    out.mkdir(parents=True, exist_ok=True)
    teacher = open_backbone(f"hf/teacher@{asked.teacher}", model_args={"length": recipe.longest})
    reads = teacher.preparation
    cut = tokens_of(reads)
    theirs = Tokenizer.from_file(str(reads.tokenizer_file)).get_vocab()
    pieces = kept_pieces(theirs)
    around = [np.array([*cut.before, theirs[piece], *cut.behind], np.int32) for piece in pieces]
    alone = read_by(teacher, around, out / "alone.npy", "word pieces")

    draws = np.random.default_rng(recipe.seed)
    examples, definitions = wordnet_texts(asked.wordnet)
    texts = [part[i] for part in (examples, definitions) for i in draws.permutation(len(part))][: recipe.n_texts]
    whole = read_by(teacher, [cut.encode(text, reads).ids for text in texts], out / "whole.npy", "texts")

    (out / TOKENIZER).write_text(tokenizer_of(pieces, Path(str(reads.tokenizer_file))), encoding="utf-8")
    held = packed(distilled(alone, whole, bags(texts, Tokenizer.from_file(str(out / TOKENIZER))), recipe))
    source = {"architecture": "words", "licence": "Apache-2.0", "source": "sentence-transformers/all-MiniLM-L6-v2"}
    (out / WEIGHTS).write_bytes(save(held, source | {"recipe": json.dumps(asdict(recipe))}))
    for name in (WEIGHTS, TOKENIZER):
        content = (out / name).read_bytes()
        print(name, f"{len(content):,} bytes", hashlib.sha256(content).hexdigest(), datetime.date.today())


if __name__ == "__main__":
    main()
