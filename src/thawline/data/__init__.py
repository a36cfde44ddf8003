"""Takes what you bring: class folders, tables, arrays, lists of paths, Hugging Face data sets.

Gives a `Dataset` in which every sample has been read and decoded once, and a `Split` of it that never leaks. Refuses,
in one sentence, what cannot be trained on, and lists each file that cannot be read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thawline.data.dataset import open_data as open_data
    from thawline.data.dataset import open_files as open_files
    from thawline.data.dataset import subset as subset
    from thawline.data.decode import open_image as open_image
    from thawline.data.decode import prepare as prepare
    from thawline.data.split import split_data as split_data

_HOME = {
    "open_data": "dataset",
    "open_files": "dataset",
    "open_image": "decode",
    "prepare": "decode",
    "split_data": "split",
    "subset": "dataset",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
