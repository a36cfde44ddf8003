"""Usual text encoders of the hub: their configurations, for a ladder and a catalogue without a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thawline.backbones.providers.hf_sentence import UNPOOLED, Sentence

_MINI = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
_COUNTED = {"max_position_embeddings": 514, "layer_norm_eps": 1e-5, "pad_token_id": 1}


@dataclass(frozen=True, slots=True)
class KnownText:
    """A model of the hub as its repository describes it."""

    config: Mapping[str, Any]
    """What ``config.json`` says, as far as it decides the encoder."""
    licence: str
    sentence: Sentence
    length: int | None = None
    """Most tokens, if the repository says fewer than the encoder has positions for."""


def _plain(model_type: str, licence: str, **config: Any) -> KnownText:
    return KnownText({"model_type": model_type, **config}, licence, Sentence(notes=(UNPOOLED,)))


def _sentences(config: Mapping[str, Any], licence: str, pooling: str = "mean", length: int | None = None) -> KnownText:
    config = {"model_type": "bert", **config}
    return KnownText(config, licence, Sentence(pooling=pooling, normalize=True), length)


TEXT_KNOWN: Mapping[str, KnownText] = {
    "BAAI/bge-base-en-v1.5": _sentences({}, "mit", "cls"),
    "BAAI/bge-small-en-v1.5": _sentences(_MINI, "mit", "cls"),
    "FacebookAI/roberta-base": _plain("roberta", "mit", vocab_size=50265, type_vocab_size=1, **_COUNTED),
    "FacebookAI/xlm-roberta-base": _plain("xlm-roberta", "mit", vocab_size=250002, type_vocab_size=1, **_COUNTED),
    "answerdotai/ModernBERT-base": _plain("modernbert", "apache-2.0"),
    "answerdotai/ModernBERT-large": _plain(
        "modernbert",
        "apache-2.0",
        hidden_size=1024,
        num_hidden_layers=28,
        num_attention_heads=16,
        intermediate_size=2624,
    ),
    "distilbert/distilbert-base-uncased": _plain("distilbert", "apache-2.0"),
    "google-bert/bert-base-uncased": _plain("bert", "apache-2.0"),
    "intfloat/e5-small-v2": _sentences(_MINI, "mit"),
    "sentence-transformers/all-MiniLM-L12-v2": _sentences(_MINI, "apache-2.0", length=128),
    "sentence-transformers/all-MiniLM-L6-v2": _sentences(_MINI | {"num_hidden_layers": 6}, "apache-2.0", length=256),
    "sentence-transformers/all-mpnet-base-v2": _sentences(
        {"model_type": "mpnet", **_COUNTED}, "apache-2.0", length=384
    ),
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": KnownText(
        {"model_type": "bert", "vocab_size": 250037, **_MINI}, "apache-2.0", Sentence(), 128
    ),
    "thenlper/gte-small": _sentences(_MINI, "mit"),
}
"""Repository -> what it holds. Fetched models are opened by their own files; these only describe them beforehand."""
