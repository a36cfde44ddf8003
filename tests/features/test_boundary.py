"""The boundary cache against the plain prefix: stored, streamed, computed afresh or carried on, it is the same.

Stored, afresh and carried on are the same bits; the plain prefix runs one layer after the other and rounds elsewhere.

Everything that must not change a number is tried: batches, order, names, interruptions, another way of making it.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections import namedtuple
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from thawline.backbones import open_backbone
from thawline.backbones.cut import cut
from thawline.backbones.providers.timm_import import import_timm
from thawline.backbones.signature import Signature
from thawline.errors import DataError, ModelError, StorageError
from thawline.features import activations, boundary, boundary_sources, extract, folding
from thawline.features.activations import BATCH, FrozenPart, PreparedViews
from thawline.features.boundary import Boundary, FreshActivations
from thawline.inputs.image.decode import prepare
from thawline.inputs.image.views import Augmentation, Views, prepare_views
from thawline.records import Dataset, ImagePreparation
from thawline.store import writer
from thawline.store.store import FeatureStore

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

VIEWS = Views(augmentation=Augmentation(colour=0.2), seed=5)
PRECISIONS = ("f32", "bf16")


class Loaded:
    """A backbone whose weights are those that a module has now."""

    def __init__(self, module: nn.Module, px: int) -> None:
        self._module = module.eval().to(memory_format=torch.channels_last)
        self.name = f"toy/{type(module).__name__}"
        self.preparation = ImagePreparation(
            input_px=(px, px), resize_px=px + 8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
        )
        self.signature = Signature("timm", (3, px, px))
        self.tensors = self
        self._state = copy.deepcopy(module.state_dict())
        content = b"".join(tensor.numpy().tobytes() for tensor in self._state.values())
        self.weights_sha256 = hashlib.sha256(content).hexdigest()

    def module(self) -> nn.Module:
        return self._module

    def load(self) -> dict[str, torch.Tensor]:
        return self._state


def loaded(architecture: str = "test_resnet", px: int = 64, seed: int = 0) -> Loaded:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Loaded(import_timm().create_model(architecture, num_classes=0), px)


class Block(nn.Module):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width_in, width, 3, stride=2, padding=1), nn.BatchNorm2d(width)

    def forward(self, x):
        return nn.functional.relu(self.norm(self.conv(x)))


class Small(nn.Module):
    """(B, 3, H, W) -> (B, 64)"""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = Block(3, 32), Block(32, 48), Block(48, 64)

    def forward(self, x):
        return self.third(self.second(self.first(x))).mean((2, 3))


class Summing(nn.Module):
    """Under autocast, sums with a parameter are float32, as between the blocks of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.place = nn.Conv2d(3, 32, 4, stride=4), nn.Parameter(torch.rand(16, 32))
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        x = x + self.first(x)
        return (x + self.second(x)).mean(1)


