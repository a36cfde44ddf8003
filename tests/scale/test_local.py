import threading
import time
from contextlib import closing

import pytest

from thawline.scale import LocalExecutor, executor


def test_gives_what_a_plain_loop_gives_in_order() -> None:
    items = list(range(23))
    slow_when_even = threading.Event()

    def prepare(i: int) -> int:
        if i % 2 == 0:
            slow_when_even.wait(0.002)  # later items finish first
        return i * 10

    got = list(executor().pipelined(items, prepare, sum, batch_size=5, workers=4))
    assert got == [(items[s : s + 5], sum(i * 10 for i in items[s : s + 5])) for s in range(0, 23, 5)]


def test_nothing_to_do_runs_nothing() -> None:
    assert list(executor().pipelined([], lambda i: i, sum, batch_size=4)) == []


def test_prepares_in_other_threads_and_runs_in_the_calling_one() -> None:
    prepared_in: set[int] = set()
    ran_in: set[int] = set()

    def prepare(_: int) -> int:
        prepared_in.add(threading.get_ident())
        return 0

    list(executor().pipelined(range(8), prepare, lambda _: ran_in.add(threading.get_ident()), batch_size=2))
    assert ran_in == {threading.get_ident()}
    assert threading.get_ident() not in prepared_in


def test_preparing_goes_on_while_a_batch_runs() -> None:
    prepared: list[int] = []
    two_more_are_ready = threading.Event()

    def prepare(i: int) -> int:
        prepared.append(i)
        if i == 5:
            two_more_are_ready.set()
        return i

    def run(batch: list[int]) -> bool:
        return two_more_are_ready.wait(10)  # only comes true if items 2 to 5 are prepared meanwhile

    results = list(LocalExecutor().pipelined(range(6), prepare, run, batch_size=2, workers=2))
    assert [ran for _, ran in results] == [True, True, True]


def test_look_ahead_is_bounded_however_many_items_there_are() -> None:
    prepared = 0
    done = 0
    furthest = 0
    lock = threading.Lock()

    def prepare(i: int) -> int:
        nonlocal prepared, furthest
        with lock:
            prepared += 1
            furthest = max(furthest, prepared - done)
        return i

    for batch, _ in LocalExecutor().pipelined(range(1000), prepare, len, batch_size=4, workers=8):
        with lock:
            done += len(batch)
    assert prepared == 1000
    assert furthest <= 4 + 2 * 8  # the batch that runs, and two items for each worker


@pytest.mark.parametrize("broken", [0, 6, 9])
def test_an_error_in_prepare_arrives_unchanged_with_its_position(broken: int) -> None:
    def prepare(i: int) -> int:
        if i == broken:
            raise LookupError("this one")
        return i

    finished = []
    with pytest.raises(LookupError, match="this one") as caught:
        for batch, _ in LocalExecutor().pipelined(range(10), prepare, sum, batch_size=4):
            finished.extend(batch)
    assert caught.value.__notes__ == [f"while preparing item {broken}"]
    assert finished == list(range(broken // 4 * 4))


def test_an_error_in_run_names_the_batch() -> None:
    def run(batch: list[int]) -> int:
        return 1 // (4 - batch[0])

    with pytest.raises(ZeroDivisionError) as caught:
        list(LocalExecutor().pipelined(range(10), lambda i: i, run, batch_size=4))
    assert caught.value.__notes__ == ["while running items 4 to 7"]


def test_ctrl_c_stops_at_once_what_has_not_begun() -> None:
    begun: list[int] = []
    release = threading.Event()

    def prepare(i: int) -> int:
        begun.append(i)
        if i > 0:
            release.wait(10)
        return i

    def run(_: list[int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(LocalExecutor().pipelined(range(100), prepare, run, batch_size=1, workers=2))
    assert _workers(), "the interrupt waited for the steps under way"
    at_interrupt = len(begun)
    release.set()
    _join_workers()
    assert len(begun) == at_interrupt <= 3


def test_closing_early_stops_the_work() -> None:
    begun: list[int] = []
    with closing(LocalExecutor().pipelined(range(100), begun.append, len, batch_size=1, workers=1)) as batches:
        next(batches)
    _join_workers()
    assert len(begun) <= 4


def _join_workers() -> None:
    deadline = time.monotonic() + 10
    for thread in _workers():
        thread.join(deadline - time.monotonic())
        assert not thread.is_alive()


def _workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("thawline-prepare")]
