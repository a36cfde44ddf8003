"""The run folder: written beside its place and moved into it whole. Until then a stopped run can be resumed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from thawline.errors import DivergedError, ReceiptError, RunError
from thawline.naming import as_folder_name
from thawline.runs.stopping import note_how_to_resume
from thawline.scale.disk import is_folder, is_full, is_there, storage_errors

METRICS, RECEIPT, LOAD_RECEIPT, EVENTS, REPORT, PREDICTIONS, PLAN, SEEN = (
    "metrics.json",
    "receipt.json",
    "load_receipt.json",
    "events.jsonl",
    "report.html",
    "predictions.csv",
    "plan.toml",
    "seen.txt",
)
_ALWAYS = ("model.safetensors", "bundle.json", PLAN, METRICS, RECEIPT, EVENTS, PREDICTIONS, SEEN, REPORT)
"""What every run folder holds, also one that an earlier release wrote."""
CONTENTS = (*_ALWAYS, LOAD_RECEIPT)
"""What every run folder of this release holds."""
TENSORBOARD = "tensorboard"
"""Folder of curves that a run also holds if they were asked for."""
_UNFINISHED = ".unfinished"


@dataclass(frozen=True, slots=True)
class Draft:
    """An unfinished run: a folder beside the place it will take, under a name that follows from that place."""

    target: Path
    """Where the run will stand."""

    @property
    def folder(self) -> Path:
        return self.target.with_name(f".{self.target.name}{_UNFINISHED}")

    @property
    def request(self) -> Path:
        """What was asked. While this file exists the run can be resumed; it is removed when all else is written."""
        return self.folder / "request.json"

    @property
    def state(self) -> Path:
        """Folder of checkpoints."""
        return self.folder / "state"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def has_checkpoint(self) -> bool:
        """Whether training has left a checkpoint; names of temporary files begin with a dot."""
        return any(path.is_file() and not path.name.startswith(".") for path in self.state.rglob("*"))

    @property
    def is_whole(self) -> bool:
        """Whether only the move into its place is missing."""
        return not is_there(self.request) and not _missing(self.folder)

    @property
    def can_resume(self) -> bool:
        return is_there(self.request) or self.is_whole


def draft_of(run: Path) -> Draft:
    """Return the draft of a run, given the place that the run will take or the draft's own folder."""
    name = run.name
    if name.startswith(".") and name.endswith(_UNFINISHED):
        return Draft(run.with_name(name.removeprefix(".").removesuffix(_UNFINISHED)))
    return Draft(run if name not in ("", "..") else run.resolve())


@contextmanager
def new_run_folder(wanted: Path | None, name: str, *, force: bool = False) -> Iterator[Draft]:
    """Yield a draft to write into; the draft takes its place only if the block ends without an error.

    Args:
        wanted: Where the run should be; None takes the first free ``runs/NAME-1``, ``-2``, ...
        name: Short name of the data.
        force: Replace the run that stands there, finished or not. Anything that is no run folder is never replaced.
    Raises:
        RunError: The place is taken, or another process is working on it.
        StorageError: The disk is full, or the place cannot be written.
    """
    if wanted is not None:
        check_place(wanted, force=force)
    parent = Path("runs") if wanted is None else draft_of(wanted).target.parent
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    draft = None if wanted is None else draft_of(wanted)
    begun = draft is not None and draft.folder.exists()
    try:
        with storage_errors(wanted or parent):
            parent.mkdir(parents=True, exist_ok=True)
            draft = draft or _numbered(parent, name)
            draft.folder.mkdir(exist_ok=True)
        with locked(draft):
            _check_free(draft, force=force)  # another process may have finished the run in the meantime
            with completed(draft, force=force):
                with storage_errors(draft.target):
                    _empty(draft)
                    draft.state.mkdir()
                yield draft
    except KeyboardInterrupt:
        if draft is not None and not begun:
            _forget_untouched(draft)
        raise
    finally:
        for folder in made:  # removes only empty ones
            with suppress(OSError):
                folder.rmdir()


def _forget_untouched(draft: Draft) -> None:
    """Remove a draft that holds nothing but its lock."""
    with suppress(OSError):
        if list(draft.folder.iterdir()) == [draft.lock]:
            draft.lock.unlink()
        draft.folder.rmdir()


@contextmanager
def completed(draft: Draft, *, force: bool, resumed: bool = False) -> Iterator[None]:
    """Move the draft into its place if the block ends without an error.

    After an error the draft is kept if training has left a checkpoint, or if the run was resumed. A run whose receipt
    was violated, or whose training diverged, is never kept: resumed, it would come to the same.
    """
    whole = False
    try:
        with _full_disk(draft.target):
            yield
            whole = True
            finish(draft, force=force)
    except BaseException as error:
        wanted = whole or resumed or draft.has_checkpoint
        if isinstance(error, ReceiptError | DivergedError) or not wanted:
            shutil.rmtree(draft.folder, ignore_errors=True)
        elif draft.folder.exists():
            note_how_to_resume(error, draft.target)
        raise


