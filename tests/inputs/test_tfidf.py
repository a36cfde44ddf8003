"""TF-IDF equals scikit-learn's, learns from training texts alone, and stays within its memory."""

import numpy as np
import pytest
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from thawline.inputs import kind_of
from thawline.inputs.text import tfidf
from thawline.inputs.text.tfidf import simple_features

TEXTS = [
    "What a good film, good from start to end", "A dull film", "how dull, how long", "Good actors; a GOOD end",
    "the end was long", "Nothing here is good", "film film film", "A long, dull end",
]  # fmt: skip
LEARNED, ASKED = np.array([0, 1, 2, 5, 6]), np.array([3, 4, 7])


def test_features_are_those_of_scikit_learn():
    found = simple_features(TEXTS.__getitem__, LEARNED, ASKED, 2)
    ours, theirs = [TEXTS[i] for i in LEARNED], [TEXTS[i] for i in ASKED]
    parts = [
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    ]
    expected = hstack([part.fit_transform(ours) for part in parts])
    asked = hstack([part.transform(theirs) for part in parts])
    assert found.learned.toarray() == pytest.approx(expected.toarray(), abs=1e-6)
    assert found.asked.toarray() == pytest.approx(asked.toarray(), abs=1e-6)
    assert found.note == "" and found.learned.dtype == np.float32


def test_what_is_asked_about_changes_nothing_that_was_learned():
    alone = simple_features(TEXTS.__getitem__, LEARNED, ASKED[:0], 2)
    beside = simple_features(TEXTS.__getitem__, LEARNED, ASKED, 2)
    assert alone.asked.shape[0] == 0
    assert np.array_equal(alone.learned.toarray(), beside.learned.toarray())


def test_many_classes_and_texts_leave_fewer_terms(monkeypatch):
    monkeypatch.setattr(tfidf, "FEWEST_TERMS", 8)
    monkeypatch.setattr(tfidf, "MOST_WEIGHTS", 60)
    assert simple_features(TEXTS.__getitem__, LEARNED, ASKED, 3).learned.shape == (5, 20)
    assert simple_features(TEXTS.__getitem__, LEARNED, ASKED, 30).learned.shape == (5, 8)


def test_terms_are_found_in_some_of_many_texts_and_counted_in_all(monkeypatch):
    monkeypatch.setattr(tfidf, "FOR_VOCABULARY", 60)
    monkeypatch.setattr(tfidf, "AT_ONCE", 2)
    every = np.arange(len(TEXTS))
    found = simple_features(TEXTS.__getitem__, every, every, 2)
    some = TEXTS[::3]  # 138 characters: one text in three has about 60
    vocabulary = TfidfVectorizer(ngram_range=(1, 2)).fit(some).vocabulary_
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, vocabulary=vocabulary).fit_transform(TEXTS)
    assert found.learned[:, : len(vocabulary)].toarray() == pytest.approx(words.toarray(), abs=1e-6)
    assert np.array_equal(found.learned.toarray(), found.asked.toarray())


def test_long_texts_lose_their_ends_and_it_is_said(monkeypatch):
    monkeypatch.setattr(tfidf, "MOST_CHARACTERS", 100)
    texts = ["a short text", "first words " + "tail " * 50, "other words " + "tail " * 40, "and one more"]
    found = simple_features(texts.__getitem__, np.arange(4), np.arange(0), 2)
    cut = [text[:38] for text in texts]  # 24 characters of the two short ones leave 38 for each of the others
    expected = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(cut)
    assert found.learned[:, : expected.shape[1]].toarray() == pytest.approx(expected.toarray(), abs=1e-6)
    assert (
        "reads the first 38 characters of each text" in found.note and "2 of 4 training texts are longer" in found.note
    )


@pytest.mark.parametrize("texts", [[":)", ":(", "?"], ["a", "b", "c"], ["\U0001f600", "\U0001f622", "\u05d0"]])
def test_texts_without_words_are_no_fault(texts):
    found = simple_features(texts.__getitem__, np.array([0, 1]), np.array([2]), 2)
    assert found.learned.shape[0] == 2 and found.asked.shape == (1, found.learned.shape[1])
    assert np.isfinite(found.learned.toarray()).all()


def test_files_are_read_as_texts_are():
    payloads = ["caf\xe9 good".encode("cp1252"), b"\xef\xbb\xbfgood", "good caf\xe9"]
    found = kind_of("text").simple_features(None, payloads.__getitem__, np.array([0, 2]), np.array([1]), 2)
    assert found.learned.nnz and found.asked.nnz
