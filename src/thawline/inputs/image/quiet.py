"""Keep Pillow's warnings about odd files from the user."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_quiet_lock = threading.Lock()
_quiet: list[warnings.catch_warnings[None]] = []
_quiet_depth = 0


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's remarks on odd files, from any number of threads.

    ``warnings.catch_warnings`` alone may leave its filters behind when threads overlap: the first one in sets them, the
    last one out takes them back.
    """
    global _quiet_depth
    with _quiet_lock:
        _quiet_depth += 1
        if _quiet_depth == 1:
            _quiet.append(warnings.catch_warnings())
            _quiet[0].__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.|thawline\.data\.decode")
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet.pop().__exit__(None, None, None)
