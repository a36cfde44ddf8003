"""What sentence-transformers writes beside an encoder: pooling, dense layers, normalisation and prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from thawline.backbones.providers.hf_folder import CONFIG, MODULES, read_json, read_list
from thawline.backbones.providers.hf_text_families import ACTIVATIONS, POOLINGS
from thawline.errors import WeightsError

PROMPTS, LIMITS = "config_sentence_transformers.json", "sentence_bert_config.json"
UNPOOLED = f"No {MODULES} says how tokens become features: their mean is taken. Change it: --model-arg pooling=cls."
"""Said of an encoder that was not trained for sentences."""
_LARGEST_WIDTH = 2**16
_OLD_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""As older releases wrote them, in the order in which they stand side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """What follows an encoder, and where everything lies."""

    encoder: str = ""
    """Folder of the encoder, below that of ``modules.json``."""
    pooling: str = "mean"
    """Names of ``POOLINGS``, joined by ``+``."""
    dense: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """(folder, arguments) of each dense layer."""
    normalize: bool = False
    notes: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return what decides the numbers, fit for JSON."""
        found: dict[str, Any] = {"pooling": self.pooling}
        if self.dense:
            found["dense"] = [dict(arguments) for _, arguments in self.dense]
        return found | ({"normalize": True} if self.normalize else {})


def sentence_in(folder: Path) -> Sentence:
    """Read ``modules.json`` and what it names; without it, the features are the mean of the tokens.

    Raises:
        WeightsError: It names a module that Thawline does not have, or a folder that is not below.
    """
    path = folder / MODULES
    if not path.is_file():
        return Sentence(notes=(UNPOOLED,))
    found = places_in(folder)
    kinds, places = [kind for kind, _ in found], [place for _, place in found]
    shape = "".join(
        {"Transformer": "t", "Pooling": "p", "Dense": "d", "Normalize": "n"}.get(kind, "?") for kind in kinds
    )
    if shape.rstrip("n").rstrip("d") != "tp" or shape.count("n") > 1:
        raise WeightsError(
            f"{MODULES} must list Transformer, Pooling, Dense layers and Normalize, in this order; got "
            f"{', '.join(kinds) or 'nothing'} ({path}). Remove it to take the mean of the encoder's tokens."
        )
    pooling, notes = _pooling(folder / places[1] / CONFIG)
    dense = tuple(
        (place, _dense(folder / place / CONFIG)) for place, kind in zip(places, shape, strict=True) if kind == "d"
    )
    return Sentence(encoder=places[0], pooling=pooling, dense=dense, normalize="n" in shape, notes=notes)


def places_in(folder: Path) -> list[tuple[str, str]]:
    """List the modules of ``modules.json``: (last part of its class, its folder); empty without that file.

    Raises:
        WeightsError: It is no list, or names a folder that is not below.
    """
    path = folder / MODULES
    listed = [module if isinstance(module, dict) else {} for module in read_list(path)]
    return [(str(one.get("type")).rpartition(".")[2], _below(one.get("path", ""), path)) for one in listed]


def _below(place: object, path: Path) -> str:
    """Return the folder of a module, which lies below that of ``modules.json``."""
    parts = PurePosixPath(str(place).replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in str(place):
        raise WeightsError(f"a module must lie below {path.parent}; {path.name} says {place!r}. Correct it.")
    return "" if str(parts) == "." else str(parts)


def _pooling(path: Path) -> tuple[str, tuple[str, ...]]:
    """(names joined by +, notes)"""
    said = _config(path)
    modes = said.get("pooling_mode") or [mode for key, mode in _OLD_POOLINGS.items() if said.get(key)] or "mean"
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not all(mode in POOLINGS for mode in modes):
        raise WeightsError(f"pooling_mode must be one of {', '.join(POOLINGS)}; got {modes!r} ({path}).")
    if said.get("include_prompt", True) is False:
        return "+".join(modes), ("Its pooling leaves a prompt out; Thawline pools over the prompt, too.",)
    return "+".join(modes), ()


def _dense(path: Path) -> dict[str, Any]:
    """Return the arguments of ``Dense`` but for its input."""
    said = _config(path)
    width, activation = said.get("out_features"), str(said.get("activation_function", "Tanh")).rpartition(".")[2]
    if not isinstance(width, int) or not 0 < width <= _LARGEST_WIDTH:
        raise WeightsError(f"out_features must be a whole number up to {_LARGEST_WIDTH:,}; got {width!r} ({path}).")
    if activation not in ACTIVATIONS:
        raise WeightsError(f"activation_function must be one of {', '.join(ACTIVATIONS)}; got {activation!r} ({path}).")
    odd = {key for key in ("module_input_name", "module_output_name") if said.get(key, _PLACE) not in (_PLACE, None)}
    if odd or said.get("use_residual"):
        raise WeightsError(
            f"a dense layer must take and give the features of a text, without a residual; {path} asks for something "
            f"else. Remove {MODULES} to take the mean of the encoder's tokens."
        )
    return {"out_features": width, "bias": bool(said.get("bias", True)), "activation": activation}


_PLACE = "sentence_embedding"


def _config(path: Path) -> dict[str, Any]:
    said = read_json(path)
    if said is None:
        raise WeightsError(f"{MODULES} names {path.parent.name}, which must hold {CONFIG}; {path} is not there.")
    return said


def prompt_of(folder: Path, asked: str | None) -> tuple[str, tuple[str, ...]]:
    """(what is put before each text, notes)

    Args:
        asked: Name of a prompt of the model, or a text; None takes the model's own.
    """
    said = read_json(folder / PROMPTS) or {}
    prompts = said.get("prompts")
    known = {name: text for name, text in prompts.items() if text} if isinstance(prompts, dict) else {}
    name = said.get("default_prompt_name") if asked is None else asked
    if name in known:
        return str(known[name]), (f"Texts are read behind the prompt {known[name]!r} ({name}).",)
    if asked is not None:
        return asked, ()
    if known:
        shown = ", ".join(map(str, known))
        return "", (f"It knows prompts ({shown}), none of them for every text: --model-arg prompt=NAME takes one.",)
    return "", ()
