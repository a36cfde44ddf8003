"""timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from thawline.errors import ModelError, nearest
from thawline.records import Preparation

if TYPE_CHECKING:
    from torch import nn


_NOT_ARCHITECTURE = frozenset(
    (
        "cache_dir checkpoint_path exportable features_only no_jit num_classes pretrained pretrained_cfg "
        "pretrained_cfg_overlay pretrained_strict scriptable"
    ).split()
)
"""Arguments of ``timm.create_model`` that a weights file must not decide: they load files or change the result."""


def build(architecture: str, model_args: Mapping[str, Any], preparation: Preparation) -> nn.Module:
    """Create the architecture without its classifier, frozen and in inference mode, weights not yet loaded.

    Raises:
        ModelError: timm does not take these arguments, or the model does not take this input size.
    """
    import torch

    from thawline.backbones.providers.timm_import import import_timm

    timm = import_timm()
    # timm would take a name with a scheme ("hf-hub:...") for a place to fetch code or weights from
    if not timm.is_model(architecture):
        near = nearest(architecture, timm.list_models())
        raise ModelError(f"architecture must be one that timm knows; got {architecture!r}.{near}")
    if forbidden := sorted(_NOT_ARCHITECTURE & model_args.keys()):
        raise ModelError(
            f"model arguments must describe the architecture; got {forbidden[0]!r}, which says where to load from."
        )
    config = timm.get_pretrained_cfg(architecture)
    fixed = config is not None and config.fixed_input_size and "img_size" not in model_args
    if fixed and tuple(config.input_size[1:]) != preparation.input_px:
        raise ModelError(
            f"{architecture} takes {config.input_size[1]} px input only; got {preparation.input_px[0]} px. "
            f"Leave the input size out, or give weights trained with --model-arg img_size={preparation.input_px[0]}."
        )
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and then overwritten: leave no trace
        try:
            module: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **model_args)
        except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, AttributeError) as error:
            raise ModelError(
                f"model arguments must be ones that timm's {architecture} takes; got {dict(model_args)!r}: {error}."
            ) from error
    return module.eval().requires_grad_(False)
