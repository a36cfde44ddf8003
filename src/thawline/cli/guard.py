"""Turn errors into one sentence and the right exit code. Loads no rich: help must be quick."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from thawline.errors import StorageError, ThawlineError

P = ParamSpec("P")
_PLACES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says of a path that somebody named and that cannot be; the next step is theirs."""


def guarded(verb: Callable[P, None]) -> Callable[P, None]:
    """Wrap a verb: its errors become one sentence and the right exit code."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            verb(*args, **kwargs)
        except ThawlineError as error:
            _fail(error, as_json=bool(kwargs.get("json_")))
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(_stopped(error)) from error
        except BrokenPipeError as error:  # the reader of our output went away, as `head` does
            sys.stderr.close()
            raise typer.Exit(1) from error
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise typer.Exit(_full(error)) from error
            if isinstance(error, OSError) and error.errno in _PLACES and error.filename:
                _fail(_unusable(error), as_json=bool(kwargs.get("json_")))
                raise typer.Exit(2) from error
            traceback.print_exc()
            sys.stderr.write(
                "\nThis is a defect in Thawline. Please report it with the lines above and the command you typed.\n"
            )
            raise typer.Exit(1) from error

    return run


def _unusable(error: OSError) -> StorageError:
    """Return the sentence on a place that the system refuses, wherever that was noticed."""
    from thawline.showing import printable

    step = "Give a shorter name" if error.errno == errno.ENAMETOOLONG else "Give another place, or change its rights"
    return StorageError(f"{printable(error.filename)} cannot be used: {error.strerror}. {step}.")


def _full(error: OSError) -> int:
    """Say which disk is full, in the end that of standard output; return the exit code."""
    where = error.filename or "Standard output"
    sys.stderr.write(f"error: {where} cannot be written: the disk is full. Free some space, then try again.\n")
    with contextlib.suppress(OSError, ValueError):  # else the interpreter would try again to write what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 2


def _stopped(error: KeyboardInterrupt) -> int:
    """Say what is left after Ctrl-C or SIGTERM; return the exit code that the shell expects of each."""
    from thawline.runs.stopping import Terminated, how_to_resume

    left = how_to_resume(error) or "Nothing half-written was left; features computed so far stay in the cache."
    sys.stderr.write(f"\nStopped. {left}\n")
    return 143 if isinstance(error, Terminated) else 130


def _fail(error: ThawlineError, *, as_json: bool) -> None:
    from thawline.cli.console import print_json, remark
    from thawline.runs.stopping import how_to_resume

    remark("error", "bold red", str(error))
    next_step = how_to_resume(error)
    if next_step:
        remark("note", "yellow", next_step)
    if as_json:
        message = f"{error} {next_step}" if next_step else str(error)
        print_json({"error": {"kind": type(error).__name__, "message": message}})
