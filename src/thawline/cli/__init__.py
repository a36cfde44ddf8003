"""The command line: one file per verb, and nothing that the Python API does not have.

Takes arguments; gives tables for people or one JSON object for programs, progress on standard error, exit code 0 when
done, 2 for an error that the user can mend, 1 for a defect, 130 after Ctrl-C, 143 after SIGTERM. Refuses only options
that cannot be or do not go together; all other errors come from the rooms.
"""

import atexit
import gc
import os
import signal
import sys
from io import TextIOWrapper

from thawline.cli.start import STARTED as STARTED
from thawline.scale.signals import interrupt_when_heard


def main() -> None:
    """Run the command ``thawline``."""
    for stream in (sys.stdout, sys.stderr):  # one that takes ASCII alone shows other letters as \\xe9: it stops nothing
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:  # an interruption before a verb has begun must not end in a traceback either
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
            signal.signal(signal.SIGINT, interrupt_when_heard(KeyboardInterrupt))
        # OpenMP's threads spin while they wait for each other. On a machine with other work that made features seven
        # times slower (measured), so here they sleep. The environment of this process is ours to set.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # The threads of numpy's OpenBLAS spin, too, for 2 ** 26 cycles after each product. That took a twentieth of the
        # processor time of a fit from decoding and the network; here they sleep after 2 ** 14.
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "14")
        # What libraries report of their users is nobody's business; ours import none that would, and this says so.
        os.environ.setdefault("DO_NOT_TRACK", "1")
        # An interpreter that ends looks for cycles in everything it holds. That takes a tenth of a second, for memory
        # that the system takes back anyway.
        atexit.register(gc.freeze)
        from typer.main import get_command

        from thawline.cli.app import app

        command = get_command(app)
        command.rich_markup_mode = None  # type: ignore[attr-defined]  # the list of verbs is plain, and quick: no rich
        command(prog_name="thawline")
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped before anything was done.\n")
        sys.exit(130)
