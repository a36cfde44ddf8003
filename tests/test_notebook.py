"""Progress in a notebook: bars appear there without being asked for, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import thawline as tl
from thawline.listening import Silent
from thawline.notebook import Bars, default_listener, in_notebook
from thawline.training_records import Evaluated


def evaluated(stage: str, *, val_loss: float | None) -> Evaluated:
    return Evaluated(
        stage=stage, stage_number=1, n_stages=1, epoch=1.0, step=2, n_steps=4, train_loss=0.5, val_loss=val_loss,
        val_accuracy=None, samples_per_s=1.0, seconds_left=1.0, lr=0.1,
    )  # fmt: skip


@dataclass
class Shell:
    """What ``get_ipython`` returns: a shell of Jupyter has a kernel, one in a terminal has none."""

    kernel: object = None


@pytest.fixture
def jupyter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: Shell(kernel=object())))


def test_only_a_kernel_is_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    for shell, expected in ((None, False), (object(), False), (Shell(), False), (Shell(object()), True)):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert in_notebook() == expected
        assert isinstance(default_listener(), Bars if expected else Silent)


def test_a_fit_in_a_notebook_shows_bars_and_a_script_shows_nothing(
    tiny_photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    data, backbone = tl.open_data(tiny_photos), tl.open_backbone(input_px=32)
    plan = tl.plan(data, backbone, thaw="last:1", training={"epochs": 2, "evaluations": 2})
    tl.fit(data, plan, backbone=backbone, run=tmp_path / "script")
    assert capfd.readouterr() == ("", "")
    request.getfixturevalue("jupyter")
    tl.fit(data, plan, backbone=backbone, run=tmp_path / "notebook")
    shown, errors = capfd.readouterr()
    assert "last:1: 100%" in shown and "last:1, all samples: 100%" in shown
    assert "validation loss=" in shown and "note: Thaw last:1" in shown
    assert errors == ""


def test_one_bar_for_each_phase(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    for done in (0, 5, 10, 0, 10):  # a phase may run again
        bars.progress("features", done, 10)
    bars.evaluated(evaluated("features", val_loss=0.25))
    bars.evaluated(evaluated("no bar of this name", val_loss=0.25))
    bars.progress("last:1", 2, 4)
    bars.evaluated(evaluated("last:1", val_loss=None))
    bars.note("one sentence")
    shown = capsys.readouterr().out
    assert "features: 100%" in shown and "10/10" in shown
    assert "training loss=0.500, validation loss=0.250" in shown and "accuracy" not in shown
    assert "last:1:  50%" in shown and "note: one sentence\n" in shown


def test_importing_loads_no_library_of_bars() -> None:
    script = "import sys, thawline, thawline.notebook, thawline.runs.walk; print('tqdm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
