"""While timm is being imported, other threads may import torch's compiler, which is kept out meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest

from thawline.backbones.providers import timm_import

# In a process of its own, where the compiler has not been loaded yet, with the import stopped half-way.
_HALF_WAY = """
import sys, threading
import torch
from thawline.backbones.providers import timm_import

inside, rest = threading.Event(), threading.Event()
plain, found = timm_import._import_torchvision, []

def slow():
    inside.set()
    rest.wait(60)
    return plain()

timm_import._import_torchvision = slow
threads = [threading.Thread(target=lambda: found.append(timm_import.import_timm())) for _ in range(2)]
threads[0].start()
inside.wait(60)
assert isinstance(sys.modules["torch._dynamo"], timm_import._StandIn)
threads[1].start()
{meanwhile}
rest.set()
for thread in threads:
    thread.join(60)
import timm
assert found == [timm, timm] and callable(timm.create_model)
{afterwards}
"""
_REAL = "assert callable(torch._dynamo.optimize) and torch._dynamo is sys.modules['torch._dynamo']"
_OUT = "assert 'torch._dynamo' not in sys.modules and '_dynamo' not in vars(torch)"


_WANTED = """
from torch._dynamo.utils import counters
import torch._dynamo.config
assert torch._dynamo.config.recompile_limit and callable(torch._dynamo.optimize)
"""


@pytest.mark.parametrize(("meanwhile", "afterwards"), [("", _OUT), (_WANTED, _REAL)], ids=["nothing", "compiler"])
def test_another_thread_finds_the_real_compiler(meanwhile: str, afterwards: str) -> None:
    script = _HALF_WAY.format(meanwhile=meanwhile, afterwards=afterwards)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_function_exempted_from_the_compiler_runs_while_timm_is_being_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", timm_import._StandIn("torch._dynamo"))
    assert timm_import._disable_later(lambda x: x + 1)(1) == 2
