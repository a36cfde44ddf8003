"""An interruption waits for code that would lose it, such as a module that is being imported."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from thawline.scale.signals import interrupt_when_heard


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, interrupt_when_heard(KeyboardInterrupt))
    yield
    signal.signal(signal.SIGINT, before)


def test_it_raises_at_once_elsewhere() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_module_loads_to_its_end_before_it_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "swallows_what_is_raised.py").write_text(
        "import signal\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except BaseException:\n"
        "    pass\n"
        "else:\n"
        "    loaded = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        module = importlib.import_module("swallows_what_is_raised")
        time.sleep(60)
    assert module.loaded
    del sys.modules["swallows_what_is_raised"]


def test_between_two_steps_of_a_training_there_is_no_frame() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt_when_heard(KeyboardInterrupt)(signal.SIGINT, None)
