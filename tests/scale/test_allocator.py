import ctypes
import subprocess
import sys

import pytest

from thawline.scale.allocator import keep_freed_memory

_COUNT_FAULTS = """
import resource, sys
import numpy as np
from thawline.scale.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
for _ in range(2):  # the first round fetches the memory from the system in any case
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(64 * 2**20, np.uint8)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults)
"""


def _faults(mode: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", _COUNT_FAULTS, mode], capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_used_again_without_a_page_fault() -> None:
    kept, with_it = _faults("keep")
    if kept == "False":
        pytest.skip("the C library here is not glibc")
    _, without = _faults("leave")
    assert without >= 64  # 4 x 64 MiB, faulted in again each time, in pages of 4 KiB or 2 MiB
    assert with_it < without / 10


def test_says_so_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(_: str) -> ctypes.CDLL:
        raise OSError("libc.so.6: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert keep_freed_memory() is False


def test_does_nothing_on_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
