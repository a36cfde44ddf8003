"""The run folder: written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from thawline.errors import RunError
from thawline.scale.disk import is_full, storage_errors

METRICS, RECEIPT, EVENTS, REPORT, PREDICTIONS, PLAN, SEEN = (
    "metrics.json",
    "receipt.json",
    "events.jsonl",
    "report.html",
    "predictions.csv",
    "plan.toml",
    "seen.txt",
)
CONTENTS = ("model.safetensors", "bundle.json", PLAN, METRICS, RECEIPT, EVENTS, PREDICTIONS, SEEN, REPORT)
"""What every run folder holds."""


@contextmanager
def new_run_folder(wanted: Path | None, name: str, *, force: bool = False) -> Iterator[tuple[Path, Path]]:
    """Yield (folder to write into, path it will have); it takes that path only if the block ends without an error.

    Args:
        wanted: Where the run should be; None takes the first free ``runs/NAME-1``, ``-2``, ...
        name: Short name of the data.
        force: Replace a run that stands there. Anything that is not a run folder is never replaced.
    Raises:
        RunError: The place is taken, or cannot be written.
        StorageError: The disk is full, or the place cannot be written.
    """
    target = wanted or first_free(Path("runs"), name)
    check_place(target, force=force)
    made = [parent for parent in target.parents if not parent.exists()]
    try:
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        try:
            yield draft, target
            with storage_errors(target):
                draft.chmod(0o755)
                _replace(draft, target)
        except OSError as error:
            if is_full(error):  # others may come from reading the data: they pass as they are
                with storage_errors(target):
                    raise
            raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        for parent in made:  # only those that stayed empty
            with suppress(OSError):
                parent.rmdir()


def check_place(target: Path, *, force: bool) -> None:
    """Refuse a place that is taken before any work is done.

    Raises:
        RunError: Names what stands there, and the way on.
    """
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise RunError(f"run folder must be new or an empty folder; {target} is a file.")
    if not any(target.iterdir()):
        return
    if not is_run_folder(target):
        raise RunError(f"run folder must be new or empty; {target} holds other things, which are never overwritten.")
    if not force:
        raise RunError(
            f"run folder must be new; {target} holds a run. Choose another --run, or add --force to replace it."
        )


def is_run_folder(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).is_file() for name in (METRICS, "bundle.json"))


def require_complete(folder: Path) -> None:
    """Check that everything a run folder holds is there.

    Raises:
        RunError: Names what is missing.
    """
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise RunError(f"run must be a folder that `thawline fit` wrote; {folder} is {what}.")
    if not is_run_folder(folder):
        raise RunError(f"run must be a folder that `thawline fit` wrote; {folder} holds no run.")
    if missing := [name for name in CONTENTS if not (folder / name).is_file()]:
        raise RunError(
            f"run folder must hold {', '.join(CONTENTS)}; {folder} lacks {', '.join(missing)}. "
            "Copy it again from where it came, or run `thawline fit` once more."
        )


def first_free(parent: Path, name: str) -> Path:
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def _replace(draft: Path, target: Path) -> None:
    """Move the finished folder into place; an old run stays whole until the new one stands."""
    old = draft.with_suffix(".old")
    if target.exists():
        target.rename(old)
    try:
        draft.rename(target)
    except OSError:
        with suppress(OSError):
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