def finish(draft: Draft, *, force: bool) -> None:
    """Remove what only an unfinished run needs, and move the draft into its place in one step.

    Raises:
        RunError: Something has taken the place in the meantime.
        StorageError: The place cannot be written.
    """
    _check_target(draft.target, force=force)
    with storage_errors(draft.target):
        for half_written in draft.folder.glob(".*.partial"):  # left by a process that was killed
            half_written.unlink()
        draft.request.unlink(missing_ok=True)  # from here on only tidying is left: see `is_whole`
        shutil.rmtree(draft.state, ignore_errors=True)
        draft.lock.unlink(missing_ok=True)
        _replace(draft.folder, draft.target)


@contextmanager
def locked(draft: Draft) -> Iterator[None]:
    """Lock a draft against other processes while the block runs; a killed process releases its lock.

    Raises:
        RunError: Another process is working on the run.
    """
    with storage_errors(draft.target):
        file = draft.lock.open("a+", encoding="utf-8")
    with file:
        if not _claim(file, draft.lock):
            raise _in_use(draft)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_place(target: Path, *, force: bool) -> None:
    """Refuse a place that is taken, before any work is done.

    Raises:
        RunError: Names what stands there and what to do.
    """
    draft = draft_of(target)
    if "\0" in str(target) or not _can_be_a_name(target):
        raise RunError(f"run must be the path of a folder; {str(target)!r} holds what no name can. Take that out.")
    with storage_errors(target):
        if draft.lock.exists():
            with locked(draft):
                pass
        _check_free(draft, force=force)


def _can_be_a_name(path: Path) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def is_run_folder(folder: Path) -> bool:
    return is_folder(folder) and any((folder / name).is_file() for name in (METRICS, "bundle.json"))


def require_complete(folder: Path) -> None:
    """Check that a run folder holds every file that it must.

    Raises:
        RunError: Names the missing files.
    """
    if not is_run_folder(folder) and draft_of(folder).can_resume:
        raise RunError(f"run must be finished; {folder} is not. Resume it: thawline fit --resume {folder}")
    if not is_folder(folder):
        what = "a file" if is_there(folder) else "not there"
        raise RunError(f"run must be a folder that `thawline fit` wrote; {folder} is {what}.")
    if not is_run_folder(folder):
        raise RunError(f"run must be a folder that `thawline fit` wrote; {folder} holds no run.")
    if missing := _missing(folder):
        raise RunError(
            f"run folder must hold {', '.join(_ALWAYS)}; {folder} lacks {', '.join(missing)}. "
            "Copy the whole folder again, or run `thawline fit` again."
        )


def first_free(parent: Path, name: str) -> Path:
    """Return the first of ``NAME-1``, ``-2``, ... that no run, finished or unfinished, has taken."""
    name, number = as_folder_name(name), 1
    while (place := parent / f"{name}-{number}").exists() or Draft(place).folder.exists():
        number += 1
    return place


def _numbered(parent: Path, name: str) -> Draft:
    while True:
        draft = Draft(first_free(parent, name))
        with suppress(FileExistsError):  # another process was quicker: try the next number
            draft.folder.mkdir()
            return draft


def _missing(folder: Path) -> list[str]:
    return [name for name in _ALWAYS if not is_there(folder / name)]


def _check_free(draft: Draft, *, force: bool) -> None:
    if draft.can_resume and not force:
        raise RunError(
            f"run folder must be new; the run {draft.target} was stopped before it ended. Resume it with `thawline fit "
            f"--resume {draft.target}`, or add --force to start again."
        )
    _check_target(draft.target, force=force)


def _check_target(target: Path, *, force: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise RunError(f"run folder must be new or an empty folder; {target} is a file.")
    if not any(target.iterdir()):
        return
    if not is_run_folder(target):
        raise RunError(f"run folder must be new or empty; {target} holds other files, which are never overwritten.")
    if not force:
        raise RunError(
            f"run folder must be new; {target} holds a run. Choose another --run, or add --force to replace it."
        )


def _claim(file: IO[str], path: Path) -> bool:
    """Lock an open file; return False if another process has the lock, or if the draft now holds another lock file."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock is taken there
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network disks have no locks: work without one
        return True
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _in_use(draft: Draft) -> RunError:
    process = ""
    with suppress(OSError):
        process = draft.lock.read_text(encoding="utf-8")
    return RunError(
        f"run must be written by one process at a time; process {process or 'unknown'} is writing {draft.target}. "
        "Wait until it ends, or choose another --run."
    )


def _empty(draft: Draft) -> None:
    """Remove what an earlier attempt left, except for our lock."""
    for path in draft.folder.iterdir():
        if path == draft.lock:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def _full_disk(target: Path) -> Iterator[None]:
    """Turn a full disk into one sentence; other system errors may come from reading the data and pass unchanged."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            with storage_errors(target):
                raise
        raise


def _replace(draft: Path, target: Path) -> None:
    """Move the finished folder into place; an old run stays whole until the new one has taken its place."""
    old = draft.with_suffix(".replaced")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)  # left by a process that was killed at this point
        target.rename(old)
    try:
        draft.rename(target)
    except OSError:
        with suppress(OSError):
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
