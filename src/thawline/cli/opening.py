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


def opened_backbone(
    options: ModelOptions, *, name: str | None = None, architecture_only: bool = False, own: bool = False
) -> Backbone:
    """Open the backbone.

    Args:
        options: Which one, and how it takes pictures.
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
