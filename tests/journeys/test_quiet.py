"""Nothing calls home: no command asks the network or leaves a file outside the run, the cache and temporary folders.

Each command runs in a process of its own, in a fresh home folder, under an audit hook that was there before the first
import. The hook sees what Python does; the home folder afterwards shows what compiled libraries did.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = """
import os, sys

ALLOWED = tuple(os.environ["WATCH_ALLOWED"].split(os.pathsep))
LOG = os.open(os.environ["WATCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
PROGRAMS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "pty.spawn")
ASKED = ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "http.client.connect", "ftplib.connect")
MADE = ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "sqlite3.connect", "shutil.copyfile")


def outside(path):
    path = os.path.abspath(os.fsdecode(path))
    return path if not path.startswith(ALLOWED) else None


def hook(event, args):
    said = None
    if event in ASKED:
        said = args[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"):
        said = args[1]
    elif event in PROGRAMS:
        said = None if list(args[1]) == ["uname", "-p"] else args[1]  # Python's own name of the processor
    elif event in MADE:
        places = [arg for arg in args[:2] if isinstance(arg, (str, bytes, os.PathLike))]
        said = outside(places[-1]) if places and os.fspath(places[-1]) != ":memory:" else None
    elif event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        if args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND):
            said = outside(args[0])
    if said:
        os.write(LOG, f"{event} {said}\\n".encode(errors="backslashreplace"))


sys.addaudithook(hook)
"""
MAIN = "from thawline.cli import main; main()"
TINY = ("fit", "photos", "--thaw", "none", "--run", "run/tiny", "--quiet")


class Watched:
    """A machine with a fresh home, where a photo folder and the run ``tiny`` lie."""

    def __init__(self, top: Path, photos: Path, run: Path | None = None) -> None:
        self.top, self.home = top / "machine", top / "machine" / "home"
        for name in ("home", "run", "cache", "temp", "hook"):
            (self.top / name).mkdir(parents=True)
        shutil.copytree(photos, self.top / "photos")
        if run is not None:
            shutil.copytree(run, self.top / "run" / "tiny")
        (self.top / "hook" / "sitecustomize.py").write_text(HOOK)

    def left(self, *words: str, code: str = MAIN, done: int = 0) -> list[str]:
        """Run a command and return what left the machine, or was left on it."""
        log = self.top / "log"
        allowed = [*(str(self.top / name) for name in ("run", "cache", "temp")), "/dev/"]
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
        environment = kept | {
            "HOME": str(self.home),
            "THAWLINE_CACHE": str(self.top / "cache"),
            "TMPDIR": str(self.top / "temp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(self.top / "hook"), kept.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "WATCH_LOG": str(log),
            "WATCH_ALLOWED": os.pathsep.join(allowed),
        }
        command = [sys.executable, "-c", code, *words]
        finished = subprocess.run(command, env=environment, cwd=self.top, capture_output=True, text=True, check=False)
        assert finished.returncode == done, finished.stderr
        assert log.exists()  # the hook was there
        found = sorted(set(log.read_text().splitlines()))
        found += [f"left: {path.relative_to(self.top)}" for path in sorted(self.home.rglob("*"))]
        log.unlink()
        known = {"home", "run", "cache", "temp", "hook", "photos"}
        return found + [f"left: {path.name}" for path in sorted(self.top.iterdir()) if path.name not in known]


@pytest.fixture
def machine(tiny_photos: Path, finished_run: Path, tmp_path: Path) -> Watched:
    return Watched(tmp_path, tiny_photos, finished_run)


def test_the_hook_sees_what_would_leave(machine: Watched) -> None:
    code = (
        "import os, pathlib, socket, subprocess\n"
        "pathlib.Path.home().joinpath('.config').mkdir()\n"
        "open('stray', 'w').close()\n"
        "subprocess.run(['true'])\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))\n"
    )
    found = "\n".join(machine.left(code=code))
    for part in ("os.mkdir", "open ", "subprocess.Popen", "socket.sendto", "left: home/.config", "left: stray"):
        assert part in found


def test_a_fit_leaves_nothing(tiny_photos: Path, tmp_path: Path) -> None:
    assert Watched(tmp_path, tiny_photos).left(*TINY) == []


def test_a_prediction_leaves_nothing_not_even_in_the_cache(machine: Watched) -> None:
    assert machine.left("predict", "run/tiny", "photos") == []
    assert list((machine.top / "cache").iterdir()) == []


@pytest.mark.slow
def test_a_hub_is_asked_only_for_weights_that_were_named(machine: Watched) -> None:
    """The model is not on this disk, and the name of the hub is not found: the error is one sentence."""
    code = f"import socket\nsocket.getaddrinfo = lambda *_, **__: 1 / 0\n{MAIN}"
    assert machine.left("ladder", "timm/resnet18", code=code) == []
    found = machine.left("fit", "photos", "--model", "timm/test_vit", "--run", "run/hub", "--quiet", code=code, done=2)
    assert not [line for line in found if line.startswith(("socket", "left"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "fit photos --run run/new --quiet",
        "fit photos --thaw none --engine torch --run run/new --quiet",
        "fit photos --thaw all --epochs 1 --run run/new --quiet --tensorboard",
        "fit photos --thaw all --set lora_rank=2 --epochs 3 --run run/new --quiet",
        "fit photos --from-scratch --epochs 3 --run run/new --quiet",
        "plan photos --out run/plan.toml --quiet",
        "compare photos --only last-layer,all --out run/compared --quiet",
        "rank photos --models embedded/resnet18_half,random/test_resnet --quiet",
        "features photos --out run/f.parquet --quiet",
        "features photos --out run/f.npz --layer layer3 --engine torch --quiet",
        "evaluate run/tiny photos --quiet",
        "predict run/tiny photos --out run/p.csv",
        "report run/tiny",
        "demo --run run/demo --quiet",
        "models resnet18",
        "ladder embedded/resnet18_half",
        "cache",
        "--help",
    ],
)
def test_no_command_leaves_anything(machine: Watched, words: str) -> None:
    assert machine.left(*words.split()) == []


@pytest.mark.slow
def test_python_leaves_nothing(machine: Watched) -> None:
    code = (
        "import thawline as tl\n"
        "run = tl.fit('photos', run='run/new')\n"
        "tl.load_bundle('run/new').predict('photos')\n"
        "tl.extract_rungs(tl.open_data('photos'), tl.open_backbone(), ['layer3', 'pooled'])\n"
        "tl.ThawlineClassifier().fit([f'photos/disc/disc_0{i}.png' for i in range(9)]\n"
        "    + [f'photos/square/square_0{i}.png' for i in range(9)], ['a'] * 9 + ['b'] * 9)\n"
    )
    assert machine.left(code=code) == []
