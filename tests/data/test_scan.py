from __future__ import annotations

import hashlib
import multiprocessing
import os
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from thawline.data import open_data, scan_store
from thawline.data import scan as scan_module
from thawline.data.scan import scan
from thawline.data.scan_store import Look, ScanStore
from thawline.data.sources import FileSource, Stamp
from thawline.inputs.kind import digest_of
from thawline.scale.paths import cache_root


@dataclass
class CountingSource:
    """Counts reads, and the most samples that were alive at once."""

    source: FileSource
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> bytes:
        self.reads.append(index)
        return self.source.read(index)

    def stamp(self, index: int) -> Stamp | None:
        return self.source.stamp(index)


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled although they were written a moment ago."""
    monkeypatch.setattr(scan_store, "_SETTLED_NS", -(10**18))


@pytest.fixture
def files(class_folders):
    folder = class_folders({"cat": 40, "dog": 40})
    return CountingSource(FileSource(tuple(sorted(str(path) for path in folder.rglob("*.png")))))


@pytest.fixture
def store(tmp_path):
    return ScanStore(tmp_path / "cache" / "scan.sqlite")


def test_scan_reads_each_sample_once_and_hashes_its_bytes(files):
    seen = scan(files)
    assert sorted(files.reads) == list(range(80))
    expected = [hashlib.sha256(files.source.read(i)).hexdigest() for i in range(80)]
    assert list(seen.digests) == expected
    assert not seen.failures


def test_array_digests_tell_shapes_apart():
    pixels = np.arange(12, dtype=np.uint8)
    digests = {digest_of(pixels.reshape(shape)) for shape in [(3, 4), (4, 3), (2, 2, 3)]}
    assert len(digests) == 3
    assert digest_of(pixels.reshape(3, 4)) == digest_of(np.asfortranarray(pixels.reshape(3, 4)))


def test_progress_ends_at_the_number_of_samples(files):
    told = []
    scan(files, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 80)
    assert told[-1] == (80, 80)
    assert told == sorted(told)


def test_unchanged_files_are_not_read_again(files, store, settled):
    first = scan(files, store=store)
    files.reads.clear()
    again = scan(files, store=store)
    assert files.reads == []
    assert again.digests == first.digests
    np.testing.assert_array_equal(again.sketches, first.sketches)


@pytest.mark.parametrize("field_name", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_any_changed_stamp_reads_the_file_again(store, settled, field_name):
    stamp = Stamp("a.png", 1, 2, 3, 4)
    store.remember(stamp, Look("0" * 64, bytes(768)))
    store.flush()
    assert stamp in store.recall([stamp])
    assert store.recall([stamp._replace(**{field_name: 9})]) == {}


def test_a_rewritten_file_of_equal_size_and_mtime_is_read_again(files, store, settled):
    scan(files, store=store)
    path = Path(files.source.paths[7])
    times = path.stat()
    with path.open("r+b") as file:  # in place: same inode
        file.write(Path(files.source.paths[8]).read_bytes()[: times.st_size])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    files.reads.clear()
    scan(files, store=store)
    assert files.reads == [7]


def test_files_that_changed_a_moment_ago_are_not_remembered(files, store):
    scan(files, store=store)
    files.reads.clear()
    scan(files, store=store)
    assert len(files.reads) == 80


def test_unreadable_files_are_not_remembered(files, store, settled):
    Path(files.source.paths[3]).write_bytes(b"")
    assert scan(files, store=store).failures == {3: "the file is empty (0 bytes)"}
    files.reads.clear()
    assert scan(files, store=store).failures == {3: "the file is empty (0 bytes)"}
    assert files.reads == [3]


@pytest.mark.parametrize("damage", ["rubbish", "truncated", "empty", "schema"])
def test_a_damaged_database_is_rebuilt(files, store, settled, damage):
    expected = scan(files, store=store)
    path = store._path
    data = path.read_bytes()
    if damage == "schema":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        path.write_bytes({"rubbish": b"x" * len(data), "truncated": data[: len(data) // 2], "empty": b""}[damage])
    assert scan(files, store=store).digests == expected.digests
    files.reads.clear()
    assert scan(files, store=store).digests == expected.digests
    assert files.reads == []


def test_flipped_bits_are_noticed(files, store, settled):
    scan(files, store=store)
    with sqlite3.connect(store._path) as connection:
        connection.execute("UPDATE look SET thumb = zeroblob(768) WHERE key = ?", (files.source.paths[5],))
        connection.execute("UPDATE look SET digest = ? WHERE key = ?", ("f" * 64, files.source.paths[6]))
        connection.execute("UPDATE look SET thumb = 17 WHERE key = ?", (files.source.paths[7],))
    connection.close()
    files.reads.clear()
    scan(files, store=store)
    assert sorted(files.reads) == [5, 6, 7]


def test_a_locked_database_is_done_without(files, store, settled, monkeypatch):
    monkeypatch.setattr(scan_store, "_LOCK_WAIT_S", 0.01)
    expected = scan(files, store=store)
    lock = sqlite3.connect(store._path)
    lock.execute("BEGIN EXCLUSIVE")
    assert scan(files, store=store).digests == expected.digests
    lock.rollback()
    lock.close()
    assert store._path.exists()


def test_a_folder_that_cannot_be_written_is_done_without(files, tmp_path, settled):
    (tmp_path / "file").write_text("in the way")
    assert len(scan(files, store=ScanStore(tmp_path / "file" / "scan.sqlite")).digests) == 80


def test_a_grown_database_starts_anew(store, settled, monkeypatch):
    look = Look("0" * 64, bytes(768))
    stamps = [Stamp(name, 1, 1, 1, 1) for name in ("old.png", "new.png")]
    store.remember(stamps[0], look)
    store.flush()
    monkeypatch.setattr(scan_store, "_MAX_BYTES", 10)
    store.remember(stamps[1], look)
    store.flush()
    assert set(store.recall(stamps)) == {stamps[1]}


def _fill(path, start, together):
    store = ScanStore(path)
    together.wait()
    for i in range(start, start + 200):
        store.remember(Stamp(f"{i}.png", 1, 1, 1, 1), Look(f"{i:064x}", bytes(768)))
        if i % 10 == 0:
            store.flush()
    store.flush()


def test_two_processes_at_once_lose_nothing(store):
    context = multiprocessing.get_context("fork")
    together = context.Barrier(2)
    workers = [context.Process(target=_fill, args=(store._path, start, together)) for start in (0, 200)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = store.recall([Stamp(f"{i}.png", 1, 1, 1, 1) for i in range(400)])
    assert {look.digest for look in found.values()} == {f"{i:064x}" for i in range(400)}


def test_a_table_that_another_process_makes_meanwhile_is_kept(store, monkeypatch):
    """The other one creates and fills it just after this one has seen that there is none."""
    stamps, look = [Stamp(name, 1, 1, 1, 1) for name in ("other.png", "own.png")], Look("0" * 64, bytes(768))
    is_current = scan_store._is_current

    def then_the_other_writes(connection):
        monkeypatch.setattr(scan_store, "_is_current", is_current)
        seen = is_current(connection)
        other = ScanStore(store._path)
        other.remember(stamps[0], look)
        other.flush()
        return seen

    monkeypatch.setattr(scan_store, "_is_current", then_the_other_writes)
    store.remember(stamps[1], look)
    store.flush()
    assert set(store.recall(stamps)) == set(stamps)


def test_ctrl_c_stops_early(files, monkeypatch):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    monkeypatch.setattr(scan_module, "_CHUNK", 1)
    monkeypatch.setattr(scan_module, "_MAX_WORKERS", 1)
    with pytest.raises(KeyboardInterrupt):
        scan(files, progress=interrupt)
    assert len(files.reads) < 80
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scan")]


def test_opening_writes_its_memory_below_the_cache_folder(class_folders, settled):
    open_data(class_folders({"cat": 3, "dog": 3}))
    assert (cache_root() / "scan.sqlite").is_file()


def test_cache_root(monkeypatch, tmp_path):
    monkeypatch.setenv("THAWLINE_CACHE", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    monkeypatch.delenv("THAWLINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root().name == "thawline"


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert scan(FileSource((str(tmp_path / "a.jpg"),))).failures == {0: "not a regular file"}


def test_a_file_too_large_is_not_read(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(600 * 2**20)  # sparse: takes no space
    assert scan(FileSource((str(tmp_path / "a.jpg"),))).failures == {0: "600 MiB, but at most 512 MiB are read"}


def test_a_file_gone_since_is_said(tmp_path):
    assert scan(FileSource((str(tmp_path / "a.jpg"),))).failures == {0: "no such file"}


def test_what_was_read_as_a_text_is_not_remembered_as_a_picture(settled, store, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a text")
    source = CountingSource(FileSource((str(path),)))
    first = scan(source, kind="text", store=store)
    assert first.digests == scan(source, kind="text", store=store).digests
    assert source.reads == [0]
    assert scan(source, store=store).failures == {0: "not a picture: its content is text"}
