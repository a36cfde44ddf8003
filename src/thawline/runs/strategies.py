"""The strategies that a comparison runs, and what each asks of the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thawline.errors import UsageError, nearest

if TYPE_CHECKING:
    from thawline.backbones import Backbone

PLAN = "plan"
"""The strategy that measures first, and does what it found best."""
STRATEGIES: Mapping[str, str] = {
    PLAN: "what the plan chose",
    "last-layer": "new linear head on the frozen model",
    "svm": "linear SVM on the frozen model",
    "earlier-layer": "linear head on an earlier layer",
    "all-depths": "linear head on all depths together",
    "mlp-head": "MLP head on the frozen model",
    "last-block": "last blocks and head fine-tuned",
    "half": "upper half fine-tuned",
    "all": "everything fine-tuned",
    "progressive": "unfrozen from the end while it helps",
    "scratch": "same architecture from random weights",
}
"""Name -> what the strategy is, in the order in which they run."""
PIXELS: Mapping[str, str] = {
    "pixel-mlp": "MLP on 32 x 32 pixels",
    "pixel-cnn": "small CNN on 32 x 32 pixels",
}
"""Networks that use no pre-trained model, beside the baselines of every run."""


def chosen(only: Sequence[str], kind: str = "image") -> tuple[list[str], list[str]]:
    """Return the names of the strategies to run, and of the networks on pixels, in order; without ``only``, all.

    Args:
        kind: Of input; only pictures have pixels.
    Raises:
        UsageError: A name that is no strategy of the kind, or none that uses the model.
    """
    pixels = [*PIXELS] if kind == "image" else []
    every = [*STRATEGIES, *pixels]
    for name in only:
        if name not in every:
            hint = " It is for pictures." if name in PIXELS else nearest(name, every)
            raise UsageError(f"strategies must be among {', '.join(every)}; got {name!r}.{hint}")
    names = [name for name in STRATEGIES if not only or name in only]
    if not names:
        raise UsageError(f"strategies must include one that uses the model, such as last-layer; got {', '.join(only)}.")
    return names, [name for name in pixels if not only or name in only]


def settings_of(name: str, backbone: Backbone) -> dict[str, Any]:
    """Return the fields of the plan that a strategy asks for."""
    from thawline.backbones.lines import depth_rungs, thaw_lines

    simple: dict[str, dict[str, Any]] = {
        PLAN: {"thaw": "auto"},
        "last-layer": {"thaw": "none"},
        "svm": {"thaw": "none", "head": "svm"},
        "mlp-head": {"thaw": "none", "head": "mlp", "hidden": (256,), "dropout": 0.2},
        "all": {"thaw": "all"},
        "progressive": {"thaw": "progressive"},
        "scratch": {"from_scratch": True},
    }
    if name in simple:
        return simple[name]
    if name in ("earlier-layer", "all-depths"):
        depths = depth_rungs(backbone.ladder)
        return {"thaw": "none", "layer": ",".join(depths) if name == "all-depths" else depths[len(depths) // 2]}
    lines = thaw_lines(backbone.ladder)
    return {"thaw": lines[0] if name == "last-block" else lines[-2 if len(lines) > 1 else -1]}
