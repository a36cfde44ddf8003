"""What a sample is, for each kind of input.

Takes a sample as it is stored: the bytes of a file, an array, or a text. Gives its digest, a sketch to compare it by,
and the arrays that a backbone takes. Refuses, with the reason, what cannot be read. A new kind is a folder whose
``kind.py`` has the functions of ``InputKind``, and a line in ``KINDS``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from thawline.inputs.kind import InputKind

KINDS = {"image": "thawline.inputs.image.kind", "text": "thawline.inputs.text.kind"}
"""Name of a kind -> the module that has its functions."""


def kind_of(name: str) -> InputKind:
    """Return the kind of input of that name."""
    return cast("InputKind", import_module(KINDS[name]))
