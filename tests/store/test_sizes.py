import pytest

from thawline.errors import UsageError
from thawline.store.sizes import format_bytes, limit_from_environment, parse_bytes


@pytest.mark.parametrize(
    ("text", "n"),
    [("20GB", 20_000_000_000), ("1.5 tb", 1_500_000_000_000), ("512MiB", 512 * 2**20), ("7", 7), (" 3 kB ", 3000)],
)
def test_reads_sizes_as_people_write_them(text: str, n: int) -> None:
    assert parse_bytes(text, "here") == n


@pytest.mark.parametrize("text", ["much", "GB", "-1GB", "1e3", "5 parsecs"])
def test_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"a size must be a number with a unit, such as 20GB or 500MB; got .* \(here\)"
    ):
        parse_bytes(text, "here")


@pytest.mark.parametrize(("n", "text"), [(999, "999 bytes"), (12_300_000, "12.3 MB"), (2 * 10**12, "2.0 TB")])
def test_writes_sizes_for_people(n: int, text: str) -> None:
    assert format_bytes(n) == text


def test_the_limit_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THAWLINE_CACHE_LIMIT", raising=False)
    assert limit_from_environment() == 20 * 1000**3
    monkeypatch.setenv("THAWLINE_CACHE_LIMIT", "3MB")
    assert limit_from_environment() == 3_000_000
    monkeypatch.setenv("THAWLINE_CACHE_LIMIT", "big")
    with pytest.raises(UsageError, match="THAWLINE_CACHE_LIMIT"):
        limit_from_environment()