class TwoPaths(nn.Module):
    """(B, 3, H, W) -> (B, 6): tokens and pictures cross above ``side``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=4)
        self.tokens = nn.Linear(4, 5)
        self.side = nn.Conv2d(4, 6, 3, padding=1)
        self.top = nn.Conv2d(10, 6, 1)
        self.join = nn.Linear(5, 6)

    def forward(self, x):
        x = self.stem(x)
        tokens = self.tokens(x.flatten(2).transpose(1, 2))
        both = torch.cat([x, self.side(x)], 1)
        return self.top(both).mean((2, 3)) + self.join(tokens).mean(1)


def made(kind: type[nn.Module], seed: int = 0) -> Loaded:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Loaded(kind(), 16)


@pytest.fixture
def backbone() -> Loaded:
    return made(Small)


def _line(kind: type, data: Dataset, backbone: Loaded, rung: str = "second", precision: str = "f32", views=VIEWS):
    return kind(data, backbone, backbone.module(), rung, views, precision=precision, device="cpu")


def _boundary(data: Dataset, backbone: Loaded, *args: Any, **options: Any) -> Boundary:
    return _line(Boundary, data, backbone, *args, **options)


def _all(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int64)


def _streamed(line: Boundary | FreshActivations, n: int, view: int | None, size: int = 7) -> list[torch.Tensor]:
    """Each crossing tensor of all samples, (n, ...)."""
    with closing(line.stream([(_all(n)[i : i + size], view) for i in range(0, n, size)])) as stream:
        return [torch.cat(parts) for parts in zip(*stream, strict=True)]


def _plain(
    data: Dataset, backbone: Loaded, rung: str, precision: str, view: int | None, rows: Any, views: Views = VIEWS
) -> list[torch.Tensor]:
    """The oracle: the prefix of the cut on normalised images, rounded to what is kept."""
    p = backbone.preparation
    pictures = []
    for row in rows:
        payload = data.source.read(int(row))
        if view is None:
            pictures.append(prepare(payload, p))
        else:
            seed = views.sample_seed(view, data.digests[row])
            pictures += prepare_views(payload, p, views.augmentation, [seed])
    pixels = torch.from_numpy(np.stack(pictures + pictures[-1:] * (BATCH - len(pictures))))
    images = pixels.permute(0, 3, 1, 2).float() / 255
    images = (images - torch.tensor(p.mean).view(1, 3, 1, 1)) / torch.tensor(p.std).view(1, 3, 1, 1)
    prefix = cut(backbone.module(), rung, signature=Signature("timm", p.tensor_shape)).prefix
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        crossing = prefix(images)
    kept = torch.bfloat16 if precision == "bf16" and rung != "input" else torch.float32
    return [tensor[: len(rows)].to(kept) for tensor in crossing]


def _same(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.stride()[1:] == other.stride()[1:]
        assert torch.equal(one, other)


def _close(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    """The same but for rounding: what is cached was made by folded layers, in passes of fewer rows."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.stride()[1:] == other.stride()[1:]
        off = (one.float() - other.float()).abs()
        largest, mean = (0.05, 0.01) if one.dtype == torch.bfloat16 else (1e-5, 1e-6)
        assert off.max() <= largest * other.abs().max()
        assert off.mean() <= mean * other.abs().max()


