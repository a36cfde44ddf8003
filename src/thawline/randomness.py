"""Owned randomness: every draw comes from a seed derived from (seed, purpose, index), never from a global generator.

So a draw does not depend on earlier draws, and a resumed run makes the draws that it would have made without the stop.
Importing this module loads no numpy.
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


def early_generator(seed: int, letters: str = "") -> np.random.Generator:
    """Return the NumPy generator of a draw that is older than ``generator``: (seed, letters) seed it as they are.

    Folds, bootstraps, neighbours and the digits of the demo were drawn so when their figures were published. Another
    stream would change every number that depends on them. New draws use ``generator``.

    Args:
        letters: Set the draw apart from others with the same seed, such as ``FOLD``.
    """
    import numpy as np

    return np.random.default_rng((seed, int.from_bytes(letters.encode(), "big")) if letters else seed)
