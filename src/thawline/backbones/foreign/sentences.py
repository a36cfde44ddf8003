"""Sentences about foreign files that both sides of a reader say."""

from __future__ import annotations

from pathlib import Path


def called(name: str, path: Path | str = "{path}") -> str:
    """Return the sentence for a file that wants to call something."""
    return (
        f"weights must be a state dict, which holds tensors only; {path} wants to call {name}, so it is not opened. "
        "If you trust it, load the model where it was made, and save torch.save(model.state_dict(), FILE)."
    )


def shortened(name: str) -> str:
    """Shorten a stranger's name for a message; braces, which stand for the path there, are taken out."""
    short = name if len(name) <= 120 else f"{name[:117]}..."
    return short.replace("{", "(").replace("}", ")")
