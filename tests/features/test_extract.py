import json
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import thawline
from thawline.data.sources import FileSource
from thawline.engines.choices import EngineChoice
from thawline.engines.torch_engine import TorchEngine
from thawline.errors import DataError, ModelError, StorageError, UsageError
from thawline.features import extract_features
from thawline.features import job as job_module
from thawline.features.extract import feature_key
from thawline.inputs.image.decode import prepare
from thawline.records import Dataset, Features
from thawline.store import writer as writer_module
from thawline.store.keys import FeatureKey
from thawline.store.store import FeatureStore

CPU = {"precision": "f32", "device": "cpu"}


def _reference(toy: ModuleType, data: Dataset, seed: int = 0) -> np.ndarray:
    engine = TorchEngine(toy.ToyBackbone(seed), precision="f32", device="cpu")
    pixels = [prepare(data.source.read(i), toy.PREPARATION) for i in range(len(data))]
    return np.concatenate([engine.run(one[None]) for one in pixels])


def test_gives_what_the_engine_says_of_each_sample_in_order(toy: ModuleType) -> None:
    data = toy.toy_dataset(37)
    got = extract_features(data, toy.ToyBackbone(), batch_size=8, **CPU)
    assert isinstance(got, Features)
    assert got.values.dtype == np.float32 and got.values.shape == (37, 24)
    assert got.values.tobytes() == _reference(toy, data).tobytes()
    assert (got.rung, got.precision, got.computed, got.reused) == ("pooled", "f32", 37, 0)
    assert got.seconds > 0


def test_nothing_is_computed_twice_whatever_the_names_and_the_order(toy: ModuleType) -> None:
    first = extract_features(toy.toy_dataset(20), toy.ToyBackbone(), **CPU)
    order = np.random.default_rng(0).permutation(20).tolist()
    shuffled = toy.toy_dataset(20, rows=order, prefix="renamed")
    backbone = toy.ToyBackbone()
    again = extract_features(shuffled, backbone, **CPU)
    assert (again.computed, again.reused, backbone.n_built) == (0, 20, 0)
    assert again.values.tobytes() == first.values[order].tobytes()
    assert not hasattr(shuffled.source, "reads")
    assert again.key == first.key


def test_only_new_samples_are_run(toy: ModuleType) -> None:
    extract_features(toy.toy_dataset(30, rows=list(range(20))), toy.ToyBackbone(), **CPU)
    data = toy.toy_dataset(30)
    got = extract_features(data, toy.ToyBackbone(), **CPU)
    assert (got.computed, got.reused) == (10, 20)
    assert sorted(data.source.reads) == list(range(20, 30))
    assert got.values.tobytes() == _reference(toy, data).tobytes()


def test_a_content_that_stands_several_times_is_run_once(toy: ModuleType) -> None:
    data = toy.toy_dataset(4, rows=[2, 0, 2, 1, 0, 2])
    got = extract_features(data, toy.ToyBackbone(), **CPU)
    assert (got.computed, got.reused) == (3, 3)
    assert sorted(data.source.reads) == [0, 1, 3]
    assert got.values.tobytes() == _reference(toy, data).tobytes()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_changes_no_bit(toy: ModuleType, batch_size: int) -> None:
    data = toy.toy_dataset(21)
    got = extract_features(data, toy.ToyBackbone(), batch_size=batch_size, **CPU)
    assert got.values.tobytes() == _reference(toy, data).tobytes()


