"""A fit that is stopped says how to resume, and `fit --resume` does."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thawline.errors import ReceiptError
from thawline.runs.folder import draft_of
from thawline.runs.stopping import Terminated

KEPT = "The run was kept; resume it with: thawline fit --resume here"
NOTHING_LEFT = "Nothing half-written was left; features computed so far stay in the cache."


@pytest.fixture(autouse=True)
def in_the_folder_of_the_photos(
    tmp_path: Path, tiny_photos: Path, warm_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def stop(thawline: Callable[..., Any]) -> Callable[..., Any]:
    """Begin or resume a fit that an error ends in the middle of training."""

    def run(error: BaseException, *asked: object, checkpoint: bool = True) -> Any:
        def measure(*given: Any, planned: Any) -> None:
            if checkpoint:
                (given[-1] / "step.safetensors").write_text("weights")
            raise error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("thawline.runs.walk.measure", measure)
            return thawline("fit", *(asked or ("photos", "--run", "here", "--quiet")))

    return run


def test_ctrl_c_says_how_to_resume_and_resume_does(thawline, stop) -> None:
    answer = stop(KeyboardInterrupt())
    assert answer.code == 130
    assert answer.err.strip() == f"Stopped. {KEPT}"
    assert answer.out == ""
    answer = thawline("fit", "--resume", "here", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["run"] == "here"
    assert answer.json["test"] == thawline("fit", "photos", "--json").json["test"]
    assert not draft_of(Path("here")).folder.exists()


def test_ctrl_c_before_anything_was_learned_leaves_nothing(stop) -> None:
    answer = stop(KeyboardInterrupt(), checkpoint=False)
    assert (answer.code, answer.err.strip()) == (130, f"Stopped. {NOTHING_LEFT}")
    assert [path.name for path in Path().iterdir()] == ["photos"]


def test_sigterm_has_its_own_exit_code(stop) -> None:
    answer = stop(Terminated())
    assert (answer.code, answer.err.strip()) == (143, f"Stopped. {KEPT}")


def test_a_full_disk_says_how_to_resume(stop) -> None:
    answer = stop(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    said = " ".join(answer.err.split())
    assert answer.code == 2
    assert "error: here cannot be written: the disk is full." in said
    assert f"note: {KEPT}" in said
    answer = stop(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "--resume", "here", "--json")
    assert answer.json["error"]["kind"] == "StorageError"
    assert answer.json["error"]["message"].endswith(KEPT)


def test_a_defect_keeps_what_was_learned(stop) -> None:
    answer = stop(ZeroDivisionError("oops"))
    assert answer.code == 1
    assert KEPT in answer.err
    assert draft_of(Path("here")).can_resume


def test_a_violated_receipt_keeps_nothing(stop) -> None:
    answer = stop(ReceiptError("stem.weight moved"))
    assert answer.code == 2
    assert "--resume" not in answer.err
    assert [path.name for path in Path().iterdir()] == ["photos"]


STOPPED_CHILD = """
import os, signal, sys, time
from thawline.runs import walk

number = getattr(signal, sys.argv.pop(1))
if number == signal.SIGINT:  # a shell has its background jobs ignore it, and their children inherit that
    signal.signal(number, signal.default_int_handler)

def measure(*asked, planned):
    (asked[-1] / "step.safetensors").write_text("weights")
    os.kill(os.getpid(), number)
    time.sleep(30)

walk.measure = measure
from thawline.cli import main
main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_from_outside(thawline, name: str, code: int) -> None:
    command = [sys.executable, "-c", STOPPED_CHILD, name, "fit", "photos", "--run", "here"]
    done = subprocess.run(command, env=os.environ.copy(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert f"Stopped. {KEPT}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert draft_of(Path("here")).can_resume


def test_kill_9_while_features_are_computed(thawline, clean_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From outside, as soon as the run can be resumed."""
    monkeypatch.setenv("THAWLINE_CACHE", str(clean_cache / "empty"))
    command = [sys.executable, "-c", "from thawline.cli import main; main()", "fit", "photos", "--run", "here"]
    process = subprocess.Popen(command, env=os.environ.copy(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not draft_of(Path("here")).request.exists():
        pass
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not Path("here").exists()
    assert "thawline fit --resume here" in thawline("report", "here").err
    assert (
        "thawline fit --resume here`, or add --force to start again" in thawline("fit", "photos", "--run", "here").err
    )
    assert thawline("fit", "--resume", "here", "--quiet").code == 0
    assert thawline("fit", "photos", "--run", "there", "--quiet").code == 0
    assert Path("here/model.safetensors").read_bytes() == Path("there/model.safetensors").read_bytes()


def test_a_finished_run_is_printed_again(thawline, run_folder: Path) -> None:
    answer = thawline("fit", "--resume", run_folder)
    assert answer.code == 0
    assert f"note: {run_folder} is finished; there is nothing to resume. Report: " in answer.err
    assert "on the test set" in answer.out
    assert thawline("fit", "--resume", run_folder, "--json").json["receipt"] == "clean"


def test_what_was_never_begun(thawline) -> None:
    answer = thawline("fit", "--resume", "nowhere")
    assert answer.code == 2
    assert "start the run: thawline fit DATA --run nowhere" in answer.err


def test_data_are_named_again_only_where_they_were_moved(thawline, stop) -> None:
    stop(KeyboardInterrupt())
    Path("photos").rename("pictures")
    assert thawline("fit", "--resume", "here").code == 2
    answer = thawline("fit", "pictures", "--resume", "here", "--quiet")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    "typed",
    ["--seed 1", "--run there", "--force", "--plan p.toml", "--thaw none", "--from-scratch", "--tensorboard",
     "--label-column x", "--strict", "--device cpu", "--epochs 1 --set lr=1", "--split 60/20/20", "--model timm/x"],
)  # fmt: skip
def test_what_was_decided_is_not_typed_again(thawline, typed: str) -> None:
    answer = thawline("fit", "--resume", "here", *typed.split())
    names = ", ".join(word for word in typed.split() if word.startswith("--"))
    assert answer.code == 2
    assert f"--resume does what was asked when the run began; {names} was typed as well." in answer.err


def test_fit_needs_data_or_a_run(thawline) -> None:
    answer = thawline("fit", "--quiet", "--json")
    assert answer.code == 2
    assert json.loads(answer.out)["error"]["message"].startswith("fit must have DATA, or --resume RUN; got neither.")
