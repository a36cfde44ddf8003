"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from thawline.errors import StorageError
from thawline.scale.disk import storage_errors, utf8_path, written_whole


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a.csv") as file:
        file.write("one\n")
        assert not (tmp_path / "a.csv").exists()
    assert (tmp_path / "a.csv").read_text() == "one\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.csv"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, stop: type[BaseException]) -> None:
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(stop), written_whole(tmp_path / "a.csv") as file:
        file.write("half")
        raise stop
    assert (tmp_path / "a.csv").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.csv"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(tmp_path: Path, code: int) -> None:
    with pytest.raises(StorageError) as caught, written_whole(tmp_path / "a.bin", "wb") as file:
        file.write(b"half")
        raise OSError(code, "full")
    assert str(caught.value) == (
        f"{tmp_path / 'a.bin'} cannot be written: the disk is full. Free some space (`thawline cache clear` may help), "
        "or choose a place on another disk."
    )
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written: Not a directory"):
        with written_whole(tmp_path / "file" / "a.csv"):
            pass
    with pytest.raises(StorageError, match=r"No such file or directory\. Choose a place that can be written\."):
        with written_whole(tmp_path / "none" / "a.csv"):
            pass


@pytest.mark.parametrize("code", [errno.EROFS, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP])
def test_whatever_the_system_refuses_is_one_sentence(tmp_path: Path, code: int) -> None:
    reason = os.strerror(code)
    with pytest.raises(StorageError, match=f"cannot be written: {reason}"), storage_errors(tmp_path):
        raise OSError(code, reason)


def test_what_was_said_is_not_said_again(tmp_path: Path) -> None:
    first = StorageError("already said")
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path):
        raise first
    assert caught.value is first


def test_other_languages_get_a_path_that_they_can_read(tmp_path: Path) -> None:
    plain, odd = tmp_path / "plain", tmp_path / os.fsdecode(b"caf\xe9")
    for file in (plain, odd):
        file.write_text("here")
    with utf8_path(plain) as path:
        assert path == plain
    with utf8_path(odd) as path:
        str(path).encode()
        assert path.read_text() == "here"
    assert not path.exists()


def test_the_longest_names_are_written(tmp_path: Path) -> None:
    name = "x" * 251 + ".csv"
    with written_whole(tmp_path / name) as file:
        file.write("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
