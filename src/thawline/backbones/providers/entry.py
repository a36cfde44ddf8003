"""One line of the catalogue of models, and the question that finds it."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from thawline.backbones.providers.licences import is_non_commercial


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One model that ``open_backbone`` can open."""

    name: str
    parameters: int | None
    """Of the backbone without its head; None if they were not counted."""
    flops: int | None = None
    """Of one picture in the backbone, at this input: 2 for each multiply-add; None if they were not counted."""
    input_px: int
    """0 for a model of texts."""
    licence: str
    offline: bool
    """The weights are on this disk: they ship inside, or were fetched before, by whatever program."""

    @property
    def kind(self) -> str:
        """Of input, that it takes."""
        return "image" if self.input_px else "text"

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return is_non_commercial(self.licence)


def matches(name: str, query: str) -> bool:
    """Whether a name, with or without its family, holds a query or matches it as a pattern, such as ``resnet*``.

    Upper and lower case are the same: Keras writes ResNet50 where others write resnet50.
    """
    name, query = name.lower(), query.lower()
    pattern = query if any(c in query for c in "*?[") else f"*{query}*"
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.partition("/")[2], pattern)
