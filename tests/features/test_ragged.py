"""The boundary cache of texts: each is kept as long as it is, and comes back beside others as if it were alone."""

from __future__ import annotations

import copy
import shutil
from collections import namedtuple
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.toy_text import WIDTH, text_dataset, toy_encoder

from thawline.backbones import Backbone
from thawline.backbones.cut import cut
from thawline.errors import DataError, ModelError, StorageError
from thawline.features import boundary, boundary_sources
from thawline.features.prepared import PreparedSamples
from thawline.features.ragged import RaggedActivations, RaggedBoundary
from thawline.features.text_lengths import rounded_lengths
from thawline.inputs.image.views import Augmentation, Views
from thawline.inputs.lengths import rounded_length
from thawline.records import Dataset

pytestmark = pytest.mark.no_cover  # other tests run the same lines, and watching triples the time

VIEWS = Views(augmentation=Augmentation(), seed=5)
N = 40


@dataclass
class Counting:
    """A source that remembers what was read."""

    source: Any
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> Any:
        self.reads.append(index)
        return self.source.read(index)


@pytest.fixture
def encoder() -> Backbone:
    return toy_encoder()


def dataset(n: int = N, seed: int = 0) -> Dataset:
    data = text_dataset(n, seed)
    return replace(data, source=Counting(data.source))


def line(kind: type, data: Dataset, encoder: Backbone, rung: str = "blocks.0", precision: str = "f32") -> Any:
    return kind(data, encoder, encoder.module(), rung, VIEWS, precision=precision, device="cpu")


def streamed(made: Any, batches: list[list[int]], view: int | None = None) -> list[tuple[torch.Tensor, ...]]:
    with closing(made.stream([(np.array(rows), view) for rows in batches])) as stream:
        return list(stream)


def ids_of(data: Dataset, encoder: Backbone, rows: Any) -> torch.Tensor:
    prepared = PreparedSamples(data, encoder.preparation)
    return torch.from_numpy(np.stack([prepared.of(int(row)) for row in rows])).long()


def tokens_in(data: Dataset, rows: Any) -> list[int]:
    """The words of texts, and the two tokens around them."""
    return [len(data.source.read(int(row)).split()) + 2 for row in rows]


def same(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("rungs", "precision"),
    [(("input", "embeddings", "blocks.0", "blocks.2"), "f32"), (("blocks.0",), "bf16")],
    ids=["f32", "bf16"],
)
def test_cached_and_fresh_are_one_to_the_bit_and_lead_to_the_features_of_the_whole(
    encoder: Backbone, rungs: tuple[str, ...], precision: str
) -> None:
    data, rng = dataset(), np.random.default_rng(0)
    batches = [rng.permutation(N)[:n].tolist() for n in (9, 1, 16)] + [[3, 3, 30]]
    with torch.no_grad():
        whole = encoder.module()(ids_of(data, encoder, range(N)))
    for rung in rungs:
        cached = line(RaggedBoundary, data, encoder, rung, precision)
        cached.ensure(range(N), [None])
        fresh = line(RaggedActivations, data, encoder, rung, precision)
        suffix = cut(copy.deepcopy(encoder.module()), rung, signature=encoder.signature).suffix
        for rows, kept, made in zip(batches, streamed(cached, batches), streamed(fresh, batches), strict=True):
            assert same(kept, made)
            with torch.no_grad():
                features = suffix(*(tensor if rung == "input" else tensor.float() for tensor in kept))
            within = 1e-5 if precision == "f32" or rung == "input" else 0.06
            assert float((features - whole[rows]).abs().max()) < within


@pytest.mark.parametrize("kind", [RaggedBoundary, RaggedActivations])
def test_a_batch_is_as_long_as_its_longest_text_and_a_text_is_the_same_in_any(kind: type, encoder: Backbone) -> None:
    data, made = dataset(), line(kind, dataset(), encoder)
    if kind is RaggedBoundary:
        made.ensure(range(N), [None])
    alone = [tensors[0] for tensors in streamed(made, [[row] for row in range(N)])]
    lengths = [rounded_length(tokens, encoder.preparation.length) for tokens in tokens_in(data, range(N))]
    assert [tensor.shape for tensor in alone] == [(1, length, WIDTH) for length in lengths]
    rows = np.random.default_rng(1).permutation(N)[:20].tolist()
    ((together,),) = streamed(made, [rows])
    assert together.shape == (20, max(lengths[row] for row in rows), WIDTH)
    for place, row in enumerate(rows):
        assert torch.equal(together[place, : lengths[row]], alone[row][0])
        assert not together[place, tokens_in(data, [row])[0] :].any()


def test_a_text_takes_the_room_of_its_own_length(encoder: Backbone) -> None:
    data = dataset()
    made = line(RaggedBoundary, data, encoder)
    expected = sum(
        rounded_length(tokens, encoder.preparation.length) * WIDTH * 4
        for tokens in tokens_in(data, np.unique(data.digests, return_index=True)[1])
    )
    forecast = made.forecast((range(N), [None]))
    assert forecast.stored == 0
    assert expected <= forecast.bytes < expected + forecast.to_compute
    report = made.ensure(range(N), [None])
    assert (report.computed, report.bytes, report.made_from) == (forecast.to_compute, expected, "texts")
    after = made.forecast((range(N), [None]))
    assert (after.to_compute, after.bytes, after.stored) == (0, 0, report.computed)


