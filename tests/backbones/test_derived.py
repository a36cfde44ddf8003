import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from thawline.backbones.derived import derived
from thawline.errors import HubError, StorageError, WeightsError
from thawline.scale import cache_root
from thawline.store import room
from thawline.store.weights import WeightsShelf


def _writing(value: float, calls: list[float]):
    def write(path: Path) -> None:
        calls.append(value)
        save_file({"w": np.full(3, value, np.float32)}, path, {"source": "net.pth"})

    return write


def test_a_file_is_made_once_for_a_source_and_a_purpose():
    calls: list[float] = []
    first = derived("ab", "double", _writing(1.0, calls))
    assert derived("ab", "double", _writing(2.0, calls)) == first
    assert load_file(first)["w"].tolist() == [1.0, 1.0, 1.0]
    assert derived("ab", "treble", _writing(3.0, calls)) != first
    assert derived("ac", "double", _writing(4.0, calls)) != first
    assert calls == [1.0, 3.0, 4.0]


def test_a_damaged_file_is_made_again():
    path = derived("ab", "double", _writing(1.0, []))
    path.write_bytes(path.read_bytes()[:-1])
    assert load_file(derived("ab", "double", _writing(1.0, [])))["w"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("error", [WeightsError("no"), HubError("no")])
def test_what_cannot_be_made_leaves_nothing(error: Exception):
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with pytest.raises(type(error), match="no"):
        derived("ab", "double", write)
    assert list((cache_root() / "weights").iterdir()) == []


def test_without_a_cache_the_file_lies_in_a_temporary_folder_until_the_process_ends(tmp_path: Path):
    (tmp_path / "cache").write_text("a file where the cache should be")
    code = (
        "from thawline.backbones.derived import derived; import numpy as np; from safetensors.numpy import save_file\n"
        "write = lambda path: save_file({'w': np.ones(2, np.float32)}, path)\n"
        "path = derived('ab', 'x', write); assert path.is_file() and derived('ab', 'x', None) == path; print(path)"
    )
    environment = os.environ | {"THAWLINE_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(str(tmp_path / "thawline-weights-"))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_full_disk_is_one_sentence():
    def write(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="the disk is full"):
        derived("ab", "double", write)


def test_the_cache_lists_and_limits_them_but_spares_what_this_process_uses():
    path = derived("ab", "double", _writing(1.0, []))
    shelf = WeightsShelf()
    (entry,) = shelf.usage()
    assert (entry.model, entry.rung, entry.precision) == ("net.pth", "(weights)", "f32")
    room.make_room(cache_root(), 0)
    assert path.is_file()
    size = path.stat().st_size
    assert shelf.clear() == size
    assert shelf.usage() == []
