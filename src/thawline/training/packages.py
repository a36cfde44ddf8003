"""What an option of training needs beyond Thawline's own dependencies; loads none of it."""

from __future__ import annotations

from importlib.util import find_spec

from thawline.errors import UsageError


def check_peft() -> None:
    """Refuse LoRA where it cannot be had, before any work is done.

    Raises:
        UsageError: The package is missing.
    """
    if find_spec("peft") is None:
        raise UsageError(
            "lora_rank must be 0 unless peft is installed; it is not there. Install it with "
            "`pip install 'thawline[lora]'`, or leave lora_rank out."
        )
