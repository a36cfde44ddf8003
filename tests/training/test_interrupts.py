"""Signals wait for the end of a step; a second one does not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from thawline.training.interrupts import HeldInterrupts


@pytest.fixture(autouse=True)
def _handlers_come_back(_ctrl_c: None) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


class Terminated(KeyboardInterrupt):
    pass


@pytest.fixture
def terminated() -> Iterator[None]:
    def act(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, act)
    yield
    signal.signal(signal.SIGTERM, before)


def test_nothing_happens_where_nobody_asks() -> None:
    with HeldInterrupts() as held:
        held.act()
        assert not held.requested


def test_ctrl_c_waits_for_the_end_of_the_step() -> None:
    steps = []

    def train() -> None:
        with HeldInterrupts() as held:
            for step in range(5):
                if step == 2:
                    signal.raise_signal(signal.SIGINT)
                steps.append(step)
                assert held.requested is (step == 2)
                held.act()

    with pytest.raises(KeyboardInterrupt):
        train()
    assert steps == [0, 1, 2]


def test_the_second_one_acts_at_once() -> None:
    steps = []

    def train() -> None:
        with HeldInterrupts():
            steps.append("begun")
            signal.raise_signal(signal.SIGINT)
            steps.append("held")
            signal.raise_signal(signal.SIGINT)
            steps.append("never")

    with pytest.raises(KeyboardInterrupt):
        train()
    assert steps == ["begun", "held"]


@pytest.mark.usefixtures("terminated")
def test_what_the_program_wants_to_do_about_a_signal_is_done_later() -> None:
    with pytest.raises(Terminated), HeldInterrupts() as held:
        signal.raise_signal(signal.SIGTERM)
        assert held.requested
        held.act()


@pytest.mark.usefixtures("terminated")
def test_a_second_signal_of_another_kind_acts_at_once_too() -> None:
    with pytest.raises(Terminated), HeldInterrupts():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_without_a_handler_of_python_stops_the_run_too() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), HeldInterrupts() as held:
            signal.raise_signal(signal.SIGTERM)
            held.act()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_returns_stops_the_run_all_the_same() -> None:
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), HeldInterrupts() as held:
            signal.raise_signal(signal.SIGINT)
            assert heard == []
            held.act()
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for a job in the background
    try:
        with HeldInterrupts() as held:
            signal.raise_signal(signal.SIGINT)
            assert not held.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_that_comes_after_the_last_step_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), HeldInterrupts() as held:
        held.act()
        signal.raise_signal(signal.SIGINT)


def test_an_error_comes_before_a_held_signal() -> None:
    with pytest.raises(ZeroDivisionError), HeldInterrupts():
        signal.raise_signal(signal.SIGINT)
        _ = 1 / 0


def test_another_thread_leaves_handlers_alone() -> None:
    handlers = []

    def train() -> None:
        with HeldInterrupts() as held:
            handlers.append(signal.getsignal(signal.SIGINT))
            held.act()

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert handlers == [before]
