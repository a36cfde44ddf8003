"""The families of text encoders that transformers has and Thawline takes apart: names, settings and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thawline.backbones.providers.hf_families import DEEPEST
from thawline.errors import ModelError, nearest

POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""What becomes of the tokens of a text, as sentence-transformers calls it; several are joined by ``+``."""
ACTIVATIONS = ("Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid", "LeakyReLU", "ELU")
"""Classes of torch that may stand in a dense layer: no other name of a file is looked up."""
OWN_KEYS = frozenset(("pooling", "dense", "normalize"))
"""Settings of what follows the library's encoder."""
_POSITIONS = "max_position_embeddings"
_MOST = {
    "num_hidden_layers": DEEPEST,
    "n_layers": DEEPEST,
    _POSITIONS: 2**20,
    "vocab_size": 2**24,
    "pad_token_id": 2**24,
}
"""A hostile configuration may ask for any number, and each takes memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFamily:
    """One architecture of the library."""

    model_type: str
    """As ``config.json`` names it; this is what Thawline calls the architecture."""
    model: str
    """Class in the library; its configuration is of the class ``config``."""
    config: str
    tokenizer: str
    """Class that makes a tokenizer of a vocabulary, where there is no ``tokenizer.json``."""
    made_of: tuple[str, ...] = ("vocab.txt",)
    """Files of that vocabulary; without them, the class would make a tokenizer that knows no words."""
    anchor: str
    """Name, in files, of the tensor that the encoder is recognised by; what stands before it is a prefix."""
    keys: frozenset[str]
    """Settings that decide what the encoder computes."""
    prefixes: tuple[str, ...]
    """What the library itself puts before the encoder's names in files."""
    blocks: str = "encoder.layer"
    pad: int
    """Id of the token that stands for nothing, if nobody says."""
    of_library: bool = False
    """Whether its blocks are those of transformers, and not our own."""
    counts_from_pad: bool = False
    """Whether positions are counted over the tokens of a text and begin behind ``pad``."""
    defaults: Mapping[str, Any]
    """Settings that the library has if ``config.json`` does not say, where they are not those of BERT."""
    renamed: tuple[tuple[str, str], ...] = ()
    """(pattern, replacement): from names in files, prefix taken off, to names of the library's modules."""
    unused: tuple[str, ...] = ("pooler.",)
    """Beginnings of names in files, prefix taken off, of what no feature needs."""

    @property
    def package(self) -> str:
        """Module of the library, below ``transformers.models``."""
        return self.model_type.replace("-", "_")

    def settings(self, config: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return what decides the architecture, out of a configuration.

        Raises:
            ModelError: A value cannot be.
        """
        settings = {key: config[key] for key in sorted(self.keys) if config.get(key) is not None}
        self.check(settings, where)
        return settings

    def check(self, settings: Mapping[str, Any], where: str) -> None:
        """Refuse settings that this family does not have, and sizes that no model has.

        Raises:
            ModelError: Names the setting.
        """
        known = self.keys | OWN_KEYS
        for key in settings:
            if key not in known:
                raise ModelError(
                    f"model arguments must be settings of {self.model_type}; got {key!r} ({where})."
                    f"{nearest(key, known)} There are {', '.join(sorted(known))}, length and prompt."
                )
        for key, most in _MOST.items():
            value = settings.get(key, 1)
            if not isinstance(value, int) or not (key != "pad_token_id") <= value <= most:
                raise ModelError(f"{key} must be a whole number up to {most:,}; got {value!r} ({where}).")
        pooling = settings.get("pooling", "mean")
        if not isinstance(pooling, str) or not set(pooling.split("+")) <= set(POOLINGS):
            raise ModelError(
                f"pooling must be one of {', '.join(POOLINGS)}, or several with +; got {pooling!r} ({where})."
            )

    def longest(self, settings: Mapping[str, Any], pad: int) -> int:
        """Return the most tokens, special tokens among them, that the encoder has positions for."""
        positions = int(settings.get(_POSITIONS, self.defaults.get(_POSITIONS, 512)))
        return positions - (pad + 1 if self.counts_from_pad else 0)

    def vocabulary(self, settings: Mapping[str, Any]) -> int:
        """Return how many tokens the encoder has embeddings of."""
        return int(settings.get("vocab_size", self.defaults["vocab_size"]))


_BERT = frozenset(
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act hidden_dropout_prob "
    "attention_probs_dropout_prob max_position_embeddings type_vocab_size layer_norm_eps pad_token_id".split()
)
_OLD_NAMES = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
"""Of files that were converted from TensorFlow."""
_WORDS = "embeddings.word_embeddings.weight"

_FAMILIES = (
    TextFamily(
        model_type="bert", model="BertModel", config="BertConfig", tokenizer="BertTokenizer", anchor=_WORDS,
        keys=_BERT, prefixes=("bert.",), pad=0, defaults={"vocab_size": 30522}, renamed=_OLD_NAMES,
    ),
    TextFamily(
        model_type="distilbert", model="DistilBertModel", config="DistilBertConfig", tokenizer="BertTokenizer",
        anchor=_WORDS, blocks="transformer.layer", prefixes=("distilbert.",), pad=0, unused=(),
        defaults={"vocab_size": 30522, "num_hidden_layers": 6},
        keys=frozenset(
            "vocab_size dim n_layers n_heads hidden_dim activation dropout attention_dropout max_position_embeddings "
            "pad_token_id".split()
        ),
    ),
    *(
        TextFamily(
            model_type=model_type, model=f"{name}Model", config=f"{name}Config", tokenizer=f"{name}Tokenizer",
            made_of=files, anchor=_WORDS, keys=_BERT, prefixes=("roberta.",), pad=1, counts_from_pad=True,
            renamed=_OLD_NAMES, defaults={"vocab_size": vocabulary, "pad_token_id": 1},
        )
        for model_type, name, vocabulary, files in (
            ("roberta", "Roberta", 50265, ("vocab.json", "merges.txt")),
            ("xlm-roberta", "XLMRoberta", 30522, ("sentencepiece.bpe.model",)),
        )
    ),
    TextFamily(
        model_type="mpnet", model="MPNetModel", config="MPNetConfig", tokenizer="MPNetTokenizer", anchor=_WORDS,
        keys=(_BERT - {"type_vocab_size", "pad_token_id"}) | {"relative_attention_num_buckets"},
        prefixes=("mpnet.",), pad=1, counts_from_pad=True, renamed=_OLD_NAMES,
        defaults={"vocab_size": 30527, "pad_token_id": 1},
    ),
    TextFamily(
        model_type="deberta-v2", model="DebertaV2Model", config="DebertaV2Config", tokenizer="DebertaV2Tokenizer",
        made_of=("spm.model",), anchor=_WORDS, of_library=True, prefixes=("deberta.",), pad=0,
        defaults={"vocab_size": 128100},
        keys=_BERT | frozenset(
            "relative_attention max_relative_positions position_buckets position_biased_input pos_att_type "
            "share_att_key norm_rel_ebd conv_kernel_size conv_act conv_groups embedding_size "
            "attention_head_size".split()
        ),
        renamed=(*_OLD_NAMES, (r"^encoder\.conv\.", "encoder.layer.0.conv.")),
    ),
    TextFamily(
        model_type="modernbert", model="ModernBertModel", config="ModernBertConfig",
        tokenizer="PreTrainedTokenizerFast", made_of=(),
        anchor="embeddings.tok_embeddings.weight", of_library=True, blocks="layers", prefixes=("model.",), pad=50283,
        defaults={"vocab_size": 50368, "max_position_embeddings": 8192},
        keys=frozenset(
            "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_activation "
            "max_position_embeddings norm_eps norm_bias pad_token_id attention_bias attention_dropout layer_types "
            "rope_parameters global_attn_every_n_layers global_rope_theta local_rope_theta local_attention "
            "embedding_dropout mlp_bias mlp_dropout".split()
        ),
        unused=("head.",),
    ),
)  # fmt: skip

TEXT_FAMILIES: Mapping[str, TextFamily] = {family.model_type: family for family in _FAMILIES}
"""``model_type`` of ``config.json`` -> the encoder that is taken from such a model."""
