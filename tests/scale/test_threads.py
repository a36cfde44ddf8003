"""Threads that begin, end and hand back what they found; and nobody else starts any."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import thawline
from thawline.scale.threads import Crew, begin, meanwhile

SOURCE = Path(thawline.__file__).parent


def test_only_scale_starts_threads() -> None:
    starts = re.compile(r"\b(Thread|Timer|ThreadPoolExecutor|ProcessPoolExecutor|Process|Pool)\(")
    found = {p.relative_to(SOURCE).parts[0] for p in SOURCE.rglob("*.py") if starts.search(p.read_text("utf-8"))}
    assert found == {"scale"}


def test_a_process_does_not_end_while_what_it_began_still_works() -> None:
    script = (
        "import time\n"
        "from thawline.scale.threads import begin\n"
        "begin(lambda: (time.sleep(0.2), print('done')), name='slow')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"


def test_what_begins_has_its_name() -> None:
    named, heard = [], threading.Event()
    begin(lambda: (named.append(threading.current_thread().name), heard.set()), name="thawline-here")
    assert heard.wait(10) and named == ["thawline-here"]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_work_goes_on_while_the_block_lasts_and_has_ended_behind_it(error: type[BaseException] | None) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(over) -> None:
        begun.set()
        while not over():
            ended.wait(0.001)
        ended.set()

    def block() -> None:
        with meanwhile(work, name="beside"):
            assert begun.wait(10) and not ended.is_set()
            if error is not None:
                raise error

    if error is None:
        block()
    else:
        with pytest.raises(error):
            block()
    assert ended.is_set() and "beside" not in {thread.name for thread in threading.enumerate()}


def test_a_crew_works_side_by_side_and_answers_in_order() -> None:
    crew, together = Crew(2, name="crew"), threading.Barrier(2, timeout=10)

    def work(i: int) -> int:
        together.wait()  # only ever passed by two at once
        return i * i

    assert crew.each(work, range(6)) == [0, 1, 4, 9, 16, 25]
    with pytest.raises(ZeroDivisionError):
        crew.each(lambda i: 1 // i, [1, 0])
    crew.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("crew")]
