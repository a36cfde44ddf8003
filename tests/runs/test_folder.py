"""The run folder: whole or not at all, and never over anything that is not a run."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from thawline.errors import RunError, StorageError
from thawline.runs.folder import CONTENTS, new_run_folder, require_complete


def fill(folder: Path, mark: str = "") -> None:
    for name in CONTENTS:
        (folder / name).write_text(mark)


def test_a_run_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    with new_run_folder(tmp_path / "deep" / "run", "photos") as (draft, target):
        fill(draft)
        assert target == tmp_path / "deep" / "run"
        assert not target.exists()
    require_complete(target)
    assert [path.name for path in target.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_whatever_stops_it_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop), new_run_folder(tmp_path / "run", "photos") as (draft, _):
        fill(draft)
        raise stop
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"disk must have room for .*run; it is full"):
        with new_run_folder(tmp_path / "run", "photos") as (draft, _):
            fill(draft)
            raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 3):
        with new_run_folder(None, "photos") as (draft, target):
            fill(draft)
        assert target == Path("runs") / f"photos-{number}"


def test_a_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    with new_run_folder(tmp_path / "run", "photos") as (draft, _):
        fill(draft, "old")
    with pytest.raises(RunError, match=r"must be new; .*run holds a run. Choose another --run, or add --force"):
        with new_run_folder(tmp_path / "run", "photos"):
            pass
    with (
        pytest.raises(ValueError, match="stopped"),
        new_run_folder(tmp_path / "run", "photos", force=True) as (draft, _),
    ):
        raise ValueError("stopped")
    assert (tmp_path / "run" / "plan.toml").read_text() == "old"
    with new_run_folder(tmp_path / "run", "photos", force=True) as (draft, _):
        fill(draft, "new")
    assert (tmp_path / "run" / "plan.toml").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_no_run_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(RunError, match="holds other things, which are never overwritten"):
        with new_run_folder(tmp_path, "photos", force=True):
            pass
    assert (tmp_path / "thesis.tex").read_text() == "ten years"


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with new_run_folder(tmp_path / "run", "photos") as (draft, target):
        fill(draft)
    require_complete(target)


def test_an_incomplete_run_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must be a folder that `thawline fit` wrote; .*none is not there"):
        require_complete(tmp_path / "none")
    with pytest.raises(RunError, match="holds no run"):
        require_complete(tmp_path)
    fill(tmp_path)
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "receipt.json").unlink()
    with pytest.raises(RunError, match=r"lacks metrics.json, receipt.json. Copy it again"):
        require_complete(tmp_path)