def _n_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every run of frozen layers from now on."""
    runs: list[int] = []
    run = FrozenPart.run
    monkeypatch.setattr(FrozenPart, "run", lambda part, rows: runs.append(len(rows)) or run(part, rows))
    return runs


def _shards(root: Path) -> list[Path]:
    return sorted(root.glob("features/*/*.safetensors"))


CASES = [
    (lambda: made(Small), "input"),
    (lambda: made(Small), "pooled"),
    (lambda: loaded("test_resnet"), "layer2.0"),
    (lambda: loaded("test_vit", 160), "blocks.2"),
]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("opened", "rung"), CASES, ids=["input", "pooled", "resnet", "vit"])
def test_cached_and_fresh_are_one_to_the_bit_and_the_plain_prefix_but_for_rounding(
    toy: ModuleType, opened: Callable[[], Loaded], rung: str, precision: str
) -> None:
    data, backbone = toy.toy_dataset(9), opened()
    cached = _boundary(data, backbone, rung, precision)
    report = cached.ensure(_all(9), [None, 0, 3])
    assert (report.computed, report.reused, report.made_from) == (27, 0, "pictures")
    assert report.bytes == 27 * cached.bytes_per_row
    fresh = _line(FreshActivations, data, backbone, rung, precision)
    for view in (None, 0, 3):
        found = _streamed(cached, 9, view)
        _same(_streamed(fresh, 9, view), found)
        _close(found, _plain(data, backbone, rung, precision, view, _all(9)))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_several_tensors_cross_and_come_back(toy: ModuleType, precision: str) -> None:
    data, backbone = toy.toy_dataset(5), made(TwoPaths)
    cached = _boundary(data, backbone, "side", precision)
    assert cached.bytes_per_row == (10 * 16 + 16 * 5) * (2 if precision == "bf16" else 4)
    cached.ensure(_all(5), [1])
    expected = _plain(data, backbone, "side", precision, 1, _all(5))
    assert sorted(tensor.shape[1:] for tensor in expected) == [(10, 4, 4), (16, 5)]
    found = _streamed(cached, 5, 1)
    _close(found, expected)
    _same(_streamed(_line(FreshActivations, data, backbone, "side", precision), 5, 1), found)
    for batch in cached.stream([(_all(5), 1)]):  # as if they had just been computed
        for tensor in batch:
            form = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
            assert tensor.is_contiguous(memory_format=form)


def test_what_lies_channels_last_does_so_on_disk(toy: ModuleType, backbone: Loaded, clean_cache: Path) -> None:
    data = toy.toy_dataset(1)
    _boundary(data, backbone).ensure([0], [None])
    (shard,) = _shards(clean_cache)
    (expected,) = _streamed(_line(FreshActivations, data, backbone), 1, None)
    assert shard.read_bytes().count(expected[0].permute(1, 2, 0).contiguous().numpy().tobytes()) == 1


def test_batches_come_in_order_with_repeats_and_a_smaller_last_one(toy: ModuleType, backbone: Loaded) -> None:
    data = toy.toy_dataset(12)
    cached = _boundary(data, backbone)
    cached.ensure(_all(12), range(2))
    batches = [([5, 5, 0], 1), ([11], 0), ([3, 2, 1, 5], 0), ([7, 7], 1)]
    arrays = [(np.array(rows), view) for rows, view in batches]
    whole = {view: _streamed(cached, 12, view)[0] for view in (0, 1)}
    fresh = _line(FreshActivations, data, backbone)
    for line in (cached, fresh):
        got = [tensor for (tensor,) in line.stream(arrays)]
        assert [len(tensor) for tensor in got] == [3, 1, 4, 2]
        for tensor, (rows, view) in zip(got, batches, strict=True):
            assert torch.equal(tensor, whole[view][rows])
    assert list(cached.stream([])) == list(fresh.stream([])) == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_depend_neither_on_neighbours_nor_on_where_a_batch_began(
    toy: ModuleType, precision: str, tmp_path: Path
) -> None:
    data, backbone = toy.toy_dataset(70), loaded("test_efficientnet")
    whole = _boundary(data, backbone, "blocks.2.0", precision)
    whole.ensure(_all(70), [0])
    (expected,) = _streamed(whole, 70, 0)
    whole._store = FeatureStore(tmp_path)
    whole._found = {}
    order = np.random.default_rng(0).permutation(70)
    for part in np.split(order, [1, 6, 39]):
        whole.ensure(part, [0])
    assert torch.equal(_streamed(whole, 70, 0)[0], expected)
    fresh = _line(FreshActivations, data, backbone, "blocks.2.0", precision)
    (got,) = next(iter(fresh.stream([(order[:45], 0)])))
    assert torch.equal(got, expected[order[:45]])


def test_what_is_stored_is_neither_decoded_nor_run_again(
    toy: ModuleType, backbone: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    _boundary(toy.toy_dataset(10), backbone).ensure(_all(10), range(3))
    order = np.random.default_rng(0).permutation(10).tolist()
    runs, layers = _n_runs(monkeypatch), []
    backbone.module().get_submodule("first").register_forward_hook(lambda *_: layers.append(1))
    again = _boundary(toy.toy_dataset(10, rows=order, prefix="renamed"), backbone)
    layers.clear()  # the cut tries itself out
    report = again.ensure(_all(10), range(3))
    assert (report.computed, report.reused, report.made_from) == (0, 30, "store")
    assert _streamed(again, 10, 2)[0].shape[0] == 10
    assert not hasattr(again._samples.source, "reads")
    assert (runs, layers) == ([], [])


def test_only_what_is_new_is_run(toy: ModuleType, backbone: Loaded) -> None:
    _boundary(toy.toy_dataset(12, rows=list(range(8))), backbone).ensure(_all(8), [0, 1])
    data = toy.toy_dataset(12)
    report = _boundary(data, backbone).ensure(_all(12), [0, 1, 2])
    assert (report.computed, report.reused) == (4 * 2 + 12, 16)
    assert sorted(data.source.reads) == list(range(12))  # once each, for one view or for three


def test_a_content_that_stands_several_times_is_run_once(toy: ModuleType, backbone: Loaded) -> None:
    data = toy.toy_dataset(4, rows=[2, 0, 2, 1, 0, 2])
    cached = _boundary(data, backbone)
    report = cached.ensure(_all(6), [0, 1, None])
    assert (report.computed, report.reused, report.bytes) == (9, 9, 9 * cached.bytes_per_row)
    assert sorted(data.source.reads) == [0, 1, 3]
    (got,) = _streamed(cached, 6, 1)
    assert torch.equal(got[0], got[2]) and not torch.equal(got[0], got[1])


class _Stopped(Exception):
    pass


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_interruption_keeps_what_was_run_and_the_rest_comes_out_the_same(
    toy: ModuleType, backbone: Loaded, precision: str, tmp_path: Path
) -> None:
    data = toy.toy_dataset(30)

    def stop(done: int, total: int) -> None:
        assert total == 90
        if done >= 2 * BATCH:
            raise _Stopped

    interrupted = _boundary(data, backbone, precision=precision)
    with pytest.raises(_Stopped):
        interrupted.ensure(_all(30), [None, 0, 1], stop)
    told: list[tuple[int, int]] = []
    report = interrupted.ensure(_all(30), [None, 0, 1], lambda *now: told.append(now))
    assert (report.computed, report.reused) == (90 - 2 * BATCH, 2 * BATCH)
    assert told == [(0, 26), (26, 26)]
    whole = _boundary(data, backbone, precision=precision)
    whole._store = FeatureStore(tmp_path)
    whole.ensure(_all(30), [None, 0, 1])
    for view in (None, 0, 1):
        _same(_streamed(interrupted, 30, view), _streamed(whole, 30, view))


def test_rows_are_written_on_the_way(
    toy: ModuleType, backbone: Loaded, clean_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FLUSH_BYTES", 40 * _boundary(toy.toy_dataset(1), backbone).bytes_per_row)
    written: list[int] = []
    _boundary(toy.toy_dataset(60), backbone).ensure(
        _all(60), range(2), lambda *_: written.append(sum(entry.rows for entry in FeatureStore().usage()))
    )
    assert written == [0, 0, 0, 80, 80]  # 40 rows of either view, and 20 more when all are run
    assert len(_shards(clean_cache)) == 4


def test_whatever_changes_numbers_changes_the_key(
    toy: ModuleType, backbone: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy.toy_dataset(2)
    other, squashed = made(Small, seed=1), made(Small)
    squashed.preparation = replace(squashed.preparation, crop_mode="squash")
    variants = [
        _boundary(data, backbone),
        _boundary(data, other),
        _boundary(data, squashed),
        _boundary(data, backbone, "first"),
        _boundary(data, backbone, "input"),
        _boundary(data, backbone, precision="bf16"),
        _boundary(data, backbone, views=replace(VIEWS, seed=6)),
        _boundary(data, backbone, views=replace(VIEWS, augmentation=Augmentation(flip=False))),
    ]
    assert [line.ensure([0, 1], [0, 1]).computed for line in variants] == [4] * len(variants)
    keys = {line._key(view).digest() for line in variants for view in (0, 1)}
    assert len(keys) == 2 * len(variants)
    # the picture itself has neither augmentation nor seed
    assert variants[0]._key(None) == variants[6]._key(None) == variants[7]._key(None)
    before = variants[0]._key(0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    assert variants[0]._key(0) == before  # each pass runs in one thread
    assert f"folded {folding.REVISION}" in before.engine
    assert "folded" not in boundary._identity("cuda:1", "f32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_number_of_processors_changes_no_bit(
    toy: ModuleType, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, backbone = toy.toy_dataset(40), loaded("test_resnet")
    found, usual = [], torch.get_num_threads()
    for processors in (1, 3):
        monkeypatch.setattr(activations, "usable_processors", lambda n=processors: n)
        line = _boundary(data, backbone, "layer3.0", precision)
        line._store = FeatureStore(tmp_path / str(processors))
        try:
            torch.set_num_threads(processors)
            line.ensure(_all(40), [0])
            assert torch.get_num_threads() == processors
        finally:
            torch.set_num_threads(usual)
        found.append(_streamed(line, 40, 0))
    _same(*found)


@pytest.mark.parametrize("precision", ["f32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_a_row_takes_what_the_ladder_says(toy: ModuleType, precision: str) -> None:
    backbone = open_backbone(input_px=32)
    for rung in backbone.ladder.rungs:
        line = _boundary(toy.toy_dataset(1), backbone, rung.name, precision)
        assert line.bytes_per_row == rung.row_bytes(precision)


def test_whole_activations_are_not_taken_for_averaged_ones(toy: ModuleType, backbone: Loaded) -> None:
    cached = _boundary(toy.toy_dataset(2), backbone, "pooled")
    averaged = extract.feature_key(backbone, "pooled", boundary.EngineChoice("torch", "cpu", "f32"))
    assert cached._key(None).rung == "line:pooled" and cached._key(None).layer == averaged.rung


def test_pixels_are_kept_once_for_all_models_and_precisions(toy: ModuleType, backbone: Loaded) -> None:
    data, first = toy.toy_dataset(6), _boundary(toy.toy_dataset(6), backbone, "input", "bf16")
    assert first.bytes_per_row == 16 * 16 * 3
    first.ensure(_all(6), [0])
    other = made(TwoPaths)
    again = _boundary(data, other, "input", "f32")
    assert again.ensure(_all(6), [0]).computed == 0
    _same(_streamed(again, 6, 0), _plain(data, other, "input", "f32", 0, _all(6)))


def test_the_cache_says_what_a_boundary_is(toy: ModuleType, backbone: Loaded) -> None:
    _boundary(toy.toy_dataset(3), backbone, precision="bf16").ensure(_all(3), [None, 0])
    entries = sorted(FeatureStore().usage(), key=lambda entry: entry.rung)
    assert [(entry.rung, entry.rows, entry.precision) for entry in entries] == [
        ("line:second", 3, "bf16"),
        ("line:second (view)", 3, "bf16"),
    ]


def test_a_damaged_shard_is_made_again(toy: ModuleType, backbone: Loaded, clean_cache: Path) -> None:
    data = toy.toy_dataset(8)
    cached = _boundary(data, backbone)
    cached.ensure(_all(8), [0, 1])
    expected = _streamed(cached, 8, 1)
    for shard in _shards(clean_cache)[:1]:
        content = bytearray(shard.read_bytes())
        content[-1000] ^= 1
        shard.write_bytes(content)
    again = _boundary(data, backbone)
    report = again.ensure(_all(8), [0, 1])
    assert (report.computed, report.reused) == (8, 8)
    _same(_streamed(again, 8, 1), expected)


def test_a_row_that_was_not_made_is_not_streamed(toy: ModuleType, backbone: Loaded) -> None:
    cached = _boundary(toy.toy_dataset(3), backbone)
    cached.ensure([0, 1], [0])
    with pytest.raises(KeyError, match="not stored"):
        list(cached.stream([(np.array([0, 2]), 0)]))
    with pytest.raises(KeyError, match="not stored"):
        list(cached.stream([(np.array([0]), 1)]))


# Making a boundary from a lower one


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a lower line whatever it takes, as long as it gives the same bits."""
    monkeypatch.setattr(boundary, "WORTH_A_TRIAL", 1)
    tried = boundary_sources._tried
    monkeypatch.setattr(
        boundary_sources,
        "_tried",
        lambda origin, trial: (tried(origin, trial)[0], 1.0 if origin.name == "pictures" else 0.5),
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("architecture", "low", "high"),
    [
        ("test_resnet", "layer1.0", "layer3.0"),
        ("test_resnet", "input", "layer2.0"),
        pytest.param("mobilenetv2_100", "blocks.1.1", "blocks.4.2", marks=pytest.mark.slow),
    ],
)
def test_carried_on_from_a_lower_line_it_is_the_same(
    toy: ModuleType, eager: None, architecture: str, low: str, high: str, precision: str, tmp_path: Path
) -> None:
    data, backbone = toy.toy_dataset(18), loaded(architecture)
    straight = _boundary(data, backbone, high, precision)
    straight._store = FeatureStore(tmp_path)
    assert straight.ensure(_all(18), [None, 0]).made_from == "pictures"
    _boundary(data, backbone, low, precision).ensure(_all(18), [None, 0])
    carried = _boundary(data, backbone, high, precision)
    data.source.reads.clear()
    report = carried.ensure(_all(18), [None, 0])
    assert (report.computed, report.made_from) == (36, low)
    assert set(data.source.reads) <= set(range(BATCH // 2 + 1))  # the trial
    for view in (None, 0):
        _same(_streamed(carried, 18, view), _streamed(straight, 18, view))


def test_several_tensors_are_carried_on(toy: ModuleType, eager: None, tmp_path: Path) -> None:
    data, backbone = toy.toy_dataset(5), made(TwoPaths)
    _boundary(data, backbone, "side").ensure(_all(5), [0])
    carried = _boundary(data, backbone, "top")
    assert carried.ensure(_all(5), [0]).made_from == "side"
    _same(_streamed(carried, 5, 0), _streamed(_line(FreshActivations, data, backbone, "top"), 5, 0))


def test_the_nearest_line_is_taken_and_pictures_for_what_it_lacks(toy: ModuleType, eager: None) -> None:
    data, backbone = toy.toy_dataset(10), made(Small)
    _boundary(data, backbone, "first").ensure(_all(8), [0, 1])
    _boundary(data, backbone, "second").ensure(_all(4), [0])
    cached = _boundary(data, backbone, "third")
    report = cached.ensure(_all(10), [0, 1])
    assert report.made_from == "second and first and pictures"
    assert report.computed == 20
    fresh = _line(FreshActivations, data, backbone, "third")
    for view in (0, 1):
        _same(_streamed(cached, 10, view), _streamed(fresh, 10, view))


def test_a_line_where_rounding_lost_something_is_not_carried_on(
    toy: ModuleType, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boundary, "pays", lambda *_: True)  # a trial on a few rows may overlook it
    data, backbone = toy.toy_dataset(4), made(Summing)
    for precision, origin in (("bf16", "pictures"), ("f32", "first")):
        _boundary(data, backbone, "first", precision).ensure(_all(4), [0])
        cached = _boundary(data, backbone, "second", precision)
        assert cached.ensure(_all(4), [0]).made_from == origin
        _same(_streamed(cached, 4, 0), _streamed(_line(FreshActivations, data, backbone, precision=precision), 4, 0))


def test_a_line_is_left_alone_where_it_gives_other_bits_or_is_slower() -> None:
    class Origin:
        def __init__(self, name: str, seconds: float, value: int) -> None:
            self.name, self._seconds, self._value = name, seconds, value

        def make(self, wanted: Any):
            threading.Event().wait(self._seconds)
            yield [(0, None)], np.array([[self._value]], np.uint16)

    pictures = Origin("pictures", 0.03, 7)
    assert boundary_sources.pays(Origin("low", 0.0, 7), pictures, None)
    assert not boundary_sources.pays(Origin("low", 0.0, 8), pictures, None)
    assert not boundary_sources.pays(Origin("low", 0.06, 7), pictures, None)


def test_few_rows_are_made_from_the_pictures_without_a_trial(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    data, backbone = toy.toy_dataset(4), made(Small)
    _boundary(data, backbone, "first").ensure(_all(4), [0])
    monkeypatch.setattr(boundary, "segment", lambda *_, **__: pytest.fail("a lower line was cut out"))
    assert _boundary(data, backbone).ensure(_all(4), [0]).made_from == "pictures"


# Refusals


class Brittle(nn.Conv2d):
    """Gives NaN for white pictures."""

    def forward(self, images):
        white = images.mean((1, 2, 3), keepdim=True) > 1.5
        return torch.where(white, float("nan"), super().forward(images))


@pytest.mark.parametrize(
    ("precision", "advice"), [("bf16", r"Try --precision f32\."), ("f32", r"Look at that picture; .*weights.*")]
)
def test_values_that_are_not_finite_name_the_sample(toy: ModuleType, precision: str, advice: str) -> None:
    data = toy.toy_dataset(40)
    data.source.pixels[36] = 255
    data = replace(data, digests=tuple(toy.digest_of(p) for p in data.source.pixels))
    paths = TwoPaths()
    paths.stem = Brittle(3, 4, 3, stride=4)
    cached = _boundary(data, Loaded(paths, 16), "side", precision)
    with pytest.raises(ModelError, match=rf"^toy/TwoPaths gives NaN or infinity at 'side' for p36\.png\. {advice}$"):
        cached.ensure(_all(40), [None])
    assert cached.forecast((_all(40), [None])).stored == BATCH  # the batch before it


def test_a_sample_that_has_changed_or_gone_is_named(toy: ModuleType, backbone: Loaded) -> None:
    data = toy.toy_dataset(5)
    changed = replace(data, digests=(*data.digests[:3], "0" * 64, data.digests[4]))
    with pytest.raises(DataError, match=r"^p3\.png has changed since the data was opened"):
        _boundary(changed, backbone).ensure(_all(5), [0])
    with pytest.raises(DataError, match=r"^p3\.png has changed since the data was opened"):
        list(_line(FreshActivations, changed, backbone).stream([(_all(5), 0)]))


def test_a_prefix_that_was_trained_is_refused_and_a_suffix_is_not(toy: ModuleType, backbone: Loaded) -> None:
    data = toy.toy_dataset(3)
    with torch.no_grad():
        backbone.module().get_submodule("third.conv").weight.add_(1)
    _boundary(data, backbone).ensure(_all(3), [0])
    with torch.no_grad():
        backbone.module().get_submodule("first.norm").running_mean.add_(1)
    message = r"has changed below the thaw line at 'second' since it was loaded: first\.norm\.running_mean"
    with pytest.raises(ModelError, match=message):
        _boundary(data, backbone).ensure(_all(3), [1])
    with pytest.raises(ModelError, match=message):
        _line(FreshActivations, data, backbone)


def test_a_disk_without_room_is_refused_before_anything_is_run(
    toy: ModuleType, backbone: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = _boundary(toy.toy_dataset(3), backbone)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(boundary.shutil, "disk_usage", lambda _: usage(5 * cached.bytes_per_row))
    forecast = cached.forecast((_all(3), [0, 1]))
    assert (forecast.to_compute, forecast.fits) == (6, False)
    runs = _n_runs(monkeypatch)
    with pytest.raises(StorageError, match=r"disk needs room for 18\.4 KB of activations at 'second'; 15\.4 KB"):
        cached.ensure(_all(3), [0, 1])
    assert runs == []
    assert cached.ensure(_all(3), [0]).computed == 3


def test_a_forecast_counts_what_is_there_and_what_is_not(toy: ModuleType, backbone: Loaded) -> None:
    cached = _boundary(toy.toy_dataset(10), backbone, precision="bf16")
    cached.ensure(_all(6), [0])
    forecast = cached.forecast((_all(10), range(2)), ([9, 9], [None]))
    assert (forecast.stored, forecast.to_compute) == (6, 15)
    assert forecast.bytes_per_row == cached.bytes_per_row == 48 * 4 * 4 * 2
    assert forecast.bytes == 15 * cached.bytes_per_row and forecast.fits
    assert str(forecast).startswith("Boundary cache: 15 rows of 1.5 KB to compute, 23.0 KB with ")


# Memory and threads


def test_memory_is_flat_while_it_is_made(toy: ModuleType, backbone: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are decoded and not yet run stay a few batches, and so do rows that are run and not yet written."""
    decoded, read = [0], PreparedViews.read
    lock = threading.Lock()

    def counting(pictures: PreparedViews, row: int, views: Any) -> torch.Tensor:
        with lock:
            decoded[0] += len(views)
        return read(pictures, row, views)

    monkeypatch.setattr(PreparedViews, "read", counting)
    ahead: list[int] = []
    _boundary(toy.toy_dataset(250), backbone).ensure(_all(250), [0, 1], lambda done, _: ahead.append(decoded[0] - done))
    assert decoded == [500]
    assert max(ahead) <= 5 * BATCH

    decoded[0], taken = 0, [0]
    stream = _line(FreshActivations, toy.toy_dataset(250), backbone).stream([(_all(250)[i::25], 3) for i in range(25)])
    for (tensor,) in stream:
        taken[0] += len(tensor)
        assert decoded[0] - taken[0] <= 5 * BATCH
    assert decoded == taken == [250]


def test_batches_are_read_ahead_by_other_threads_but_not_far(
    toy: ModuleType, backbone: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = _boundary(toy.toy_dataset(20), backbone)
    cached.ensure(_all(20), [0])
    reads: list[int] = []
    own = threading.get_ident()
    found = cached._found[0]

    class Watched:
        def read(self, rows: np.ndarray) -> np.ndarray:
            assert threading.get_ident() != own
            reads.append(len(rows))
            return found.read(rows)

    cached._found[0] = Watched()  # type: ignore[assignment]
    monkeypatch.setattr(FeatureStore, "lookup", lambda *_: pytest.fail("looked up again"))
    with closing(cached.stream([(_all(20)[i : i + 2], 0) for i in range(0, 20, 2)])) as stream:
        for given, _ in enumerate(stream, start=1):
            assert len(reads) <= given + 4  # two for each of the two threads
    assert len(reads) == 10


def test_a_stream_that_is_not_read_to_its_end_stops(toy: ModuleType, backbone: Loaded) -> None:
    data = toy.toy_dataset(200)
    with closing(_line(FreshActivations, data, backbone).stream([(_all(200)[i::50], 0) for i in range(50)])) as stream:
        next(stream)
    assert len(data.source.reads) < 200


def test_activations_can_be_trained_on(toy: ModuleType, backbone: Loaded) -> None:
    """No inference tensors: a suffix has to be able to keep them for its backward pass."""
    data = toy.toy_dataset(4)
    halves = cut(backbone.module(), "second", signature=Signature("timm", (3, 16, 16)))
    cached = _boundary(data, backbone)
    cached.ensure(_all(4), [0])
    for line in (cached, _line(FreshActivations, data, backbone)):
        for crossing in line.stream([(_all(4), 0)]):
            halves.suffix(*crossing).sum().backward()
    assert backbone.module().get_submodule("third.conv").weight.grad is not None


def test_a_backbone_from_a_file(toy: ModuleType) -> None:
    from thawline.backbones import open_backbone

    backbone = open_backbone("embedded/resnet18_half", input_px=64)
    data = toy.toy_dataset(3)
    model = copy.deepcopy(backbone.module()).to(memory_format=torch.channels_last)
    line = Boundary(data, backbone, model, "layer2.0", VIEWS, precision="bf16", device="cpu")
    assert line.ensure(_all(3), [0]).computed == 3
    assert next(iter(line.stream([(_all(3), 0)])))[0].shape[0] == 3


def test_frozen_layers_stay_in_inference_mode(toy: ModuleType, backbone: Loaded) -> None:
    data = toy.toy_dataset(4)
    expected = _plain(data, backbone, "second", "f32", 0, _all(4))
    fresh = _line(FreshActivations, data, backbone)
    backbone.module().train()
    _close(_streamed(fresh, 4, 0), expected)
