"""Fewer samples than there are, where there is no time to open all of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from thawline.data import open_data, sampling
from thawline.data.sampling import ALWAYS, opening_order
from thawline.errors import UsageError

N = {"cat": 120, "dog": 60, "owl": 20}


@pytest.fixture
def folder(class_folders) -> Path:
    return class_folders(N)


@pytest.fixture
def slow(monkeypatch) -> list[float]:
    """A clock that stands still but for 0.01 s for each sample that is looked at."""
    clock, look = [100.0], sampling.scan

    def scan(source, **options):
        clock[0] += 0.01 * len(source)
        return look(source, **options)

    monkeypatch.setattr(sampling, "scan", scan)
    monkeypatch.setattr(sampling, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


def counts(data) -> list[int]:
    return np.bincount(data.labels, minlength=len(data.classes)).tolist()


@pytest.mark.parametrize("given", [None, ["train", "test"]])
def test_the_order_has_some_of_everything_first_and_then_all_in_proportion(given):
    labels = np.repeat([0, 1, 2], list(N.values()))
    parts = None if given is None else np.array(given)[np.arange(200) % 2]
    order, least = opening_order(labels, parts, seed=0)
    strata = labels if parts is None else 2 * labels + (parts == "test")
    n = len(np.unique(strata))
    assert sorted(order) == list(range(200))
    assert least == ALWAYS * n
    assert (np.bincount(strata[order[:least]]) == ALWAYS).all()
    assert np.abs(np.bincount(strata[order[:100]]) - np.bincount(strata) / 2).max() <= ALWAYS
    assert not np.array_equal(order, opening_order(labels, parts, seed=1)[0])


def test_as_many_are_opened_as_the_time_allows(folder, slow):
    data = open_data(folder, within=1.0)
    assert 0.85 <= slow[0] - 100 <= 1.0
    assert len(data) == data.drawn == round((slow[0] - 100) / 0.01)
    assert np.abs(np.array(counts(data)) / len(data) - [0.6, 0.3, 0.1]).max() < 0.05
    assert data.warnings[0].startswith(f"{len(data)} of 200 samples were opened")


def test_all_are_opened_where_there_is_time(folder, slow):
    data = open_data(folder, within=60.0)
    assert (len(data), data.drawn, data.warnings) == (200, 0, open_data(folder).warnings)
    assert data.digests == open_data(folder).digests


def test_ten_a_class_are_opened_however_little_time_there_is(folder, slow):
    data = open_data(folder, within=1e-6)
    assert len(data) == 30
    assert min(counts(data)) >= ALWAYS


def test_some_of_each_class_are_opened_however_few_are_asked_for(folder):
    assert counts(open_data(folder, most=1)) == [ALWAYS] * 3


def test_what_was_opened_is_opened_again(folder, slow):
    data = open_data(folder, within=1.0, seed=3)
    again = open_data(**data.opened)
    assert (again.files, again.digests, again.opened) == (data.files, data.digests, data.opened)
    assert set(open_data(folder, most=40, seed=3).files) < set(data.files)
    assert set(open_data(folder, most=40, seed=4).files) - set(data.files)


def test_progress_ends_where_opening_does(folder, slow):
    told = []
    data = open_data(folder, within=1.0, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 200)
    assert told[-1] == (len(data), len(data))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_few_unreadable_files_are_left_out_and_counted(folder, slow):
    broken = sorted((folder / "cat").iterdir())[:60]
    for path in broken:
        path.write_bytes(b"no picture")
    data = open_data(folder, within=1.0)
    assert data.drawn == len(data) + len(data.skipped) < 200
    assert not {Path(skipped.file).name for skipped in data.skipped} - {path.name for path in broken}


def test_a_class_that_is_nearly_unreadable_has_all_files_looked_at(folder, slow):
    owls = sorted((folder / "owl").iterdir())
    for path in owls[:18]:
        path.write_bytes(b"no picture")
    data = open_data(folder, within=1e-6)
    assert data.drawn == 0
    assert counts(data) == [120, 60, 2]


def test_strict_opens_all(folder, slow):
    assert len(open_data(folder, within=1e-6, strict=True)) == 200


@pytest.mark.parametrize("wrong", [{"within": 0}, {"within": -1.0}, {"most": 0}, {"most": -5}])
def test_nothing_cannot_be_asked_for(folder, wrong):
    with pytest.raises(UsageError, match=r"within \(seconds\) and most \(samples\) must be above 0"):
        open_data(folder, **wrong)
