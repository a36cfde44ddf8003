"""The run folder: whole or not at all, never over anything that is not a run, and one process at a time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thawline.errors import DataError, DivergedError, ReceiptError, RunError, StorageError
from thawline.runs import folder as run_folder
from thawline.runs.folder import CONTENTS, Draft, completed, draft_of, first_free, locked, new_run_folder
from thawline.runs.stopping import Terminated, how_to_resume, sigterm_interrupts


def fill(folder: Path, mark: str = "") -> None:
    for name in CONTENTS:
        (folder / name).write_text(mark)


def begin(draft: Draft, *, checkpoint: bool = False) -> None:
    draft.request.write_text("{}")
    if checkpoint:
        (draft.state / "step.safetensors").write_text("weights")


WORK_AND_DIE = """
import os, signal, sys
from pathlib import Path
from thawline.runs.folder import new_run_folder
with new_run_folder(Path(sys.argv[1]), "photos") as draft:
    draft.request.write_text("{}")
    if sys.argv[2:]:
        (draft.state / "step.safetensors").write_text("weights")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_in_the_middle(target: Path, *, checkpoint: bool = False) -> Draft:
    """Leave behind what a process leaves that is killed while it works on a run."""
    command = [sys.executable, "-c", WORK_AND_DIE, str(target), *(["checkpoint"] if checkpoint else [])]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    return draft_of(target)


def test_a_run_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with new_run_folder(target, "photos") as draft:
        begin(draft, checkpoint=True)
        fill(draft.folder)
        (draft.folder / ".model.safetensors.x.partial").write_text("left by a process that was killed")
        assert draft.target == target
        assert draft.folder == tmp_path / "deep" / ".run.unfinished"
        assert not target.exists()
    run_folder.require_complete(target)
    assert [path.name for path in target.parent.iterdir()] == ["run"]
    assert sorted(path.name for path in target.iterdir()) == sorted(CONTENTS)


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit, MemoryError, DataError])
def test_what_stops_it_before_a_checkpoint_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop) as caught, new_run_folder(tmp_path / "deep" / "run", "photos") as draft:
        begin(draft)
        fill(draft.folder)
        (draft.state / ".step.safetensors.x.partial").write_text("half a checkpoint")
        raise stop
    assert not list(tmp_path.iterdir())
    assert how_to_resume(caught.value) is None


@pytest.mark.parametrize("wanted", [None, Path("deep/run")])
def test_ctrl_c_while_a_run_takes_its_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Path | None
) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder, "_claim", interrupted)
    with pytest.raises(KeyboardInterrupt), new_run_folder(wanted, "photos"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, Terminated, SystemExit, MemoryError, DataError])
def test_what_stops_it_after_a_checkpoint_says_how_to_resume(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop) as caught, new_run_folder(tmp_path / "a run", "photos") as draft:
        begin(draft, checkpoint=True)
        raise stop
    assert how_to_resume(caught.value) == (
        f"The run was kept; resume it with: thawline fit --resume '{tmp_path / 'a run'}'"
    )
    assert (draft.state / "step.safetensors").read_text() == "weights"
    assert not (tmp_path / "a run").exists()


@pytest.mark.parametrize("resumed", [False, True])
def test_a_violated_receipt_is_never_kept(tmp_path: Path, resumed: bool) -> None:
    draft = kill_in_the_middle(tmp_path / "run", checkpoint=True)
    with pytest.raises(ReceiptError) as caught, locked(draft), completed(draft, force=False, resumed=resumed):
        raise ReceiptError("stem.weight moved")
    assert not list(tmp_path.iterdir())
    assert how_to_resume(caught.value) is None


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_that_diverged_is_never_kept_as_it_would_do_so_again(tmp_path: Path, resumed: bool) -> None:
    draft = kill_in_the_middle(tmp_path / "run", checkpoint=True)
    with pytest.raises(DivergedError) as caught, locked(draft), completed(draft, force=False, resumed=resumed):
        raise DivergedError("the loss became nan")
    assert not list(tmp_path.iterdir())
    assert how_to_resume(caught.value) is None


