"""When this program began."""

import time

STARTED = time.monotonic()
"""From when on a budget of seconds is counted."""
