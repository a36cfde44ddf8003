"""Check for packages that options of training need; loads none of them."""

from __future__ import annotations

from importlib.util import find_spec

from thawline.errors import UsageError


def check_peft() -> None:
    """Refuse LoRA without peft, before any work is done.

    Raises:
        UsageError: The package is missing.
    """
    if find_spec("peft") is None:
        raise UsageError(
            "lora_rank must be 0 without peft, which is not installed. Install it with `pip install 'thawline[lora]'`, "
            "or leave lora_rank out."
        )
