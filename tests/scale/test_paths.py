import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from thawline.scale import cache_root, paths
from thawline.scale.paths import cache_remark


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "c"))
    assert cache_root() == tmp_path / "c"
    monkeypatch.setenv("THAWLINE_CACHE", "~/c")
    assert cache_root() == Path.home() / "c"
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("empty", [True, False])
def test_otherwise_where_the_platform_keeps_caches(monkeypatch: pytest.MonkeyPatch, empty: bool) -> None:
    monkeypatch.setenv("THAWLINE_CACHE", "") if empty else monkeypatch.delenv("THAWLINE_CACHE")
    assert cache_root() == platformdirs.user_cache_path("thawline")
    assert cache_remark() is None


def _unusual(monkeypatch: pytest.MonkeyPatch, usual: Path) -> Path:
    monkeypatch.delenv("THAWLINE_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: usual)
    return cache_root()


@pytest.mark.parametrize("home", ["a file", "read only", "nobody's"])
def test_a_home_that_cannot_be_written_is_replaced_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str
) -> None:
    (tmp_path / "a file").write_text("")
    (tmp_path / "read only").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: "read only" not in str(place) and access(place, mode))
    usual = Path("~") / "cache" if home == "nobody's" else tmp_path / home / ".cache" / "thawline"
    found = _unusual(monkeypatch, usual)
    assert found == cache_root() != usual
    assert not found.exists() and found.parent.is_dir()
    said = cache_remark()
    assert said is not None and str(usual) in said and "Set THAWLINE_CACHE" in said


def test_the_folder_that_the_environment_names_is_never_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "file" / "cache"))
    assert cache_root() == tmp_path / "file" / "cache"
    assert cache_remark() is None


def test_if_nothing_can_be_written_the_usual_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(paths.tempfile, "gettempdir", nowhere)
    (tmp_path / "file").write_text("")
    assert _unusual(monkeypatch, tmp_path / "file" / "cache") == tmp_path / "file" / "cache"


def test_a_temporary_cache_ends_with_its_process(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    code = (
        "from thawline.scale import cache_root\n"
        "cache_root().mkdir()\n"
        "(cache_root() / 'x').write_text('')\n"
        "print(cache_root(), cache_root().is_dir())\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("THAWLINE", "XDG"))}
    environment = kept | {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    place, was_there = done.stdout.split()
    assert was_there == "True" and Path(place).parent == tmp_path
    assert not Path(place).exists()
