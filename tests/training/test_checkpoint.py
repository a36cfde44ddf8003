"""A checkpoint is the old one or the new one, whatever happens; and it never runs code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from thawline.errors import RunError
from thawline.training import checkpoint
from thawline.training.checkpoint import having_prefix, prefixed, read_checkpoint, write_checkpoint


def tensors(value: float) -> dict[str, torch.Tensor]:
    image = torch.full((2, 3, 4, 4), value).contiguous(memory_format=torch.channels_last)
    image[0, 1, 2, 3] = -value
    return {
        "weights.conv.weight": image,
        "weights.step": torch.tensor(value),
        "half": torch.full((3,), value, dtype=torch.bfloat16),
        "count": torch.tensor([1, 2], dtype=torch.int64),
        "bytes": torch.arange(32, dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
        "needs gradient": torch.ones(2, requires_grad=True) * value,
    }


def assert_holds(path: Path, value: float) -> None:
    found = read_checkpoint(path)
    assert found is not None
    expected = tensors(value)
    assert found[0].keys() == expected.keys()
    for name, tensor in found[0].items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name
    assert found[1] == {"value": value, "names": ["a", "ü"], "none": None, "infinite": float("inf")}


def write(path: Path, value: float) -> None:
    write_checkpoint(
        path, tensors(value), {"value": value, "names": ["a", "ü"], "none": None, "infinite": float("inf")}
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "step.safetensors"
    assert read_checkpoint(path) is None
    write(path, 0.1)
    assert_holds(path, 0.1)
    write(path, 0.2)
    assert_holds(path, 0.2)
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_that_share_memory_are_written_each(tmp_path: Path) -> None:
    table = torch.arange(6.0).view(2, 3)
    write_checkpoint(tmp_path / "c", {"tied": table, "again": table, "part": table[0]}, {})
    found = read_checkpoint(tmp_path / "c")
    assert found is not None
    assert torch.equal(found[0]["again"], table)
    assert torch.equal(found[0]["part"], table[0])


@pytest.mark.parametrize("moment", ["save", "write", "fsync", "replace"])
def test_a_kill_at_any_moment_leaves_the_old_one(tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "step.safetensors"
    write(path, 0.1)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    if moment == "save":
        monkeypatch.setattr(checkpoint, "save", killed)
    elif moment == "write":
        real = checkpoint.written_whole
        monkeypatch.setattr(checkpoint, "written_whole", lambda *args: _Breaking(real(*args), Killed))
    elif moment == "fsync":
        monkeypatch.setattr("os.fsync", killed)
    else:
        monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Killed):
        write(path, 0.2)
    monkeypatch.undo()
    assert_holds(path, 0.1)


class _Breaking:
    """A file that takes half of what is written into it, then the process ends."""

    def __init__(self, context: object, killed: type[BaseException]) -> None:
        self.context, self.killed = context, killed

    def __enter__(self) -> _Breaking:
        self.file = self.context.__enter__()  # type: ignore[attr-defined]
        return self

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(*error)  # type: ignore[attr-defined]

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        raise self.killed


@pytest.mark.parametrize("damage", ["cut off", "header", "nothing", "pickle", "other", "state", "folder"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "step.safetensors"
    write(path, 0.1)
    content = path.read_bytes()
    if damage == "cut off":
        path.write_bytes(content[:-5])
    elif damage == "header":
        path.write_bytes(b"\xff" * 16 + content[16:])
    elif damage == "nothing":
        path.write_bytes(b"")
    elif damage == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif damage == "other":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    elif damage == "state":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path, {"state": "{"})
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(RunError, match=r"checkpoint must be whole; .*step\.safetensors is damaged"):
        read_checkpoint(path)
    assert not Bomb.exploded


class Bomb:
    exploded = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (_explode, ())


def _explode() -> None:
    Bomb.exploded = True


def test_prefixes() -> None:
    one = torch.ones(1)
    both = prefixed("a", {"x.y": one}) | prefixed("a.b", {"z": one}) | prefixed("ab", {"w": one})
    assert both.keys() == {"a.x.y", "a.b.z", "ab.w"}
    assert having_prefix("a", both).keys() == {"x.y", "b.z"}
    assert having_prefix("ab", both).keys() == {"w"}
    assert having_prefix("c", both) == {}
