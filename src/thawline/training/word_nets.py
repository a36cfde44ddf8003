"""The network on words that guides to text classification begin with: vectors of words, averaged, then the classes."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from thawline.features.prepared import read_sample
from thawline.heads.head import softmax
from thawline.inputs.text.decode import text_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import Dataset

MOST_WORDS, FIRST_WORDS, WIDTH, DROPOUT = 10_000, 250, 16, 0.2
"""Commonest words of the training set, words of a text that are read, numbers in the vector of a word: those of the
guide."""
NOTHING, UNKNOWN = 0, 1
"""Ids of the end of a text, and of words that are not among the commonest."""
PREDICTED_ROWS = 1024
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")


@dataclass(frozen=True, slots=True, eq=False)
class WordNet:
    """A network on words that was trained."""

    module: nn.Module
    """(B, L) ids -> (B, C)"""

    def predict_proba(self, ids: NDArray[np.int32]) -> NDArray[np.float64]:
        """(N, L) -> (N, C); each row sums to 1."""
        self.module.eval()
        with torch.inference_mode():
            parts = [
                self.module(torch.from_numpy(ids[start : start + PREDICTED_ROWS]).long()).double().numpy()
                for start in range(0, len(ids), PREDICTED_ROWS)
            ]
        return softmax(np.concatenate(parts))


def read_words(
    data: Dataset, learned: NDArray[np.int64], progress: Callable[[int, int], None] | None = None
) -> NDArray[np.int32]:
    """Read every text as ids of its first words, (N, L); which words have ids is decided by ``learned`` (n,) rows.

    Raises:
        DataError: A text can no longer be read, or has changed, since the data was opened.
    """
    n, counts, words = len(data), Counter[str](), []
    taught = np.zeros(n, np.bool_)
    taught[learned] = True
    for row in range(n):
        words.append(read_sample(data, row, lambda payload: words_of(text_of(payload))))
        if taught[row]:
            counts.update(words[-1])
        if progress is not None and (row % 1000 == 999 or row == n - 1):
            progress(row + 1, n)
    number = {word: i for i, (word, _) in enumerate(counts.most_common(MOST_WORDS), UNKNOWN + 1)}
    ids = np.full((n, max(map(len, words), default=1) or 1), NOTHING, np.int32)
    for row, own in enumerate(words):
        ids[row, : len(own)] = [number.get(word, UNKNOWN) for word in own]
    return ids


def words_of(text: str) -> list[str]:
    """Return the first words of a text, in lower case and without punctuation, as Keras's TextVectorization does."""
    return _PUNCTUATION.sub("", text.lower()).split()[:FIRST_WORDS]


class MeanOfWords(nn.Module):
    """(B, L) ids -> (B, W) mean of the vectors of the words; 0 for a text without any."""

    def __init__(self) -> None:
        """Draw the vectors."""
        super().__init__()
        self.vectors = nn.Embedding(MOST_WORDS + 2, WIDTH, padding_idx=NOTHING)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        there = (ids != NOTHING).unsqueeze(2)  # (B, L, 1)
        vectors = self.dropout(self.vectors(ids)) * there  # (B, L, W)
        mean: torch.Tensor = vectors.sum(dim=1) / there.sum(dim=1).clamp(min=1)  # (B, W)
        return mean


def word_net(n_classes: int) -> nn.Module:
    """Return an untrained network, (B, L) ids -> (B, C).

    Source:
        The guide "Basic text classification" of TensorFlow.
    """
    return nn.Sequential(MeanOfWords(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, n_classes))
