"""The network on words that guides begin with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.toy_text import text_dataset

from thawline.inputs.kind import digest_of
from thawline.training import word_nets
from thawline.training.guide_nets import fit_guide
from thawline.training.word_nets import NOTHING, UNKNOWN, MeanOfWords, read_words, word_net, words_of


class Texts:
    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def read(self, index):
        return self.texts[index]


def dataset(texts, labels):
    data = text_dataset(len(texts))
    return replace(
        data, source=Texts(texts), labels=np.asarray(labels), digests=tuple(digest_of(text) for text in texts)
    )


def test_words_are_those_of_text_vectorization():
    assert words_of("It's GOOD -- (really) good!") == ["its", "good", "really", "good"]
    assert len(words_of("word " * 400)) == 250
    assert words_of(":-) !") == []


def test_ids_come_from_the_training_set_alone(monkeypatch):
    texts = ["a good film", "a bad film", "a dull end", "!!"]
    ids = read_words(dataset(texts, [0, 1, 1, 0]), np.array([0, 1]))
    assert ids.shape == (4, 3) and ids.dtype == np.int32
    assert ids[0, 0] == ids[1, 0] == ids[2, 0] > UNKNOWN  # "a"
    assert ids[2].tolist()[1:] == [UNKNOWN, UNKNOWN]  # neither word is in the training set
    assert ids[3].tolist() == [NOTHING] * 3
    monkeypatch.setattr(word_nets, "MOST_WORDS", 2)
    few = read_words(dataset(texts, [0, 1, 1, 0]), np.array([0, 1]))
    assert few.max() == UNKNOWN + 2


def test_the_end_of_a_text_changes_nothing():
    torch.manual_seed(0)
    module = MeanOfWords().eval()
    ids = torch.tensor([[5, 6, 7]])
    longer = torch.tensor([[5, 6, 7, NOTHING, NOTHING]])
    expected = module.vectors.weight[[5, 6, 7]].mean(dim=0)
    assert torch.allclose(module(ids)[0], expected) and torch.allclose(module(longer)[0], expected)
    assert torch.equal(module(torch.tensor([[NOTHING, NOTHING]])), torch.zeros(1, 16))


def test_network_is_that_of_the_guide():
    assert sum(p.numel() for p in word_net(1).parameters()) == 10_002 * 16 + 17


def test_it_learns_and_goes_on_from_a_checkpoint(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 240)
    ids = rng.integers(2, 40, (240, 8)).astype(np.int32)
    ids[:, 0] = np.where(labels == 1, 50, 51)
    train, val = np.arange(160), np.arange(160, 240)
    whole = fit_guide("words", ids, labels, train, val, 2)
    p = whole.net.predict_proba(ids[val])
    assert p.sum(axis=1) == pytest.approx(1) and np.mean(p.argmax(axis=1) == labels[val]) > 0.9
    monkeypatch.setattr("thawline.training.guide_nets.SAVED_EVERY_S", 0.0)
    monkeypatch.setattr("thawline.training.guide_nets.WRITING", 1e9)
    file = tmp_path / "words.safetensors"

    class StopError(Exception):
        pass

    def stop(done, total):
        if done > 30:
            raise StopError

    with pytest.raises(StopError):
        fit_guide("words", ids, labels, train, val, 2, checkpoint=file, progress=stop)
    again = fit_guide("words", ids, labels, train, val, 2, checkpoint=file)
    assert np.array_equal(again.net.predict_proba(ids[val]), p)
