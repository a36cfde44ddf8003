"""What can be opened: the shipped models, and timm's."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from thawline.backbones.providers.embedded import EMBEDDED


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model that ``open_backbone`` can open."""

    name: str
    parameters: int | None
    """Backbone without head; None where counting would mean building hundreds of models."""
    input_px: int
    licence: str
    offline: bool
    """Opens without a network: ships inside, or already fetched."""


_COUNT_AT_MOST = 40
"""Building a model on torch's meta device to count its parameters takes some 50 ms."""


def list_models(query: str | None = None) -> list[CatalogueEntry]:
    """List models whose name holds ``query`` (or matches it as a pattern, such as ``resnet*``).

    Without a query only the shipped models are listed, and timm is not imported. Offline ones come first, then by name.
    """
    shipped = [
        CatalogueEntry(f"embedded/{model.name}", model.parameters, model.input_px, model.licence, True)
        for model in EMBEDDED.values()
        if query is None or _matches(f"embedded/{model.name}", query)
    ]
    if query is None:
        return shipped
    return sorted(shipped + _from_timm(query), key=lambda entry: (not entry.offline, entry.name))


def _matches(name: str, query: str) -> bool:
    pattern = query if any(c in query for c in "*?[") else f"*{query}*"
    return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name.partition("/")[2], pattern)


def _from_timm(query: str) -> list[CatalogueEntry]:
    from thawline.backbones.providers.hub import is_fetched
    from thawline.backbones.providers.timm_import import import_timm

    timm = import_timm()
    names = [name for name in timm.list_pretrained() if _matches(f"timm/{name}", query)]
    entries = []
    for name in names:
        config = timm.get_pretrained_cfg(name)
        if config.hf_hub_id is None:
            continue
        count = _count_parameters(name.partition(".")[0]) if len(names) <= _COUNT_AT_MOST else None
        entries.append(
            CatalogueEntry(
                name=f"timm/{name}",
                parameters=count,
                input_px=config.input_size[1],
                licence=config.license or "not stated",
                offline=is_fetched(config.hf_hub_id),
            )
        )
    return entries


def _count_parameters(architecture: str) -> int:
    import torch

    from thawline.backbones.providers.timm_import import import_timm

    with torch.device("meta"):
        model = import_timm().create_model(architecture, num_classes=0)
    return sum(parameter.numel() for parameter in model.parameters())
