"""The one place that imports transformers."""

from __future__ import annotations

import importlib
from types import ModuleType

from thawline.errors import ModelError
from thawline.scale.releases import release

OLDEST = "5.23"
"""Of the release whose names of layers Thawline knows."""


def is_older() -> bool:
    """Whether the installed release is older than that."""
    installed = release("transformers").split(".")
    return [int(part) for part in installed[:2] if part.isdigit()] < [int(part) for part in OLDEST.split(".")]


def import_transformers(submodule: str) -> ModuleType:
    """Import a module of transformers, such as ``models.vit.modeling_vit``; it opens no connection.

    Args:
        submodule: Empty for the package itself.

    Raises:
        ModelError: The package is not installed, or too old.
    """
    from thawline.backbones.providers.timm_import import import_timm

    import_timm()  # which makes torchvision importable for transformers, too
    try:
        return importlib.import_module(f"transformers.{submodule}".rstrip("."))
    except ImportError as error:
        raise ModelError(
            f"models named hf/... need transformers {OLDEST} or newer; importing it failed: {error}. "
            "Install it: pip install 'thawline[hf]'."
        ) from error
