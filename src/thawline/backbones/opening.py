"""From a model's name to a backbone: ``embedded/NAME``, ``timm/NAME`` or ``timm/NAME@FILE``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from thawline.backbones.backbone import Backbone
from thawline.backbones.providers.embedded import DEFAULT_MODEL, EMBEDDED
from thawline.backbones.providers.timm_preparation import preparation_from
from thawline.backbones.weights import TensorFile, WeightsFile, check_architecture, open_weights
from thawline.errors import ModelError, UnknownModelError, UsageError, nearest

_FAMILIES = ("embedded", "timm")


def open_backbone(
    name: str = DEFAULT_MODEL,
    *,
    model_args: Mapping[str, Any] | None = None,
    input_px: int | None = None,
    mean: float | tuple[float, float, float] | None = None,
    std: float | tuple[float, float, float] | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    sha256: str | None = None,
    architecture_only: bool = False,
) -> Backbone:
    """Open a pre-trained model by name; nothing is built until something has to be run.

    Args:
        name: ``embedded/NAME`` (ships inside), ``timm/NAME`` (from the hub), or ``timm/NAME@PATH`` (a safetensors file,
            or a folder with ``config.json``). Arguments and preparation come from the file's metadata or the
            ``config.json`` beside it, else from timm's defaults for the architecture.
        model_args: Keyword arguments of ``timm.create_model`` (``{"pad_type": "same"}``); override what the file says.
        input_px: Side of the square input; with ``mean``, ``std``, ``interpolation`` and ``crop_pct`` it overrides what
            the file says.
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
    if family not in _FAMILIES or not rest:
        raise UnknownModelError(
            f"model must be embedded/NAME, timm/NAME or timm/NAME@FILE.safetensors; got {name!r}. "
            f"See `thawline models`; offline: {DEFAULT_MODEL}."
        )
    architecture, _, location = rest.partition("@")
    if family == "embedded":
        weights = _embedded(architecture, location)
        architecture = weights.architecture or architecture
    elif location:
        weights = open_weights(Path(location).expanduser(), sha256=sha256)
        architecture = _without_tag(architecture)
        check_architecture(architecture, weights)
    elif architecture_only:
        if sha256 is not None:
            raise UsageError(
                f"sha256 is for weights that are read; those of {name} stay on the hub here. Leave it out."
            )
        config = _timm_config(architecture, name)
        weights = _Unfetched(path=Path(name), architecture=None, model_args={}, pretrained_cfg=config)
        architecture = _without_tag(architecture)
    else:
        weights = _from_hub(architecture, name, sha256)
        architecture = weights.architecture or _without_tag(architecture)

    given = {"input_px": input_px, "mean": mean, "std": std, "interpolation": interpolation, "crop_pct": crop_pct}
    config = _timm_config(architecture, name) if not weights.pretrained_cfg else weights.pretrained_cfg
    weights = replace(weights, pretrained_cfg=config)
    config = config | _asked(**given)
    if input_px is not None:
        config["input_size"] = [3, input_px, input_px]
    arguments = weights.model_args | dict(model_args or {})
    return Backbone(
        name=name,
        architecture=architecture,
        model_args=arguments,
        preparation=preparation_from(config, name),
        tensors=weights.tensors,
        settings=_asked(model_args=model_args, **given, sha256=sha256),
    )


class _Unfetched(WeightsFile):
    """Weights that stay on the hub, of a model that is only described."""

    @property
    def tensors(self) -> TensorFile:
        return _NoTensors(self.path)


class _NoTensors(TensorFile):
    """Refuses whatever would need the weights."""

    def entries(self) -> dict[str, Mapping[str, Any]]:
        raise ModelError(f"{self.path} was opened for its architecture only; to run it, open it with its weights.")

    def digest(self) -> str:
        return str(self.entries())

    def load(self) -> dict[str, Any]:
        return self.entries()


def _asked(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _embedded(name: str, location: str) -> WeightsFile:
    if location:
        raise UsageError(
            f"embedded models bring their own weights; got embedded/{name}@{location}. Write timm/{name}@{location}."
        )
    if name not in EMBEDDED:
        raise UnknownModelError(
            f"embedded model must be one of {', '.join(EMBEDDED)}; got {name!r}.{nearest(name, EMBEDDED)}"
        )
    return open_weights(EMBEDDED[name].path, sha256=EMBEDDED[name].sha256)


def _from_hub(tagged: str, name: str, sha256: str | None) -> WeightsFile:
    from thawline.backbones.providers.hub import fetch

    return open_weights(fetch(hub_repository(tagged, name), name, DEFAULT_MODEL), sha256=sha256)


def hub_repository(tagged: str, name: str) -> str:
    """Hub repository of a timm model, ``arch`` or ``arch.tag``."""
    config = _timm_config(tagged, name)
    repository = config.get("hf_hub_id")
    if not repository:
        raise UnknownModelError(
            f"{name} has no pre-trained weights on the hub. Give weights of your own as {name}@FILE.safetensors, "
            "or choose another model: `thawline models`."
        )
    return str(repository)


def _timm_config(tagged: str, name: str) -> dict[str, Any]:
    """timm's own description of a model's input, as the keys of its hub ``config.json``."""
    from thawline.backbones.providers.timm_import import import_timm

    timm = import_timm()
    architecture, _, tag = tagged.partition(".")
    if not timm.is_model(architecture):
        near = nearest(architecture, timm.list_models())
        raise UnknownModelError(f"model must be one that timm knows; got {name!r}.{near} See `thawline models QUERY`.")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise UnknownModelError(
            f"{architecture} comes as {', '.join(tags) or 'no pre-trained weights'}; got tag {tag!r}."
        )
    return dict(timm.get_pretrained_cfg(tagged).to_dict())


def _without_tag(tagged: str) -> str:
    return tagged.partition(".")[0]
