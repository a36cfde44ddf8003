from pathlib import Path

import platformdirs
import pytest

from thawline.scale import cache_root


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
