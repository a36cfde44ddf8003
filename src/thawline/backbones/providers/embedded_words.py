"""The text backbone that ships inside: a table of vectors of word pieces, and their mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.derived import derived
from thawline.backbones.load_receipt import ADAPTED, SOURCES
from thawline.backbones.providers import hf_text
from thawline.backbones.providers.hf_text_preparation import USUAL_LENGTH, TextAsk
from thawline.backbones.providers.provider import Description, ModelAsk
from thawline.backbones.weights import TensorFile, WeightsFile
from thawline.errors import ModelError
from thawline.records import Preparation, TextPreparation, of_texts
from thawline.scale.disk import file_sha256

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones.providers.tracing import Tracing

ARCHITECTURE = "words"
CODES, SCALES = "codes", "scales"
"""Tensors of the file that ships: int8 (V, W), and float16 (V,), by which each row is multiplied."""
TABLE = "embeddings.weight"
"""What is made of them."""
PAD = 0
"""Id of the token that stands for nothing; its row is 0."""


def described(name: str, weights: WeightsFile, tokenizer: Path, tokenizer_sha256: str, asked: ModelAsk) -> Description:
    """Describe the backbone; its weights, a byte a number, are unpacked into the cache once."""
    text, asked = TextAsk.taken(asked)
    if asked.model_args:
        raise ModelError(
            f"model arguments of {name} must be length or prompt; got {', '.join(asked.model_args)}. Leave them out."
        )
    file = TensorFile(weights.path)
    vocabulary, width = file.shapes()[CODES]
    unpacked = derived(file_sha256(weights.path), "float16 of int8 rows, 1", partial(_unpack, weights.path))
    return Description(
        architecture=ARCHITECTURE,
        model_args={"width": width},
        preparation=TextPreparation(
            tokenizer_sha256=tokenizer_sha256,
            tokenizer_file=tokenizer,
            length=text.length or USUAL_LENGTH,
            vocabulary=vocabulary,
            pad=PAD,
            long=asked.long or "head",
            prompt=text.prompt or "",
        ),
        tensors=TensorFile(unpacked, origin=weights.path),
    )


def _unpack(packed: Path, path: Path) -> None:
    """Write the table of a file that ships, float16."""
    import numpy as np
    from safetensors.numpy import load, save

    held = load(packed.read_bytes())
    table = held[CODES].astype(np.float32) * held[SCALES].astype(np.float32)[:, None]
    said = {SOURCES: json.dumps({TABLE: [CODES, SCALES]}), ADAPTED: json.dumps({TABLE: "unpacked from int8"})}
    path.write_bytes(save({TABLE: table.astype(np.float16)}, said))


def build(architecture: str, model_args: Mapping[str, Any], preparation: Preparation) -> nn.Module:
    """See ``Provider.build``."""
    import torch

    from thawline.backbones.providers.embedded_words_module import MeanOfWords

    ready = of_texts(preparation)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and then overwritten: leave no trace
        module = MeanOfWords(ready.vocabulary, int(model_args["width"]), ready.pad, ready.length)
    return module.eval().requires_grad_(False)


def is_own(module: nn.Module) -> bool:
    """Whether a module is one that ``build`` made."""
    return type(module).__name__ == "MeanOfWords"


def tracing(module: nn.Module) -> Tracing:
    """See ``Provider.tracing``: the table, and the mean."""
    from thawline.backbones.providers.tracing import Tracing

    return Tracing(containers=frozenset({""}), container_types=())


def input_shape(module: nn.Module) -> tuple[int, ...]:
    """See ``Provider.input_shape``."""
    return (int(module.length),)  # type: ignore[arg-type]


def pooled(activation: torch.Tensor, module: nn.Module) -> torch.Tensor | None:
    """See ``Provider.pooled``: (B, L, W) -> (B, W)."""
    return hf_text.pooled(activation)


examples = hf_text.examples
