"""From the files of a tokenizer to the record that every room uses; neither transformers nor torch is needed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawline.backbones.providers.hf_folder import TOKENIZER, read_json
from thawline.backbones.providers.hf_sentence import LIMITS, prompt_of
from thawline.backbones.providers.hf_tokenizer import tokenizer_in
from thawline.errors import ModelError, WeightsError
from thawline.records import TextPreparation
from thawline.scale.disk import file_sha256

if TYPE_CHECKING:
    from thawline.backbones.providers.hf_text_families import TextFamily
    from thawline.backbones.providers.provider import ModelAsk

TOKENIZER_CONFIG = "tokenizer_config.json"
USUAL_LENGTH = 512
"""Most tokens that are read unless more are asked for: attention takes memory and time as the square of them."""
_LONGEST = 2**16


@dataclass(frozen=True, slots=True)
class Prepared:
    """How texts are prepared, and what is to be said of it."""

    preparation: TextPreparation
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAsk:
    """What a user asks of the preparation of texts."""

    length: int | None = None
    prompt: str | None = None

    @classmethod
    def taken(cls, asked: ModelAsk) -> tuple[TextAsk, ModelAsk]:
        """Take ``length`` and ``prompt`` out of the arguments of a model: (these, the rest).

        Raises:
            ModelError: One cannot be.
        """
        given = dict(asked.model_args or {})
        length, prompt = given.pop("length", None), given.pop("prompt", None)
        if length is not None and (not isinstance(length, int) or not 0 < length <= _LONGEST):
            raise ModelError(f"length must be a whole number of tokens up to {_LONGEST:,}; got {length!r}.")
        if prompt is not None and not isinstance(prompt, str):
            raise ModelError(f"prompt must be a text; got {prompt!r}.")
        return cls(length=length, prompt=prompt), replace(asked, model_args=given or None)


def described(
    family: TextFamily, settings: Mapping[str, Any], asked: ModelAsk, text: TextAsk, length: int | None
) -> TextPreparation:
    """Return the preparation of an encoder whose tokenizer is not on this disk; ``length`` as it is known to have."""
    pad = int(settings.get("pad_token_id", family.pad))
    longest = family.longest(settings, pad)
    return TextPreparation(
        tokenizer_sha256="",
        length=text.length or min(longest, length or USUAL_LENGTH),
        vocabulary=family.vocabulary(settings),
        pad=pad,
        long=asked.long or "head",
        prompt=text.prompt or "",
    )


def prepared(
    folder: Path, top: Path, family: TextFamily, settings: Mapping[str, Any], asked: ModelAsk, text: TextAsk
) -> Prepared:
    """Build the preparation that the model's tokenizer would apply.

    Args:
        folder: Of the encoder and its tokenizer.
        top: Of ``config_sentence_transformers.json``.
        settings: Of the encoder.
    Raises:
        WeightsError: There is no tokenizer, or it belongs to another encoder.
        ModelError: A value cannot be.
    """
    from thawline.inputs.text.tokens import LARGEST, tokens_of

    file, made = tokenizer_in(folder, family)
    limits, said = read_json(folder / LIMITS) or {}, read_json(folder / TOKENIZER_CONFIG) or {}
    layout = read_json(file, most=LARGEST) or {}
    pad = _pad(layout, said, family, settings)
    length, notes = _length(family.longest(settings, pad), limits, said, text.length)
    prompt, told = prompt_of(top, text.prompt)
    preparation = TextPreparation(
        tokenizer_sha256=file_sha256(file),
        tokenizer_file=file.absolute(),
        length=length,
        vocabulary=family.vocabulary(settings),
        pad=pad,
        long=asked.long or "head",
        prompt=prompt,
        lowercase=bool(limits.get("do_lower_case") or (said.get("do_lower_case") and not _lowers(layout))),
    )
    tokens = tokens_of(preparation)
    if max(tokens.largest, pad) >= preparation.vocabulary:
        raise WeightsError(
            f"{TOKENIZER} must belong to the encoder, which has embeddings of {preparation.vocabulary:,} tokens; its "
            f"ids go up to {max(tokens.largest, pad):,} ({file}). Give the tokenizer that was saved with these weights."
        )
    if length <= (special := len(tokens.before) + len(tokens.behind)):
        raise ModelError(f"length must leave room beside {special} special tokens; got {length}.")
    return Prepared(preparation, (*made, *notes, *told))


def _pad(layout: Mapping[str, Any], said: Mapping[str, Any], family: TextFamily, settings: Mapping[str, Any]) -> int:
    """Id of the token that stands for nothing: the tokenizer's, which may differ from what the encoder's file says."""
    usual = int(settings.get("pad_token_id", family.pad))
    if family.counts_from_pad:
        return usual
    token = said.get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    added = layout.get("added_tokens")
    for one in added if isinstance(added, list) else ():
        if (
            token is not None
            and isinstance(one, dict)
            and one.get("content") == token
            and isinstance(one.get("id"), int)
        ):
            return int(one["id"])
    padding = layout.get("padding")
    found = padding.get("pad_id") if isinstance(padding, dict) else None
    return found if isinstance(found, int) else usual


def _length(
    longest: int, limits: Mapping[str, Any], said: Mapping[str, Any], asked: int | None
) -> tuple[int, tuple[str, ...]]:
    """(most tokens of a text, notes)"""
    if asked is not None:
        if asked > longest:
            raise ModelError(f"length must be at most the {longest:,} positions of the encoder; got {asked:,}.")
        return asked, ()
    sizes = (limits.get("max_seq_length"), said.get("model_max_length"))
    own = next((size for size in sizes if isinstance(size, int) and 0 < size <= longest), longest)
    if own <= USUAL_LENGTH:
        return own, ()
    note = f"It can read {own:,} tokens of a text; {USUAL_LENGTH} are read. Set --model-arg length={own} for all."
    return USUAL_LENGTH, (note,)


def _lowers(layout: Mapping[str, Any]) -> bool:
    """Whether a tokenizer makes its texts lower case by itself."""
    normalizer = layout.get("normalizer")
    steps = normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, dict) else []
    steps = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return any(step.get("type") == "Lowercase" or step.get("lowercase") for step in steps)
