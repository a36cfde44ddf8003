"""The interval of a proportion. Importing this module loads nothing."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""Quantile 0.975 of the normal distribution."""


def wilson(successes: float, n: float, *, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, by default of 95 %, without continuity correction.

    Args:
        successes: Need not be whole, nor need ``n``, where samples count for less than one each.
        n: Of how many.
        z: Standard errors that are allowed for.

    Source:
        Wilson 1927, JASA 22:209; recommended for small n by Brown, Cai and DasGupta 2001.
    Raises:
        ValueError: Not 0 <= successes <= n, or n is 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"A proportion needs 0 <= successes <= n and n > 0; got {successes} of {n}.")
    p, z2 = successes / n, z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half
