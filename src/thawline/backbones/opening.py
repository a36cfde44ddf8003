"""From a model's name to a backbone: ``FAMILY/NAME``, or ``FAMILY/NAME@FILE`` with weights from the disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from thawline.backbones.backbone import Backbone
from thawline.backbones.catalogue import list_models
from thawline.backbones.completing import completed
from thawline.backbones.names import DEFAULT_MODEL
from thawline.backbones.providers import FAMILIES, provider_of
from thawline.backbones.providers.provider import ModelAsk
from thawline.errors import UnknownModelError, UsageError
from thawline.records import LongText, Preparation


def open_backbone(
    name: str = DEFAULT_MODEL,
    *,
    model_args: Mapping[str, Any] | None = None,
    input_px: int | None = None,
    mean: float | tuple[float, float, float] | None = None,
    std: float | tuple[float, float, float] | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    long: LongText | None = None,
    weights_by_name: bool = False,
    sha256: str | None = None,
    architecture_only: bool = False,
) -> Backbone:
    """Open a pre-trained model by name; nothing is built until something has to be run.

    Args:
        name: ``embedded/NAME`` (ships inside), ``timm/NAME`` (or another family of ``list_models``; weights as its
            library has them), or ``timm/NAME@PATH`` (a file of weights, or a folder with ``config.json``). Arguments
            and preparation come from the file's metadata or the ``config.json`` beside it, else from the library's
            defaults for the architecture, which ``Backbone.notes`` says. A prefix that all names of the model share in
            the file is taken off, which they say, too.
        model_args: Keyword arguments of the library's constructor, such as timm's ``{"pad_type": "same"}``; they
            override what the file says.
        input_px: Side of the square input; with ``mean``, ``std``, ``interpolation`` and ``crop_pct`` it overrides what
            the file says.
        long: What becomes of texts with more tokens than the model takes: ``head`` (the default) reads their beginning,
            ``head-tail`` their beginning and their end, ``windows`` all of them, in parts whose features are averaged.
        weights_by_name: Load what has the same name and shape in the file, and leave the rest random, for a file of a
            partly different architecture. ``Backbone.load_receipt()`` says what matched and what did not.
        sha256: Digest that the weights file must have.
        architecture_only: Do not fetch what lies on the hub, not even from its cache: such a backbone has a ladder and
            cannot be run.
    Raises:
        UnknownModelError: No such model; names the nearest.
        WeightsError: The file is not there, is no safetensors file, is damaged, or is not the promised one.
        HubError: The hub cannot be reached.
        ModelError: An override cannot be.
    """
    family, _, rest = name.partition("/")
    if family not in FAMILIES or not rest:
        raise UnknownModelError(
            f"model must be embedded/NAME, timm/NAME or timm/NAME@FILE, or one of another family "
            f"({', '.join(sorted(FAMILIES.keys() - {'embedded', 'timm'}))}); got {name!r}.{_families_with(name)} "
            f"See `thawline models`; offline: {DEFAULT_MODEL}."
        )
    if long is not None and long not in get_args(LongText):
        raise UsageError(f"long must be one of {', '.join(get_args(LongText))}; got {long!r}.")
    asked = ModelAsk(
        model_args=model_args, input_px=input_px, mean=mean, std=std, interpolation=interpolation, crop_pct=crop_pct,
        long=long, weights_by_name=weights_by_name or None, sha256=sha256,
    )  # fmt: skip
    model, _, location = rest.partition("@")
    if weights_by_name and not location:
        raise UsageError(f"weights by name must come from a file; {name} names none. Write {name}@FILE.")
    found = provider_of(family).describe(name, model, location, asked, architecture_only=architecture_only)
    _check_kind(name, found.preparation, asked)
    family = found.provider or family
    if not architecture_only:
        found = completed(found, asked, family)
    return Backbone(
        name=name,
        provider=family,
        architecture=found.architecture,
        model_args=found.model_args,
        preparation=found.preparation,
        tensors=found.tensors,
        settings=asked.given(),
        notes=found.notes,
        preparation_said=found.preparation_said,
        advice=found.advice,
    )


def _check_kind(name: str, preparation: Preparation, asked: ModelAsk) -> None:
    """Refuse settings that are for models of another kind of input."""
    others = ("long",) if preparation.kind == "image" else ModelAsk.PICTURES
    kinds = {"image": "pictures", "text": "texts"}
    for setting in others:
        if setting in asked.given():
            taken = kinds.pop(preparation.kind)
            raise UsageError(
                f"{setting} is for models that take {kinds.popitem()[1]}; {name} takes {taken}. Leave it out."
            )


def _families_with(name: str) -> str:
    """Name the families that have a model of that name, if it was written without one."""
    bare = name.rpartition("/")[2].partition("@")[0].lower()
    found = (entry.name.partition(".")[0] for entry in list_models(bare or "/"))
    same = dict.fromkeys(model for model in found if model.partition("/")[2].lower() == bare.partition(".")[0])
    return f" Did you mean {' or '.join(same)}?" if same else ""