def test_every_view_of_a_text_is_the_text(encoder: Backbone) -> None:
    made = line(RaggedBoundary, dataset(), encoder)
    assert made.ensure(range(20), range(4)).computed == made.forecast((range(20), [None])).stored
    assert made.ensure(range(20), [None]).computed == 0
    assert same(*streamed(made, [[5, 1]], view=3), *streamed(made, [[5, 1]]))


def test_what_is_stored_is_neither_read_nor_run_again(encoder: Backbone) -> None:
    line(RaggedBoundary, dataset(), encoder).ensure(range(N), [None])
    data = dataset()
    again = line(RaggedBoundary, data, encoder)
    report = again.ensure(range(N), [None])
    assert (report.computed, report.made_from) == (0, "store")
    assert len(streamed(again, [[0, 1], [2]])) == 2
    assert data.source.reads == []


def test_lengths_are_counted_once_and_not_for_copies(encoder: Backbone) -> None:
    data = text_dataset(8)
    held = ["ba be", "ba", "ba be", "ba " * 30, "ba " * 500, "ba", "ba be bi", "ba"]
    copies = replace(data, source=Counting(_Held(held)), digests=tuple(_digest(text) for text in held))
    assert rounded_lengths(copies, encoder.preparation, range(8)).tolist() == [8, 8, 8, 32, 64, 8, 8, 8]
    assert sorted(copies.source.reads) == [0, 1, 3, 4, 6]
    assert rounded_lengths(copies, encoder.preparation, [4, 0]).tolist() == [64, 8]
    assert len(copies.source.reads) == 5
    other = replace(encoder.preparation, length=16)  # another preparation cuts texts otherwise
    assert rounded_lengths(copies, other, [4, 0]).tolist() == [16, 8]


def test_new_texts_change_nothing_of_the_old_ones(encoder: Backbone) -> None:
    made = line(RaggedBoundary, dataset(), encoder)
    made.ensure(range(20), [None])
    before = streamed(made, [list(range(20))])[0]
    assert made.ensure(range(N), [None]).reused >= 20
    assert same(streamed(made, [list(range(20))])[0], before)


def test_progress_counts_texts_of_all_lengths(encoder: Backbone) -> None:
    told: list[tuple[int, int]] = []
    computed = line(RaggedBoundary, dataset(), encoder).ensure(range(N), [None], lambda *now: told.append(now)).computed
    assert told == sorted(told)
    assert told[-1] == (computed, computed)
    assert {total for _, total in told} == {computed}


def test_rows_of_a_lower_line_are_carried_on(encoder: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    data, few = dataset(), list(range(12))
    expected = streamed(line(RaggedActivations, data, encoder, "blocks.1"), [few])[0]
    line(RaggedBoundary, data, encoder, "blocks.0").ensure(few, [None])
    monkeypatch.setattr(boundary, "WORTH_A_TRIAL", 1)
    monkeypatch.setattr(boundary, "pays", lambda low, samples, trial: _equal_bits(low, samples, trial))
    made = line(RaggedBoundary, data, encoder, "blocks.1")
    assert made.ensure(few, [None]).made_from == "blocks.0"
    assert same(streamed(made, [few])[0], expected)


def _equal_bits(low: Any, samples: Any, trial: Any) -> bool:
    """As ``pays``, whatever the time."""
    return boundary_sources._tried(low, trial)[0] == boundary_sources._tried(samples, trial)[0]


def test_layers_that_were_trained_are_refused(encoder: Backbone) -> None:
    module = copy.deepcopy(encoder.module())
    made = RaggedBoundary(dataset(), encoder, module, "blocks.1", VIEWS, precision="f32", device="cpu")
    with torch.no_grad():
        module.get_parameter("blocks.0.up.weight").mul_(2)
    with pytest.raises(ModelError, match=r"has changed below the thaw line at 'blocks.1'.*blocks.0.up.weight"):
        made.ensure(range(4), [None])
    with pytest.raises(ModelError, match="has changed below the thaw line"):
        RaggedActivations(dataset(), encoder, module, "blocks.1", VIEWS, precision="f32", device="cpu")


def test_a_text_that_has_changed_is_named(encoder: Backbone) -> None:
    data = dataset()
    line(RaggedBoundary, data, encoder).forecast((range(N), [None]))  # counts the lengths
    changed = replace(data, source=_Held(["another text"] * N))
    with pytest.raises(DataError, match=r"texts.csv#\d+ has changed since the data was opened"):
        line(RaggedBoundary, changed, encoder).ensure(range(N), [None])


def test_a_disk_without_room_for_all_lengths_is_refused(encoder: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    made = line(RaggedBoundary, dataset(), encoder)
    room = made.forecast((range(N), [None])).bytes - 100  # enough for each length alone
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, room))
    with pytest.raises(StorageError, match=r"room for .* of activations at 'blocks.0'.*not kept .views = 0"):
        made.ensure(range(N), [None])
    assert made.forecast((range(N), [None])).stored == 0


@dataclass(frozen=True)
class _Held:
    held: list[str]

    def __len__(self) -> int:
        return len(self.held)

    def read(self, index: int) -> str:
        return self.held[index]


def _digest(text: str) -> str:
    from thawline.inputs.kind import digest_of

    return digest_of(text)
