"""Features that no memory or cache could hold are refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import thawline as tl
from thawline.errors import UsageError
from thawline.features import width
from thawline.features.width import check_room
from thawline.scale import memory


def test_what_fits_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tl.open_backbone()
    monkeypatch.setattr(width, "free_memory", lambda: 8 * 4_096 * 10)
    check_room(backbone, "pooled:flatten", 10, fitting=False)


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tl.open_backbone()
    monkeypatch.setattr(width, "free_memory", lambda: 1_000_000)
    with pytest.raises(
        UsageError,
        match=r"Fitting a head on 4,096 features of each of 10 samples \(pooled:flatten\) takes about 1.3 MB of "
        r"memory; 1.0 MB are free. Choose --pooling grid:2 or avg",
    ):
        check_room(backbone, "pooled:flatten", 10, fitting=True)
    check_room(backbone, "pooled:flatten", 10, fitting=False)


def test_pooled_features_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tl.open_backbone()
    monkeypatch.setattr(width, "free_memory", lambda: 0)
    check_room(backbone, "layer1,pooled", 10**9, fitting=True)
    assert not backbone.is_built


def test_the_cache_must_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAWLINE_CACHE_LIMIT", "1MB")
    with pytest.raises(UsageError, match=r"takes 1.6 MB; the cache may hold 1.0 MB. Raise THAWLINE_CACHE_LIMIT"):
        check_room(tl.open_backbone(), "pooled:flatten", 100, fitting=False)


def test_free_memory_keeps_within_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:     500 kB\n")
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.free_memory() == 500 * 1024
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory() == 500 * 1024
    (tmp_path / "memory.max").write_text("3000\n")
    assert memory.free_memory() == 2000
    (tmp_path / "meminfo").unlink()
    (tmp_path / "memory.max").unlink()
    assert memory.free_memory() is None
