"""Every error that the user can do something about, as a tree.

A message is one or two sentences: what happened, why, and the next step.

ThawlineError
├── UsageError            an option or argument with an impossible value            (ValueError)
├── DataError             the data cannot be used as they are                       (ValueError)
│   ├── MissingDataError  a path that does not exist                                (FileNotFoundError)
│   └── NoColumnError     a table without a column that is needed
│       └── NoLabelsError a table without labels
├── UndecodableError      one sample cannot be read; the data set lists and skips it (ValueError)
├── ModelError            a model cannot be opened                                  (ValueError)
│   ├── UnknownModelError no model of that name                                     (LookupError)
│   ├── WeightsError      the weights do not fit, or are not the ones promised
│   ├── NotConvertibleError OpenVINO cannot run this architecture; torch can
│   ├── DivergedError     the loss of training became NaN or infinite
│   └── HubError          the model hub cannot be reached                           (ConnectionError)
├── RunError              a run folder that cannot be written, read or understood   (ValueError)
├── ReceiptError          something frozen changed                                  (AssertionError)
└── StorageError          a disk that is full or cannot be written                  (OSError)

The command line prints the text of a ThawlineError, without a traceback, and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from thawline.naming import quoted, written


class ThawlineError(Exception):
    """The base of every error that the user can do something about."""

    def __init__(self, *args: object) -> None:
        """Hold a text that every terminal can print, whatever file it names."""
        super().__init__(*(written(arg) if isinstance(arg, str) else arg for arg in args))


class UsageError(ThawlineError, ValueError):
    """An option or argument has an impossible value."""


class DataError(ThawlineError, ValueError):
    """The data cannot be used as they are."""


class MissingDataError(DataError, FileNotFoundError):
    """A path does not exist."""

    def __str__(self) -> str:  # OSError would print "[Errno None]"
        return str(self.args[0])


class NoColumnError(DataError):
    """The table has no column that could be the one that is needed: it may be a table of something else."""


class NoLabelsError(NoColumnError):
    """The table has no column of labels, or nothing in it."""


class UndecodableError(ThawlineError, ValueError):
    """One sample cannot be read; its text is the reason, without the name of the sample."""


class ModelError(ThawlineError, ValueError):
    """A model cannot be opened."""


class UnknownModelError(ModelError, LookupError):
    """No model of that name."""


class WeightsError(ModelError):
    """The weights do not fit the architecture, or are not the ones promised."""


class NotConvertibleError(ModelError):
    """OpenVINO cannot run this architecture; torch can."""


class DivergedError(ModelError):
    """The loss of training became NaN or infinite; the same plan would do so again."""


class HubError(ModelError, ConnectionError):
    """The model hub cannot be reached."""

    def __str__(self) -> str:
        return str(self.args[0])


class RunError(ThawlineError, ValueError):
    """A run folder cannot be written, read or understood."""


class ReceiptError(ThawlineError, AssertionError):
    """Something that was declared frozen changed."""


class StorageError(ThawlineError, OSError):
    """A disk is full or cannot be written."""

    def __str__(self) -> str:
        return str(self.args[0])


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Return ``" Did you mean 'a', 'b'?"`` for the known names closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=n, cutoff=0.5)
    return f" Did you mean {', '.join(map(quoted, close))}?" if close else ""
