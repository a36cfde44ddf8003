"""Modules without memory: shapes and names, no numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

_DRAWS = frozenset(("normal_", "uniform_", "trunc_normal_", "random_", "bernoulli_", "exponential_"))
"""Functions of torch that fill a tensor with random numbers."""


def without_draws() -> AbstractContextManager[object]:
    """Write no random numbers into tensors, for modules without memory.

    Torch draws into such a tensor by a function written in Python, and imports its compiler for that: a second or more.
    """
    from torch.overrides import TorchFunctionMode

    class WithoutDraws(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if getattr(function, "__name__", "") in _DRAWS:
                return args[0] if args else (kwargs or {})["tensor"]  # as torch.nn.init passes it on
            return function(*args, **(kwargs or {}))

    mode: AbstractContextManager[object] = WithoutDraws()
    return mode