def test_a_run_that_is_gone_on_with_is_kept_whatever_happens(tmp_path: Path) -> None:
    draft = kill_in_the_middle(tmp_path / "run")
    with pytest.raises(DataError) as caught, locked(draft), completed(draft, force=False, resumed=True):
        raise DataError("the disk with the photos is not there")
    assert draft.can_resume
    assert "--resume" in str(how_to_resume(caught.value))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_full_disk_is_named(tmp_path: Path, checkpoint: bool) -> None:
    with pytest.raises(StorageError, match=r"run cannot be written: the disk is full") as caught:
        with new_run_folder(tmp_path / "run", "photos") as draft:
            begin(draft, checkpoint=checkpoint)
            raise OSError(errno.ENOSPC, "No space left on device")
    assert draft.folder.exists() == checkpoint
    assert (how_to_resume(caught.value) is not None) == checkpoint


def test_other_errors_of_the_system_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), new_run_folder(tmp_path / "run", "photos"):
        raise PermissionError(errno.EACCES, "a photo")


def test_runs_are_numbered_and_unfinished_ones_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 3):
        with new_run_folder(None, "photos") as draft:
            fill(draft.folder)
        assert draft.target == Path("runs") / f"photos-{number}"
    kill_in_the_middle(Path("runs/photos-4"))
    assert first_free(Path("runs"), "photos") == Path("runs/photos-5")
    with new_run_folder(None, "photos") as first, new_run_folder(None, "photos") as second:
        assert (first.target.name, second.target.name) == ("photos-5", "photos-6")
        fill(first.folder)
        fill(second.folder)


@pytest.mark.parametrize("name", ["x" * 250, "\N{BLOSSOM}" * 60, "a\nb", os.fsdecode(b"caf\xe9"), "  "])
def test_odd_names_of_data_name_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with new_run_folder(None, name) as draft:
        begin(draft)
    (run,) = Path("runs").iterdir()
    assert run.name.isprintable() and run.name.endswith("-1")


def test_a_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    with new_run_folder(tmp_path / "run", "photos") as draft:
        fill(draft.folder, "old")
    with pytest.raises(RunError, match=r"must be new; .*run holds a run. Choose another --run, or add --force"):
        with new_run_folder(tmp_path / "run", "photos"):
            pass
    with pytest.raises(ValueError, match="stopped"), new_run_folder(tmp_path / "run", "photos", force=True):
        raise ValueError("stopped")
    assert (tmp_path / "run" / "plan.toml").read_text() == "old"
    with new_run_folder(tmp_path / "run", "photos", force=True) as draft:
        fill(draft.folder, "new")
    assert (tmp_path / "run" / "plan.toml").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_no_run_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(RunError, match="holds other files, which are never overwritten"):
        with new_run_folder(tmp_path, "photos", force=True):
            pass
    assert (tmp_path / "thesis.tex").read_text() == "ten years"


def test_what_came_to_stand_there_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="never overwritten") as caught:
        with new_run_folder(tmp_path / "run", "photos", force=True) as draft:
            begin(draft)
            fill(draft.folder)
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "thesis.tex").write_text("ten years")
    assert (tmp_path / "run" / "thesis.tex").read_text() == "ten years"
    assert draft.can_resume and how_to_resume(caught.value)


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with new_run_folder(tmp_path / "run", "photos") as draft:
        fill(draft.folder)
    run_folder.require_complete(draft.target)


def test_an_unfinished_run_is_refused_with_both_ways_on(tmp_path: Path) -> None:
    draft = kill_in_the_middle(tmp_path / "run", checkpoint=True)
    with pytest.raises(
        RunError, match=r"was stopped before it ended. Resume it with `thawline fit --resume .*run`, or .* --force"
    ):
        with new_run_folder(tmp_path / "run", "photos"):
            pass
    with pytest.raises(RunError, match="--resume"):
        run_folder.check_place(tmp_path / "run", force=False)
    assert (draft.state / "step.safetensors").exists()
    with new_run_folder(tmp_path / "run", "photos", force=True) as again:
        assert not list(again.state.iterdir())
        assert not again.request.exists()
        fill(again.folder)
    run_folder.require_complete(tmp_path / "run")


