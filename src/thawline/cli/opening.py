"""Open what was typed: the data and the backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thawline.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from thawline.backbones import Backbone
    from thawline.cli.options import DataOptions, ModelOptions
    from thawline.listening import Watcher
    from thawline.records import Dataset
    from thawline.runs.opening import BackboneFor


def opened(data: Path, options: DataOptions, listener: Watcher, **more: Any) -> Dataset:
    """Open labelled data.

    Args:
        data: What was typed as DATA.
        options: How to read them.
        listener: Hears of progress.
        more: Other arguments of ``runs.opening.opened``.
    """
    from thawline.runs import opening

    return opening.opened(data, listener, **options.opening(), **more)


def opened_together(
    data: Path,
    options: DataOptions,
    model: ModelOptions,
    listener: Watcher,
    *,
    own: bool = False,
    **more: Any,
) -> tuple[Dataset, Backbone]:
    """Open labelled data, and the backbone that was typed or suits their kind.

    Args:
        own: As in ``opened_backbone``.
        more: Other arguments of ``runs.opening.opened_together``.
    """
    from thawline.runs import opening

    return opening.opened_together(data, listener, backbone_for(model, own=own), **options.opening(), **more)


def backbone_for(options: ModelOptions, *, architecture_only: bool = False, own: bool = False) -> BackboneFor:
    """Return what opens the backbone for a kind of input; one that was typed is open already, for any kind.

    Args: As in ``opened_backbone``.
    """
    from thawline.backbones import default_model

    def named(name: str) -> Backbone:
        return opened_backbone(options, name=name, architecture_only=architecture_only, own=own)

    if options.model:
        typed = named(options.model)
        return lambda _kind: typed
    return lambda kind: named(default_model(kind))


def opened_backbone(
    options: ModelOptions, *, name: str | None = None, architecture_only: bool = False, own: bool = False
) -> Backbone:
    """Open the backbone.

    Args:
        options: Which one, and how it takes samples.
        name: Its name, if it is no option of the verb.
        architecture_only: Fetch no weights.
        own: Whether the verb measures a mean or standard deviation that is to be that of the training set.
    Raises:
        UsageError: It does not, and one is wanted.
    """
    from thawline.backbones import DEFAULT_MODEL, open_backbone

    if options.own() and not own:
        raise UsageError(
            f"--{options.own()[0]} own is measured on a training set; this verb has none. Use it with fit, plan or "
            "compare, or give the numbers."
        )
    return open_backbone(
        name or options.model or DEFAULT_MODEL, **options.settings(), architecture_only=architecture_only
    )
