import errno
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from thawline.errors import StorageError, UsageError
from thawline.store import shards as shards_module
from thawline.store import store as store_module
from thawline.store.keys import FeatureKey
from thawline.store.room import Shelf
from thawline.store.store import FeatureStore

Draw = Callable[..., list[str]]


def _values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)


def _files(store: FeatureStore, key: FeatureKey, pattern: str = "*.safetensors") -> list[Path]:
    return sorted((store.root / "features" / key.digest()).glob(pattern))


def test_rows_come_back_by_content_in_any_order(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    digests, values = sample_digests(50), _values(50)
    store = FeatureStore(tmp_path)
    store.append(key, digests[:20], values[:20])
    store.append(key, digests[20:], values[20:])
    order = np.random.default_rng(0).permutation(50)
    asked = [digests[i] for i in order] + sample_digests(3, seed=9)
    rows = FeatureStore(tmp_path).lookup(key, asked)
    assert rows.found.tolist() == [True] * 50 + [False] * 3
    np.testing.assert_array_equal(rows.read(np.arange(50)), values[order])
    np.testing.assert_array_equal(rows.read(np.array([7, 7, 3])), values[order][[7, 7, 3]])
    assert rows.row_shape == (5,)
    with pytest.raises(KeyError, match="not stored"):
        rows.read(np.array([0, 51]))


def test_gather_refuses_a_sample_that_is_not_stored(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    store = FeatureStore(tmp_path)
    a, b = sample_digests(2)
    store.append(key, [a], _values(1))
    np.testing.assert_array_equal(store.gather(key, [a, a]), _values(1)[[0, 0]])
    with pytest.raises(KeyError, match=b):
        store.gather(key, [a, b])


def test_an_empty_store_has_nothing_and_writes_nothing(
    clean_cache: Path, key: FeatureKey, sample_digests: Draw
) -> None:
    store = FeatureStore()
    rows = store.lookup(key, sample_digests(3))
    assert not rows.found.any()
    assert rows.row_shape is None
    assert rows.read(np.array([], np.int64)).size == 0
    store.append(key, [], np.empty((0, 5), np.float32))
    assert store.usage() == []
    assert store.clear() == 0
    assert not clean_cache.exists()


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [("float32", np.float32), ("float16", np.float16), ("bfloat16", np.uint16), ("uint8", np.uint8)],
)
def test_keeps_whole_activations_in_every_number_format(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, stored: str, dtype: type
) -> None:
    key = replace(key, dtype=stored)  # type: ignore[arg-type]
    bits = np.random.default_rng(0).integers(0, 256, (4, 3, 2, 2 * np.dtype(dtype).itemsize), dtype=np.uint8)
    values = bits.view(dtype)  # any bits at all, also those of NaN
    FeatureStore(tmp_path).append(key, sample_digests(4), values)
    got = FeatureStore(tmp_path).gather(key, sample_digests(4))
    assert got.dtype == dtype and got.shape == (4, 3, 2, 2)
    assert got.tobytes() == values.tobytes()


def test_refuses_values_that_do_not_fit(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    store = FeatureStore(tmp_path)
    with pytest.raises(ValueError, match=r"values must be 2 rows of float32; got float64 \(2, 5\)"):
        store.append(key, sample_digests(2), _values(2).astype(np.float64))
    with pytest.raises(ValueError, match=r"values must be 3 rows of float32; got float32 \(2, 5\)"):
        store.append(key, sample_digests(3), _values(2))
    for wrong in ("ab", "z" * 64, "a" * 63 + " "):
        with pytest.raises(ValueError, match=r"SHA-256|hexadecimal"):
            store.lookup(key, [wrong])


def test_large_arrays_become_several_shards(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SHARD_BYTES", 3 * 20)  # three rows of five float32
    store = FeatureStore(tmp_path)
    store.append(key, sample_digests(10), _values(10))
    assert len(_files(store, key)) == 4
    np.testing.assert_array_equal(store.gather(key, sample_digests(10)), _values(10))


def test_reading_maps_the_file_instead_of_loading_it(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    store = FeatureStore(tmp_path)
    store.append(key, sample_digests(4), _values(4))
    shard = shards_module.open_shard(_files(store, key)[0], "float32")
    assert isinstance(shard.values(), np.memmap)
    assert not shard.values().flags.writeable


def test_a_second_look_sees_what_another_store_wrote(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    ours, theirs = FeatureStore(tmp_path), FeatureStore(tmp_path)
    assert not ours.lookup(key, sample_digests(2)).found.any()
    theirs.append(key, sample_digests(2), _values(2))
    np.testing.assert_array_equal(ours.gather(key, sample_digests(2)), _values(2))


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "not safetensors"])
def test_a_damaged_shard_is_set_aside_and_said_once(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    digests, values = sample_digests(6), _values(6)
    store = FeatureStore(tmp_path)
    store.append(key, digests[:3], values[:3])
    broken = _files(store, key)[0]
    store.append(key, digests[3:], values[3:])
    content = bytearray(broken.read_bytes())
    content[-200] ^= 1
    broken.write_bytes(
        {
            "flip": bytes(content),
            "truncate": bytes(content[:-1]),
            "empty": b"",
            "not safetensors": b"\xff" * 100,
        }[damage]
    )
    fresh = FeatureStore(tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert fresh.lookup(key, digests).found.tolist() == [False] * 3 + [True] * 3
    assert [r.getMessage() for r in caplog.records] == [
        f"A stored feature file was damaged; its rows are computed again ({broken})."
    ]
    assert not broken.exists()
    fresh.append(key, digests[:3], values[:3])
    np.testing.assert_array_equal(fresh.gather(key, digests), values)


def test_damage_in_a_cache_that_may_only_be_read_is_passed_over(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeatureStore(tmp_path).append(key, sample_digests(3), _values(3))
    store = FeatureStore(tmp_path)
    (path,) = _files(store, key)
    path.write_bytes(path.read_bytes()[:-1])
    attempts: list[Path] = []

    def denied(self: Path, **_: bool) -> None:
        attempts.append(self)
        assert len(attempts) == 1, "tried again and again"
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", denied)
    for _ in range(2):
        assert not store.lookup(key, sample_digests(3)).found.any()


def test_a_shard_is_checked_once_per_store(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path)
    store.append(key, sample_digests(3), _values(3))
    checked: list[Path] = []
    plain = shards_module.Shard.is_intact
    monkeypatch.setattr(shards_module.Shard, "is_intact", lambda self: checked.append(self.path) or plain(self))
    store.lookup(key, sample_digests(3, seed=5))
    assert checked == []  # no row comes from it
    store.lookup(key, sample_digests(3))
    store.lookup(key, sample_digests(3))
    assert checked == _files(store, key)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = FeatureStore(tmp_path)
    store.prepare(key)

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        store.append(key, sample_digests(100), _values(100))
    assert str(caught.value) == (
        f"{tmp_path / 'features'} cannot be written: the disk is full. Free some space (`thawline cache clear` may "
        "help), or set THAWLINE_CACHE to a folder on another disk."
    )
    assert [path.name for path in _files(store, key, "*")] == ["key.json"]


def test_a_cache_that_cannot_be_written_says_where_and_what_to_do(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw
) -> None:
    (tmp_path / "file").write_text("")
    store = FeatureStore(tmp_path / "file")
    with pytest.raises(StorageError, match=r"features cannot be read: Not a directory"):
        store.lookup(key, sample_digests(1))
    with pytest.raises(StorageError, match=r"features cannot be written: "):
        store.prepare(key)
    with pytest.raises(StorageError, match="Set THAWLINE_CACHE to a folder that can be written"):
        store.append(key, sample_digests(1), _values(1))


def test_a_cache_that_cannot_be_read_says_so(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(StorageError, match=r"features cannot be read: Permission denied\. Set THAWLINE_CACHE"):
        FeatureStore(tmp_path).lookup(key, sample_digests(1))


def test_a_key_removed_under_a_writer_is_made_again(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = FeatureStore(tmp_path), FeatureStore(tmp_path)
    plain = store_module.write_shard
    interruptions = iter([True, False])

    def write(folder: Path, *rest: object) -> int:
        if next(interruptions):
            other.clear()
        return plain(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "write_shard", write)
    store.append(key, sample_digests(2), _values(2))
    np.testing.assert_array_equal(store.gather(key, sample_digests(2)), _values(2))


def test_rows_cleared_after_the_lookup_are_not_made_up(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    store = FeatureStore(tmp_path)
    store.append(key, sample_digests(2), _values(2))
    rows = store.lookup(key, sample_digests(2))
    FeatureStore(tmp_path).clear()
    with pytest.raises(StorageError, match=r"cleared while they were being read .* Run the command again"):
        rows.read(np.array([0]))


def test_usage_says_what_is_there(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    store = FeatureStore(tmp_path)
    other = replace(key, rung="blocks.4", model="toy/other")
    store.append(key, sample_digests(3), _values(3))
    store.append(key, sample_digests(3, seed=1), _values(3))
    store.append(other, sample_digests(2), _values(2))
    _age(store, key, hours=2)
    newest, oldest = store.usage()
    assert (newest.model, newest.rung, newest.rows) == ("toy/other", "blocks.4", 2)
    assert (oldest.model, oldest.precision, oldest.engine, oldest.rows) == ("toy/conv", "f32", "torch 2 cpu", 6)
    assert oldest.key == key.digest()
    assert oldest.bytes == sum(path.stat().st_size for path in _files(store, key, "*"))
    assert timedelta(hours=1.9) < datetime.now(UTC) - oldest.last_used < timedelta(hours=2.1)


def test_usage_shows_a_key_whose_description_is_lost(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    store = FeatureStore(tmp_path)
    store.append(key, sample_digests(3), _values(3))
    (tmp_path / "features" / key.digest() / "key.json").write_text('{"rung": 1}')
    (entry,) = store.usage()
    assert (entry.key, entry.model, entry.rows) == (key.digest(), "?", 0)
    np.testing.assert_array_equal(store.gather(key, sample_digests(3)), _values(3))


def test_looking_a_key_up_counts_as_using_it(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    store = FeatureStore(tmp_path)
    store.append(key, sample_digests(1), _values(1))
    _age(store, key, hours=5)
    store.lookup(key, sample_digests(1))
    assert datetime.now(UTC) - store.usage()[0].last_used < timedelta(hours=1)


def test_clear_removes_what_it_is_told_to(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    store = FeatureStore(tmp_path)
    keys = [replace(key, rung=f"blocks.{i}") for i in range(3)]
    for i, k in enumerate(keys):
        store.append(k, sample_digests(3), _values(3))
        _age(store, k, hours=24 * i)
    sizes = {entry.key: entry.bytes for entry in store.usage()}
    left = {k.digest() for k in keys}
    assert store.clear(older_than=timedelta(days=1.5)) == sizes[keys[2].digest()]
    assert {entry.key for entry in store.usage()} == left - {keys[2].digest()}
    assert store.clear(key=keys[0].digest()[:12]) == sizes[keys[0].digest()]
    assert [entry.key for entry in store.usage()] == [keys[1].digest()]
    with pytest.raises(UsageError, match="key must be one of those that `thawline cache` shows; got 'zz'"):
        store.clear(key="zz")
    assert store.clear() == sizes[keys[1].digest()]
    assert list((tmp_path / "features").iterdir()) == []


def test_the_least_recently_used_key_goes_when_room_is_needed(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [replace(key, rung=f"blocks.{i}") for i in range(4)]
    for i, k in enumerate(keys[:3]):
        FeatureStore(tmp_path).append(k, sample_digests(3), _values(3))
        _age(FeatureStore(tmp_path), k, hours=10 - i)
    one = FeatureStore(tmp_path).usage()[0].bytes
    monkeypatch.setenv("THAWLINE_CACHE_LIMIT", str(3 * one))
    busy = FeatureStore(tmp_path)
    busy.lookup(keys[0], sample_digests(3))  # the oldest, and now in use
    _age(busy, keys[0], hours=20)
    busy.append(keys[3], sample_digests(3), _values(3))
    assert {entry.rung for entry in busy.usage()} == {"blocks.0", "blocks.2", "blocks.3"}


def test_what_is_in_use_stays_even_above_the_limit_and_that_is_said_once(
    tmp_path: Path,
    key: FeatureKey,
    sample_digests: Draw,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THAWLINE_CACHE_LIMIT", "10")
    store = FeatureStore(tmp_path)
    for seed in range(3):
        store.append(key, sample_digests(3, seed=seed), _values(3))
    np.testing.assert_array_equal(store.gather(key, sample_digests(3, seed=2)), _values(3))
    assert store.usage()[0].rows == 9
    (record,) = caplog.records
    assert "over the limit of 10 bytes. Raise THAWLINE_CACHE_LIMIT" in record.getMessage()


def test_what_killed_processes_left_behind_is_swept_up(tmp_path: Path, key: FeatureKey, sample_digests: Draw) -> None:
    store = FeatureStore(tmp_path)
    store.append(key, sample_digests(1), _values(1))
    folder = tmp_path / "features"
    old = [folder / key.digest() / name for name in (".old.tmp", ".old.partial")]
    new = folder / key.digest() / ".new.partial"
    for path in (*old, new):
        path.write_text("half a shard")
    trash, draft, busy = (tmp_path / name for name in ("features/.trash-0", "models/.draft", "models/.busy"))
    for path in (trash, draft, busy):
        path.mkdir(parents=True)
        (path / "rest").write_text("")
    for path in (*old, draft):
        os.utime(path, (time.time() - 7200,) * 2)
    FeatureStore(tmp_path).append(key, sample_digests(1, seed=1), _values(1))
    assert [path.exists() for path in (*old, new, trash, draft, busy)] == [False, False, True, False, False, True]


def test_features_and_converted_models_share_one_limit(
    tmp_path: Path, key: FeatureKey, sample_digests: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    def model(name: str, hours: float) -> Path:
        folder = tmp_path / "models" / (name * 64)
        folder.mkdir(parents=True)
        (folder / "0.bin").write_bytes(bytes(10_000))
        (folder / "graphs.json").write_text("{}")
        os.utime(folder / "graphs.json", (time.time() - 3600 * hours,) * 2)
        return folder

    older, newer = model("a", hours=9), model("b", hours=1)
    FeatureStore(tmp_path).append(key, sample_digests(3), _values(3))
    _age(FeatureStore(tmp_path), key, hours=5)
    monkeypatch.setenv("THAWLINE_CACHE_LIMIT", "15KB")
    FeatureStore(tmp_path).append(replace(key, rung="new"), sample_digests(3), _values(3))
    assert not older.exists() and newer.exists() and len(FeatureStore(tmp_path).usage()) == 2
    used = Shelf(tmp_path, "models")
    used.use(newer.name)
    monkeypatch.setenv("THAWLINE_CACHE_LIMIT", "10KB")
    FeatureStore(tmp_path).append(replace(key, rung="newest"), sample_digests(3), _values(3))
    assert newer.exists() and [entry.rung for entry in FeatureStore(tmp_path).usage()] == ["newest"]


def _age(store: FeatureStore, key: FeatureKey, *, hours: float) -> None:
    os.utime(store.root / "features" / key.digest() / "key.json", (time.time() - 3600 * hours,) * 2)
