"""Run a benchmark's own work in child processes: one that ends its process is a fault, and the next go on after it."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any


def outcomes(
    script: str, kind: str, count: int, seed: int, *, silent_s: float, preparing_s: float | None = None
) -> Iterator[list[Any]]:
    """Yield what ``script --only KIND --work START STOP --seed SEED`` prints: a JSON list in each line, number first.

    Args:
        silent_s: Longest time without a line; a child that is silent for longer is ended.
        preparing_s: The same before its first line.
    Returns:
        The lists; for what ended a child, [number, "fault", why].
    """
    done = 0
    while done < count:
        command = [sys.executable, script, "--only", kind, "--work", str(done), str(count), "--seed", str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            assert child.stdout is not None
            patience = preparing_s or silent_s
            while select.select([child.stdout], [], [], patience)[0] and (line := child.stdout.readline()):
                patience = silent_s
                outcome = json.loads(line)
                done = outcome[0] + 1
                yield outcome
            child.kill()
        if done < count:
            yield [done, "fault", f"the process was silent for {silent_s} s or ended with {child.returncode}"]
            done += 1
