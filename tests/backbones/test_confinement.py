"""A process that reads a stranger's file can do nothing else, by each of the layers alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from thawline.backbones.foreign import confinement, reading
from thawline.backbones.foreign.confinement import STOPPED
from thawline.errors import WeightsError

ATTEMPTS = {
    "open": "open(canary, 'w').write('x')",
    "os.open": "os.open(canary, os.O_WRONLY | os.O_CREAT)",
    "mkdir": "os.mkdir(canary)",
    "rename": "os.rename(source, canary)",
    "remove": "os.unlink(source)",
    "socket": "socket.socket()",
    "system": "sys.exit(os.system(f'touch {canary}') != 0)",
    "program": "subprocess.run(['touch', canary], check=True)",
    "fork": "os.fork()",
    "kill": "os.kill(os.getppid(), 0)",
    "library": "sys.exit(ctypes.CDLL(None).system(f'touch {canary}'.encode()) != 0)",
}
LAYERS = {
    "hook": "confinement._filter_calls = lambda: None",
    "kernel": "confinement._watch = lambda: None",
}
by_kernel = pytest.mark.skipif(
    sys.platform != "linux" or not confinement.filters_calls(), reason="calls are filtered on Linux on x86-64 only"
)


def attempt(code: str, folder: Path, layer: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "source").write_bytes(b"kept")
    lines = ["import ctypes, os, socket, subprocess, sys", "from thawline.backbones.foreign import confinement", layer,
             f"canary, source = {str(folder / 'canary')!r}, {str(folder / 'source')!r}",
             "confinement.confine(memory_bytes=2**28, cpu_s=20)", code]  # fmt: skip
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("layer", ["hook", pytest.param("kernel", marks=by_kernel)])
@pytest.mark.parametrize("kind", ATTEMPTS)
def test_each_layer_alone_stops_what_is_not_reading(tmp_path: Path, kind: str, layer: str) -> None:
    done = attempt(ATTEMPTS[kind], tmp_path, LAYERS[layer])
    assert done.returncode == STOPPED if layer == "hook" else done.returncode == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
def test_memory_is_limited(tmp_path: Path) -> None:
    assert "MemoryError" in attempt("bytearray(2**30)", tmp_path).stderr


def test_reading_and_threads_go_on(tmp_path: Path) -> None:
    code = "import threading\nt = threading.Thread(target=lambda: print(open(source).read()))\nt.start()\nt.join()"
    done = attempt(code, tmp_path)
    assert done.stdout == "kept\n", done.stderr


@pytest.mark.parametrize(
    ("code", "said"), [(STOPPED, "tried to do more, and its reader was stopped"), (3, r"crashed \(exit code 3\)")]
)
def test_a_reader_that_ends_without_an_answer_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    (tmp_path / "a.pth").write_bytes(b"x")
    monkeypatch.setattr(reading, "_START", f"import os; os._exit({code})")
    with pytest.raises(WeightsError, match=said), reading.read_confined("torch_reader", tmp_path / "a.pth"):
        pass
