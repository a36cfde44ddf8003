"""Turn what a ranking was asked to compare into backbones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.backbones import default_model, open_backbone
from thawline.backbones.providers import FAMILIES
from thawline.backbones.weights import open_weights
from thawline.errors import UnknownModelError, UsageError, WeightsError
from thawline.randomness import derived_seed
from thawline.scale.disk import storage_errors
from thawline.scale.paths import cache_root
from thawline.store.room import ELSEWHERE

if TYPE_CHECKING:
    from thawline.backbones import Backbone

ON_DISK = ("all", "all on this disk")
"""Every model that opens without a network."""
RANDOM = "random/"
"""Begins the name of an architecture with random weights."""
_SUFFIX = ".safetensors"
_ANOTHER = {"image": "timm/mobilenetv2_100", "text": "hf/sentence-transformers/all-MiniLM-L6-v2"}
"""Kind of input -> a model to compare with the one that ships."""


def names_of(models: str | Sequence[str | Backbone], kind: str = "image") -> list[str | Backbone]:
    """List the models asked for, one entry for each, in the order given.

    Args:
        models: Names as ``open_backbone`` takes them, with commas or as a sequence, or open backbones. Also ``all`` (on
            this disk: what ships, and what the hub's cache holds), a safetensors file that says its architecture, a
            folder of such files, and ``random/ARCH`` or ``random/ARCH@FILE`` for the architecture (of the file) with
            random weights; ARCH is timm's, or begins with a family: ``random/keras/ResNet50``.
        kind: Of input, that the models of ``all`` take.
    Raises:
        UsageError: The same model twice, or fewer than two.
    """
    asked = [name.strip() for name in models.split(",")] if isinstance(models, str) else list(models)
    explicit: list[str | Backbone] = []
    for model in asked:
        explicit += _in_folder(model) if isinstance(model, str) else [model]
    names = [_name(model) for model in explicit]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"models must be different; got {twice[0]} {names.count(twice[0])} times. Leave one out.")
    found: list[str | Backbone] = []
    for model in explicit:
        found += [name for name in on_disk(kind) if name not in names] if model in ON_DISK else [model]
    if len(found) < 2:
        only = f"got {_name(found[0])}" if found else "got none"
        if any(model in ON_DISK for model in explicit):
            only = f"this disk holds only {_name(found[0])}"
        raise UsageError(
            f"models must be at least two, to be compared; {only}. Name more with commas, such as "
            f"{default_model(kind)},{_ANOTHER[kind]} or a file of weights; `thawline models QUERY` lists them."
        )
    return found


def on_disk(kind: str = "image") -> list[str]:
    """Return the names of models whose weights are on this disk: those that ship, then those in caches of libraries.

    Args:
        kind: Of input, that they take.
    """
    from thawline.backbones import list_models

    return [entry.name for entry in list_models() if entry.kind == kind]


def open_contender(model: str | Backbone, seed: int) -> Backbone:
    """Open one of the models that ``names_of`` gave.

    Args:
        seed: Decides random weights.
    Raises:
        ModelError: It cannot be opened; says why.
    """
    if not isinstance(model, str):
        return model
    if model.startswith(RANDOM):
        return _random(model, seed)
    if _is_path(model):
        architecture = open_weights(Path(model).expanduser()).architecture
        if architecture is None:
            raise WeightsError(
                f"weights must name their architecture; {model} does not. Write timm/ARCHITECTURE@{model}."
            )
        return open_backbone(f"timm/{architecture}@{model}")
    return open_backbone(model)


def _name(model: str | Backbone) -> str:
    return model if isinstance(model, str) else model.name


def _is_path(model: str) -> bool:
    """Whether a name is a path to weights, and not the name of a model."""
    return "@" not in model and (model.endswith(_SUFFIX) or Path(model).expanduser().is_dir())


def _in_folder(model: str) -> list[str | Backbone]:
    """Return the files of a folder of weights; a folder with a ``config.json``, as on the hub, is one model."""
    folder = Path(model).expanduser()
    if not _is_path(model) or not folder.is_dir() or (folder / "config.json").is_file():
        return [model]
    files: list[str | Backbone] = [str(path) for path in sorted(folder.glob(f"*{_SUFFIX}"))]
    if not files:
        raise UsageError(f"a folder of weights must hold {_SUFFIX} files; {model} holds none. Give another folder.")
    return files


def _random(name: str, seed: int) -> Backbone:
    """Return an architecture with weights as training from scratch draws them; they are kept in the cache folder."""
    import torch

    rest = name.removeprefix(RANDOM)
    if not rest:
        raise UnknownModelError(f"model must be {RANDOM}ARCHITECTURE; got {name!r}. See `thawline models QUERY`.")
    named = rest if rest.partition("/")[0] in FAMILIES else f"timm/{rest}"
    described = open_backbone(named, architecture_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "backbone"))
        module = described.build()
    settings = [described.architecture, described.model_args, described.preparation.described(), seed]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    path = cache_root() / "random" / f"{digest[:32]}{_SUFFIX}"
    with storage_errors(path, elsewhere=ELSEWHERE):
        path.parent.mkdir(parents=True, exist_ok=True)
    drawn = described.tuned(module, path)
    drawn.name = name
    return drawn