def test_what_was_killed_before_it_began_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".run.unfinished" / "state").mkdir(parents=True)
    (tmp_path / ".run.unfinished" / "plan.toml").write_text("half a pl")
    with new_run_folder(tmp_path / "run", "photos") as draft:
        assert not (draft.folder / "plan.toml").exists()
        fill(draft.folder)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from thawline.runs.folder import new_run_folder\n"
        "with new_run_folder(Path(sys.argv[1]), 'photos') as draft:\n"
        "    draft.request.write_text('{}'); print('working', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "working\n"
        busy = rf"one process at a time; process {other.pid} is writing .*run\. Wait until it ends, or choose"
        for force in (False, True):
            with pytest.raises(RunError, match=busy):
                run_folder.check_place(tmp_path / "run", force=force)
            with pytest.raises(RunError, match=busy), new_run_folder(tmp_path / "run", "photos", force=force):
                pass
        with pytest.raises(RunError, match=busy), locked(draft_of(tmp_path / "run")):
            pass
    finally:
        other.kill()
        other.communicate()
    with locked(draft_of(tmp_path / "run")):  # a process that was killed has let go
        pass


def test_a_lock_on_a_draft_that_has_gone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the opening of the file and the lock, the other process finished."""
    import fcntl

    draft = kill_in_the_middle(tmp_path / "run")

    def removed_just_now(*_: object) -> None:
        draft.lock.unlink()

    monkeypatch.setattr(fcntl, "flock", removed_just_now)
    with pytest.raises(RunError, match="one process at a time"), locked(draft):
        pass


@pytest.mark.parametrize("existed", [False, True])
def test_a_kill_within_the_last_move_loses_nothing(tmp_path: Path, existed: bool) -> None:
    target, moves = tmp_path / "run", []
    if existed:
        with new_run_folder(target, "photos") as draft:
            fill(draft.folder, "old")

    class Killed(BaseException):
        """In the place of SIGKILL, which nothing is done after."""

    def die_at(number: int) -> None:
        with pytest.MonkeyPatch.context() as patch:

            def counted(call):
                def wrapped(*args, **kwargs):
                    moves.append(call.__name__)
                    if len(moves) == number:
                        raise Killed
                    return call(*args, **kwargs)

                return wrapped

            for name in ("rename", "unlink"):
                patch.setattr(Path, name, counted(getattr(Path, name)))
            patch.setattr(run_folder.shutil, "rmtree", counted(run_folder.shutil.rmtree))
            draft = draft_of(target)
            with locked(draft):
                run_folder.finish(draft, force=True)

    for number in range(1, 20):
        moves.clear()
        draft = draft_of(target)
        with pytest.raises(Killed), new_run_folder(target, "photos", force=True):  # leaves all to be found again
            begin(draft, checkpoint=True)
            fill(draft.folder, f"new {number}")
            raise Killed
        try:
            die_at(number)
        except Killed:
            if draft.folder.exists():
                assert draft.can_resume
                with locked(draft):
                    run_folder.finish(draft, force=True)
        else:
            break
        assert (target / "plan.toml").read_text() == f"new {number}"
        assert not draft.folder.exists()
    assert number > 5
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_incomplete_run_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must be a folder that `thawline fit` wrote; .*none is not there"):
        run_folder.require_complete(tmp_path / "none")
    with pytest.raises(RunError, match="holds no run"):
        run_folder.require_complete(tmp_path)
    fill(tmp_path)
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "receipt.json").unlink()
    with pytest.raises(RunError, match=r"lacks metrics.json, receipt.json. Copy the whole folder again"):
        run_folder.require_complete(tmp_path)
    kill_in_the_middle(tmp_path / "run")
    with pytest.raises(RunError, match=r"must be finished; .*run is not. Resume it: thawline fit --resume"):
        run_folder.require_complete(tmp_path / "run")


def test_a_draft_is_found_by_both_of_its_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = Draft(tmp_path / "v1.2")
    assert draft_of(draft.target) == draft_of(draft.folder) == draft
    monkeypatch.chdir(tmp_path)
    assert draft_of(Path()).target == tmp_path


def test_sigterm_is_an_interrupt_while_a_run_works() -> None:
    with pytest.raises(Terminated), sigterm_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_program_stays() -> None:
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append("mine"))
    try:
        with sigterm_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == ["mine"]
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
