"""A small text encoder that keeps the contract of text backbones, its tokenizer, and texts for it.

A provider of its own, so that ``open_backbone("toytext/small")`` opens it. It loads torch only when it is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thawline.backbones import open_backbone
from thawline.backbones.backbone import Backbone
from thawline.backbones.providers import FAMILIES
from thawline.backbones.providers.provider import Description
from thawline.backbones.providers.random_weights import random_weights
from thawline.inputs import kind_of
from thawline.inputs.kind import digest_of
from thawline.records import Dataset, TextPreparation
from thawline.scale import cache_root
from thawline.scale.disk import file_sha256

if TYPE_CHECKING:
    import torch
    from torch import nn

FAMILY = "toytext"
FAMILIES[FAMILY] = __name__
NAME = f"{FAMILY}/small"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = tuple(a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u"))
GOOD, BAD = WORDS[:6], WORDS[6:12]
"""Words of the two classes; all others are noise."""
VOCABULARY = len(SPECIAL) + len(WORDS)
PAD, LENGTH, WIDTH, HEADS, BLOCKS = 0, 64, 16, 2, 3


def tokenizer_file() -> Path:
    """The file of a tokenizer that makes each word a token, [CLS] before and [SEP] behind."""
    path = cache_root() / "toy" / "tokenizer.json"
    if not path.exists():
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        around = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
        path.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(path))
    return path


def preparation(**changes: Any) -> TextPreparation:
    file = tokenizer_file()
    usual: dict[str, Any] = {"length": LENGTH, "vocabulary": VOCABULARY, "pad": PAD}
    return TextPreparation(tokenizer_sha256=file_sha256(file), tokenizer_file=file, **usual | changes)


def toy_encoder(**changes: Any) -> Backbone:
    """The encoder with random weights, always the same."""
    return open_backbone(NAME, model_args=changes or None)


def texts(n: int, seed: int = 0, longest: int = 40) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """Texts of 1 to ``longest`` words, most of them short, and their labels (n,): a class has words of its own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    made = []
    for label in labels:
        length = 1 + int(min(rng.exponential(longest / 5), longest - 1))
        words = list(rng.choice(WORDS[12:], length))
        for place in rng.choice(length, max(1, length // 4), replace=False):
            words[place] = str(rng.choice((GOOD, BAD)[label]))
        made.append(" ".join(words))
    return made, labels.astype(np.int64)


@dataclass(frozen=True)
class Texts:
    """Texts in memory, as a source."""

    held: Sequence[str]

    def __len__(self) -> int:
        return len(self.held)

    def read(self, index: int) -> str:
        return self.held[index]


def text_dataset(n: int, seed: int = 0, longest: int = 40) -> Dataset:
    held, labels = texts(n, seed, longest)
    look = kind_of("text").look
    return Dataset(
        name="toy texts",
        files=tuple(f"texts.csv#{i}" for i in range(n)),
        labels=labels,
        classes=("good", "bad"),
        source=Texts(held),
        digests=tuple(digest_of(text) for text in held),
        sketches=np.stack([look(text)[0] for text in held]),
        groups=np.unique(held, return_inverse=True)[1],
        kind="text",
    )


def describe(name: str, model: str, location: str, asked: Any, *, architecture_only: bool) -> Description:
    """See ``Provider.describe``."""
    ready, arguments = preparation(), dict(asked.model_args or {})
    tensors = random_weights(FAMILY, model, build, arguments, ready)
    return Description(architecture=model, model_args=arguments, preparation=ready, tensors=tensors)


def build(architecture: str, model_args: Mapping[str, Any], preparation: Any) -> nn.Module:
    """See ``Provider.build``; ``model_args`` may have ``dropout``."""
    import torch
    from tests.toy_text_module import ToyTextEncoder

    with torch.random.fork_rng(devices=[]):
        return ToyTextEncoder(VOCABULARY, LENGTH, PAD, WIDTH, HEADS, BLOCKS, **model_args).eval().requires_grad_(False)


def tracing(module: nn.Module) -> Any:
    """See ``Provider.tracing``."""
    from thawline.backbones.providers.tracing import Tracing

    return Tracing(containers=frozenset({"", "blocks"}), container_types=())


def examples(module: nn.Module, shape: tuple[int, ...], n: int) -> torch.Tensor:
    """See ``Provider.examples``: ids (n, at most 32), the end of each text but the first padding."""
    import torch

    weight = next(module.parameters())
    length = min(shape[0], 32)
    ids = torch.randint(1, VOCABULARY, (n, length), generator=torch.Generator().manual_seed(0))
    for i in range(1, n):
        ids[i, max(length - i, 1) :] = PAD
    return ids.to(weight.device)


def input_shape(module: nn.Module) -> tuple[int, ...]:
    """See ``Provider.input_shape``."""
    return (LENGTH,)


def channels_last(module: nn.Module) -> bool:
    """See ``Provider.channels_last``."""
    return False


def pooled(activation: torch.Tensor, module: nn.Module) -> torch.Tensor | None:
    """See ``Provider.pooled``: the mean over tokens that are no padding."""
    if activation.ndim != 3:
        return None
    there = (activation != 0).any(-1, keepdim=True)
    return activation.sum(1) / there.sum(1).clamp(min=1)


def catalogue(query: str | None) -> list[Any]:
    """See ``Provider.catalogue``."""
    return []


def library_layers(module: nn.Module) -> None:
    """See ``Provider.library_layers``."""
    return None
