"""What a classifier of texts without a pre-trained model learns from: how often words and parts of words occur."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.inputs.simple import SimpleFeatures
from thawline.inputs.text.decode import text_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from thawline.records import Payload

WORDS: dict[str, Any] = {"ngram_range": (1, 2)}
"""Words and pairs of words."""
CHARACTERS: dict[str, Any] = {"analyzer": "char_wb", "ngram_range": (2, 5)}
"""Two to five characters of one word, its beginning and end among them."""
MOST_TERMS, FEWEST_TERMS, MOST_WEIGHTS = 2**16, 2**12, 2**20
"""Terms that are kept, the commonest, half of them words: the most, what any number of classes leaves, and the weights,
terms x classes, that a classifier then has."""
MOST_CHARACTERS = 2**25
"""Of all texts to learn from, which then lose their ends: 33 million hold 25,000 film reviews whole."""
FOR_VOCABULARY = 2**22
"""Characters that the terms are looked for in; with more, in texts from all over the training set."""
AT_ONCE = 5_000
"""Texts that are counted at a time, as what is counted takes twenty times their memory."""


def simple_features(
    read: Callable[[int], Payload], learned: NDArray[np.int64], asked: NDArray[np.int64], n_classes: int
) -> SimpleFeatures:
    """Return TF-IDF of words and characters; terms and their weights come from the texts to learn from alone.

    Source:
        sklearn.feature_extraction.text.TfidfVectorizer, with the logarithm of counts.
    """
    texts = [text_of(read(row)) for row in learned.tolist()]
    longest = _longest([len(text) for text in texts], MOST_CHARACTERS)
    cut = sum(len(text) > longest for text in texts)
    texts = [text[:longest] for text in texts]
    others = [text_of(read(row))[:longest] for row in asked.tolist()]
    most = min(max(MOST_WEIGHTS // n_classes, FEWEST_TERMS), MOST_TERMS) // 2
    parts = [_tfidf(texts, others, most, how) for how in (WORDS, CHARACTERS)]
    note = (
        f"TF-IDF, the baseline without a pre-trained model, reads the first {longest:,} characters of each text, for "
        f"its memory: {cut:,} of {len(texts):,} training texts are longer."
        if cut
        else ""
    )
    ours, theirs = (_beside(matrices) for matrices in zip(*parts, strict=True))
    return SimpleFeatures(ours, theirs, note)


def _longest(lengths: Sequence[int], budget: int) -> int:
    """Return the length to which texts must be cut for them to have ``budget`` characters together."""
    longest = max(lengths, default=0)
    if sum(lengths) <= budget:
        return longest
    ordered, left = np.sort(np.asarray(lengths, np.int64)), budget
    for i, length in enumerate(ordered.tolist()):
        if length * (len(ordered) - i) >= left:
            return max(left // (len(ordered) - i), 1)
        left -= length
    return longest


def _tfidf(
    texts: Sequence[str], others: Sequence[str], most: int, how: dict[str, Any]
) -> tuple[csr_array[Any], csr_array[Any]]:
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

    counter = CountVectorizer(**how, max_features=most, dtype=np.float32)
    some = _some(texts)
    try:
        counts = counter.fit_transform(some)
    except ValueError:  # no text holds a term, such as a word of two letters: there is nothing to count
        return _empty(len(texts)), _empty(len(others))
    if len(some) < len(texts):
        counts = _counted(counter, texts)
    weigh = TfidfTransformer(sublinear_tf=True).fit(counts)
    asked = weigh.transform(_counted(counter, others), copy=False) if others else _empty(0, counts.shape[1])
    return weigh.transform(counts, copy=False), asked


def _some(texts: Sequence[str]) -> Sequence[str]:
    """Return texts from all over, of about ``FOR_VOCABULARY`` characters; all if they have no more."""
    step = -(-sum(map(len, texts)) // FOR_VOCABULARY)
    return texts[:: max(step, 1)]


def _counted(counter: Any, texts: Sequence[str]) -> csr_array[Any]:
    from scipy.sparse import vstack

    parts = [counter.transform(texts[start : start + AT_ONCE]) for start in range(0, len(texts), AT_ONCE)]
    counts: csr_array[Any] = vstack(parts, format="csr")
    return counts


def _beside(matrices: Iterable[csr_array[Any]]) -> csr_array[Any]:
    from scipy.sparse import csr_array, hstack

    return csr_array(hstack(list(matrices), format="csr", dtype=np.float32))


def _empty(n: int, width: int = 1) -> csr_array[Any]:
    from scipy.sparse import csr_array

    empty: csr_array[Any] = csr_array((n, width), dtype=np.float32)  # type: ignore[assignment]
    return empty
