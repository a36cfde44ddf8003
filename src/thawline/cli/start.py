"""When this process began."""

import time

STARTED = time.monotonic()
"""A budget of seconds is counted from here."""
