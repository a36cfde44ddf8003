"""What must hold for the feature store whatever is put in, in whatever order, and whatever happens to its files."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thawline.records import ImagePreparation
from thawline.store.keys import FeatureKey, preparation_sha256
from thawline.store.store import FeatureStore

KEY = FeatureKey(
    weights_sha256="a" * 64, preparation_sha256="b" * 64, rung="pooled", precision="f32", engine="torch 2 cpu"
)
_words = st.text(max_size=8)
_FIELDS = {
    "weights_sha256": _words,
    "preparation_sha256": _words,
    "rung": _words,
    "precision": st.sampled_from(["f32", "bf16"]),
    "engine": _words,
    "view_seed": st.none() | st.integers(0, 5),
    "dtype": st.sampled_from(["float32", "float16", "bfloat16", "uint8"]),
}
_keys = st.fixed_dictionaries(_FIELDS)
few = settings(max_examples=settings().max_examples // 2)


@pytest.fixture(scope="module", autouse=True)
def without_waiting_for_the_disk() -> Iterator[None]:
    """Nothing here is about power cuts, and hundreds of flushed files take long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _row(i: int) -> np.ndarray:
    return np.random.default_rng(i).normal(size=3).astype(np.float32)


def _digest(i: int) -> str:
    return np.random.default_rng((i, 7)).bytes(32).hex()


def test_every_field_of_a_key_is_tried() -> None:
    assert {f.name for f in fields(FeatureKey) if f.compare} == set(_FIELDS)


@given(_keys, _keys)
def test_keys_are_equal_only_when_every_field_is(one: dict, other: dict) -> None:
    assert (FeatureKey(**one).digest() == FeatureKey(**other).digest()) == (one == other)


@given(_keys, st.sampled_from(sorted(_FIELDS)), st.data())
def test_the_key_changes_when_any_one_field_does(fields_: dict, name: str, data: st.DataObject) -> None:
    key = FeatureKey(**fields_)
    changed = replace(key, **{name: data.draw(_FIELDS[name].filter(lambda v: v != fields_[name]))})
    assert changed.digest() != key.digest()
    assert replace(key, model="renamed").digest() == key.digest()


@given(
    st.sampled_from(
        [
            {"input_px": (224, 192)},
            {"resize_px": 255},
            {"interpolation": "bilinear"},
            {"crop_mode": "squash"},
            {"mean": (0.5, 0.5, 0.6)},
            {"std": (0.5, 0.6, 0.5)},
        ]
    )
)
def test_the_key_of_a_preparation_changes_with_each_of_its_fields(change: dict) -> None:
    plain = ImagePreparation(input_px=(224, 224), resize_px=256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert preparation_sha256(replace(plain, **change)) != preparation_sha256(plain)
    assert preparation_sha256(replace(plain)) == preparation_sha256(plain)


@few
@given(st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=5), st.lists(st.integers(0, 15), max_size=20))
def test_rows_come_back_whatever_the_order_and_duplication(appended: list[list[int]], asked: list[int]) -> None:
    with _folder() as folder:
        store = FeatureStore(folder)
        for batch in appended:
            values = np.array([_row(i) for i in batch], np.float32).reshape(len(batch), 3)
            store.append(KEY, [_digest(i) for i in batch], values)
        there = {i for batch in appended for i in batch}
        rows = store.lookup(KEY, [_digest(i) for i in asked])
        assert rows.found.tolist() == [i in there for i in asked]
        positions = np.flatnonzero(rows.found)
        got = rows.read(positions)
        assert [row.tolist() for row in got] == [_row(asked[p]).tolist() for p in positions]


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.booleans())
@example(0.999, 1, False)
@example(0.0, 1, False)
def test_a_damaged_byte_or_a_lost_tail_is_noticed_or_harmless(where: float, mask: int, truncate: bool) -> None:
    with _folder() as folder:
        digests, values = [_digest(i) for i in range(4)], np.array([_row(i) for i in range(4)])
        FeatureStore(folder).append(KEY, digests, values)
        (shard,) = folder.glob("features/*/*.safetensors")
        content = bytearray(shard.read_bytes())
        at = int(where * len(content))
        content[at] ^= mask
        shard.write_bytes(content[:at] if truncate else content)
        store = FeatureStore(folder)
        rows = store.lookup(KEY, digests)
        positions = np.flatnonzero(rows.found)
        np.testing.assert_array_equal(rows.read(positions).reshape(-1, 3), values[positions])
        missing = np.flatnonzero(~rows.found)
        store.append(KEY, [digests[i] for i in missing], values[missing])
        np.testing.assert_array_equal(store.gather(KEY, digests), values)


_APPEND = """
import json, sys
import numpy as np
from pathlib import Path
from thawline.store import FeatureKey, FeatureStore
folder, key, first = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
store, key = FeatureStore(Path(folder)), FeatureKey(**key)
print("ready", flush=True)
sys.stdin.readline()
for start in range(first, first + 60, 4):
    rows = range(start, start + 4)
    digests = [np.random.default_rng((i, 7)).bytes(32).hex() for i in rows]
    store.append(key, digests, np.array([np.random.default_rng(i).normal(size=3).astype(np.float32) for i in rows]))
    assert store.lookup(key, digests).found.all()
"""


def test_two_processes_that_write_at_once_lose_nothing() -> None:
    described = json.dumps({f.name: getattr(KEY, f.name) for f in fields(KEY)})
    with _folder() as folder:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _APPEND, str(folder), described, str(first)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for first in (0, 30)  # rows 30 to 59 are written by both
        ]
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for writer in writers:
            writer.communicate()
            assert writer.returncode == 0
        got = FeatureStore(folder).gather(KEY, [_digest(i) for i in range(90)])
        np.testing.assert_array_equal(got, np.array([_row(i) for i in range(90)]))
        assert not list(folder.glob("features/*/.*"))
