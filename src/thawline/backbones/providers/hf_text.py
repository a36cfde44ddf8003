"""Text encoders of transformers, with or without what sentence-transformers puts behind them, from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.providers.hf_folder import CONFIG, MODULES, read_json, text_encoder_in
from thawline.backbones.providers.hf_sentence import Sentence, sentence_in
from thawline.backbones.providers.hf_text_families import TEXT_FAMILIES
from thawline.backbones.providers.hf_text_preparation import TextAsk, described, prepared
from thawline.backbones.providers.provider import Description, ModelAsk
from thawline.backbones.providers.unfetched import NoTensors
from thawline.backbones.weights import open_weights
from thawline.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.records import TextPreparation

_EXAMPLE_LENGTH = 32
"""Most tokens of an example: no cut depends on how long texts are."""


def is_text(config: Mapping[str, Any] | None) -> bool:
    """Whether a configuration is that of a text encoder."""
    return config is not None and str(config.get("model_type")) in TEXT_FAMILIES


def is_sentence_folder(folder: Path) -> bool:
    """Whether a folder was written by sentence-transformers, which may keep the encoder in a folder below."""
    return (folder / MODULES).is_file()


def of_folder(name: str, location: Path, top: Path, asked: ModelAsk, *, weightless: bool) -> Description:
    """Describe the encoder that a folder holds.

    Args:
        location: What the user gave: a folder, or a file of weights in it.
        top: The folder.
        weightless: Leave the weights alone.
    Raises:
        WeightsError: Something is not there, or does not belong together.
        ModelError: A setting cannot be.
    """
    text, asked = TextAsk.taken(asked)
    sentence = sentence_in(top)
    folder = top / sentence.encoder
    config = read_json(folder / CONFIG)
    if config is None:
        raise WeightsError(
            f"{CONFIG} must lie beside the weights; {folder} has none. Fetch it from where they came from."
        )
    family = TEXT_FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise WeightsError(
            f"the encoder of a folder with {MODULES} must be one of {', '.join(TEXT_FAMILIES)}; got "
            f"{config.get('model_type')!r} ({folder / CONFIG}). Choose another encoder."
        )
    settings = family.settings(config, str(folder / CONFIG)) | sentence.settings()
    family.check(asked.model_args or {}, name)
    settings |= dict(asked.model_args or {})
    ready = prepared(folder, top, family, settings, asked, text)
    said = () if "pooling" in (asked.model_args or {}) else sentence.notes
    notes = (*said, *ready.notes)
    if weightless:
        return Description(
            architecture=family.model_type, model_args=settings, preparation=ready.preparation,
            tensors=NoTensors(Path(name)), notes=notes,
        )  # fmt: skip
    weights = open_weights(folder if location == top else location, sha256=asked.sha256)
    dense = [open_weights(top / place) for place, _ in sentence.dense] if settings.get("dense") else []
    encoder = text_encoder_in(weights, family, dense)
    return Description(
        architecture=family.model_type, model_args=settings, preparation=ready.preparation, tensors=encoder.tensors,
        notes=(*encoder.notes, *notes),
    )  # fmt: skip


def unfetched(
    name: str,
    config: Mapping[str, Any],
    asked: ModelAsk,
    sentence: Sentence,
    where: str,
    *,
    length: int | None = None,
) -> Description:
    """Describe an encoder by its configuration alone.

    Args:
        length: Most tokens, if it is known to read fewer than it has positions for.
    """
    text, asked = TextAsk.taken(asked)
    family = TEXT_FAMILIES[str(config["model_type"])]
    family.check(asked.model_args or {}, name)
    settings = family.settings(config, where) | sentence.settings() | dict(asked.model_args or {})
    return Description(
        architecture=family.model_type, model_args=settings, tensors=NoTensors(Path(name)),
        preparation=described(family, settings, asked, text, length), notes=sentence.notes,
    )  # fmt: skip


def build(architecture: str, model_args: Mapping[str, Any], preparation: TextPreparation) -> nn.Module:
    """See ``Provider.build``."""
    import torch

    from thawline.backbones.providers.hf_text_modules import encoder

    family = TEXT_FAMILIES[architecture]
    family.check(model_args, architecture)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and then overwritten: leave no trace
        return encoder(family, model_args, preparation).eval().requires_grad_(False)


def examples(module: nn.Module, shape: tuple[int, ...], n: int) -> torch.Tensor:
    """See ``Provider.examples``: ids of random tokens (n, L), every other row filled up at its end."""
    import torch

    length = min(shape[0], _EXAMPLE_LENGTH)
    vocabulary, pad = int(module.vocabulary), int(module.pad)  # type: ignore[arg-type]
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(0, max(vocabulary - 1, 1), (n, length), generator=draws)
    ids += ids >= pad
    ids[1::2, length - length // 4 :] = pad
    return ids.to(next(module.parameters()).device)


def pooled(activation: torch.Tensor) -> torch.Tensor | None:
    """See ``Provider.pooled``: the mean over tokens, whose rows are not 0, (B, L, W) -> (B, W)."""
    if activation.ndim == 2:
        return activation
    if activation.ndim != 3:
        return None
    from thawline.backbones.providers.hf_text_pooling import pooled as by_mode

    return by_mode("mean", activation, (activation != 0).any(-1, keepdim=True))