def test_whatever_changes_numbers_is_computed_anew(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy.toy_dataset(3)
    squashed = toy.ToyBackbone()
    squashed.preparation = replace(toy.PREPARATION, crop_mode="squash")
    variants: list[tuple[Any, dict[str, str]]] = [
        (toy.ToyBackbone(), CPU),
        (toy.ToyBackbone(1), CPU),
        (squashed, CPU),
        (toy.ToyBackbone(), CPU | {"rung": "3"}),
        (toy.ToyBackbone(), CPU | {"precision": "bf16", "engine": "torch"}),
    ]
    got = [extract_features(data, backbone, **options) for backbone, options in variants]
    assert [features.computed for features in got] == [3] * 5
    assert len({features.key for features in got}) == 5
    assert len({features.values.tobytes() for features in got}) == 5
    assert {entry.model for entry in FeatureStore().usage()} == {"toy/conv"}


def test_the_key_holds_what_the_engine_rounds_like(toy: ModuleType) -> None:
    choices = [
        EngineChoice("torch", "cpu", "f32"),
        EngineChoice("torch", "cuda", "f32"),
        EngineChoice("x", "cpu", "f32"),
    ]
    keys = [feature_key(toy.ToyBackbone(), "pooled", choice) for choice in choices]
    assert [key.engine for key in keys] == [choice.identity for choice in choices]
    assert len({key.digest() for key in keys}) == 3


def test_progress_is_told_what_is_run_and_nothing_when_all_is_stored(toy: ModuleType) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(2):
        extract_features(
            toy.toy_dataset(10), toy.ToyBackbone(), batch_size=4, progress=lambda *now: told.append(now), **CPU
        )
    assert told == [(0, 10), (4, 10), (8, 10), (10, 10)]


def test_when_all_is_stored_torch_is_never_imported(toy: ModuleType, in_child: Callable) -> None:
    extract_features(toy.toy_dataset(6), toy.ToyBackbone())  # with auto, which only torch can resolve
    done = in_child(
        "import sys\n"
        "from toy_backbone import ToyBackbone, toy_dataset\n"
        "from thawline.features import extract_features\n"
        "backbone = ToyBackbone()\n"
        "got = extract_features(toy_dataset(6), backbone)\n"
        "print(got.computed, got.reused, backbone.n_built, 'torch' in sys.modules)\n"
    )
    assert done.stdout.split() == ["0", "6", "0", "False"], done.stderr


_INTERRUPTED = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
from toy_backbone import ToyBackbone, toy_dataset
from thawline.features import extract_features
from thawline.store import writer

def stop(done, total):
    if done >= 16:
        os.kill(os.getpid(), {signal})

writer.FLUSH_BYTES = {flush}
extract_features(toy_dataset(40), ToyBackbone(), batch_size=8, precision="f32", device="cpu", progress=stop)
"""


@pytest.mark.parametrize(("signal_", "flush"), [(signal.SIGINT, 2**30), (signal.SIGKILL, 0)])
def test_an_interruption_keeps_what_was_computed(
    toy: ModuleType, in_child: Callable, signal_: signal.Signals, flush: int
) -> None:
    done = in_child(_INTERRUPTED.format(signal=int(signal_), flush=flush))
    assert done.returncode == -signal_
    data = toy.toy_dataset(40)
    got = extract_features(data, toy.ToyBackbone(), **CPU)
    assert (got.computed, got.reused) == (24, 16)
    assert got.values.tobytes() == _reference(toy, data).tobytes()


def test_ctrl_c_between_batches_keeps_what_was_computed(toy: ModuleType) -> None:
    def stop(done: int, _: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(toy.toy_dataset(20), toy.ToyBackbone(), batch_size=4, progress=stop, **CPU)
    assert FeatureStore().usage()[0].rows == 8


@pytest.mark.parametrize(("setting", "value"), [("FLUSH_BYTES", 1), ("FLUSH_S", 0.0)])
def test_rows_are_written_on_the_way(
    toy: ModuleType, monkeypatch: pytest.MonkeyPatch, setting: str, value: float
) -> None:
    monkeypatch.setattr(writer_module, setting, value)
    written: list[int] = []

    def look(done: int, _: int) -> None:
        if done:
            written.append(FeatureStore().usage()[0].rows)

    extract_features(toy.toy_dataset(10), toy.ToyBackbone(), batch_size=4, progress=look, **CPU)
    assert written == [4, 8, 10]


def test_while_some_batches_run_as_many_others_are_got_ready(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4, timeout=30)

    class Two:
        name, precision, widths, workers, at_once, together = "two", "f32", (5,), 2, 3, 0

        def run(self, batch: np.ndarray) -> np.ndarray:
            together.wait()
            return np.repeat(batch.mean((1, 2, 3), dtype=np.float32)[:, None], 5, axis=1)

    monkeypatch.setattr(job_module, "build_engine", lambda choice, graphs: Two())
    data = toy.toy_dataset(12)  # four batches of three
    got = extract_features(data, toy.ToyBackbone(), **CPU)
    expected = [prepare(data.source.read(i), toy.PREPARATION).mean(dtype=np.float32) for i in range(12)]
    np.testing.assert_allclose(got.values[:, 0], expected, rtol=1e-5)


def test_few_rows_are_written_at_once(toy: ModuleType, clean_cache: Any) -> None:
    extract_features(toy.toy_dataset(40), toy.ToyBackbone(), batch_size=4, **CPU)
    assert len(list(clean_cache.glob("features/*/*.safetensors"))) == 1


def test_a_sample_that_can_no_longer_be_read_is_named(toy: ModuleType, tmp_path: Any) -> None:
    data = replace(toy.toy_dataset(3), source=FileSource(tuple(str(tmp_path / f"{i}.png") for i in range(3))))
    with pytest.raises(DataError, match=r"^p0\.png cannot be read now: no such file\. Open the data again"):
        extract_features(data, toy.ToyBackbone(), **CPU)


def test_a_sample_that_has_changed_is_not_stored_as_the_old_one(toy: ModuleType) -> None:
    data = toy.toy_dataset(5)
    digests = list(data.digests)
    digests[3] = "0" * 64
    with pytest.raises(DataError, match=r"^p3\.png has changed since the data was opened. Open the data again\."):
        extract_features(replace(data, digests=tuple(digests)), toy.ToyBackbone(), **CPU)
    assert not FeatureStore().lookup(_only_key(), ["0" * 64]).found.any()


@pytest.mark.parametrize(
    ("precision", "advice"), [("bf16", r"Try --precision f32\."), ("f32", r"Look at that picture; .*weights.*")]
)
def test_values_that_are_not_finite_name_the_sample(toy: ModuleType, precision: str, advice: str) -> None:
    data = toy.toy_dataset(6)
    data.source.pixels[4] = 255
    data = replace(data, digests=tuple(toy.digest_of(p) for p in data.source.pixels))
    with pytest.raises(ModelError, match=rf"^toy/conv gives NaN or infinity at 'pooled' for p4\.png\. {advice}$"):
        extract_features(
            data, toy.ToyBackbone(nan=True), batch_size=3, engine="torch", precision=precision, device="cpu"
        )
    assert FeatureStore().usage()[0].rows == 3  # the batch before it


def test_a_cache_that_cannot_be_written_is_refused_before_the_work(toy: ModuleType, tmp_path: Any) -> None:
    store = FeatureStore(tmp_path)
    (tmp_path / "features").write_text("")
    backbone = toy.ToyBackbone()
    with pytest.raises(StorageError, match="Set THAWLINE_CACHE"):
        extract_features(toy.toy_dataset(3), backbone, store=store, **CPU)
    assert backbone.n_built == 0


def test_refuses_a_batch_of_nothing(toy: ModuleType) -> None:
    with pytest.raises(UsageError, match="batch_size must be at least 1; got 0"):
        extract_features(toy.toy_dataset(3), toy.ToyBackbone(), batch_size=0)


def test_every_public_name_of_the_room_is_there() -> None:
    from thawline import features

    assert all(getattr(features, name).__name__ == name for name in features.__all__)
    assert thawline.extract_features is extract_features
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        features.nothing  # noqa: B018


def _only_key() -> FeatureKey:
    (file,) = (FeatureStore().root / "features").glob("*/key.json")
    return FeatureKey(**json.loads(file.read_bytes()))
