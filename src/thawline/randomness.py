"""Owned randomness: every draw comes from a seed derived from (seed, purpose, index), never from a global generator.

So a draw does not depend on what was drawn before it, and a run that was stopped goes on with the draws that it would
have made. Importing this module loads no numpy.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derived_seed(seed: int, *purpose: str | int) -> int:
    """63 bits that depend on the seed and on every word of the purpose, in order.

    Example:
        >>> derived_seed(0, "order", 3) == derived_seed(0, "order", 3) != derived_seed(0, "order", 4)
        True
    """
    words = "\0".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a fresh NumPy generator for one purpose."""
    import numpy as np

    return np.random.default_rng(derived_seed(seed, *purpose))
