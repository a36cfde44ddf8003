"""Take the picture of a report that the README shows: the first screen of the ants and bees, as docs/report.png.

    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python tools/screenshot.py

Needs Chromium (Debian and Ubuntu: ``apt install chromium``) as `chromium`, `chromium-browser` or `google-chrome`. The
picture has at most 64 colours: text and plain areas need no more, and the file stays small.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image
from showcase import COMMANDS, ROOT, inputs_in_place, printed, real_inputs

PICTURE = ROOT / "docs" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 1000, 940
"""Pixels; the height ends below the chart of the first card."""
COLOURS = 64


def photograph(page: Path, picture: Path) -> None:
    """Render a local page without a window and save its first screen as PNG."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"No Chromium found ({', '.join(BROWSERS)}). Install it: apt install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses its sandbox to root
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [browser, "--headless", "--disable-gpu", "--hide-scrollbars", *sandbox, f"--user-data-dir={profile}",
             f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", page.as_uri()],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip


def main() -> None:
    if not real_inputs():
        return
    with inputs_in_place() as folder:
        printed([*COMMANDS["fit"], "--run", "run"], folder)
        photograph(folder / "run" / "report.html", PICTURE)
    Image.open(PICTURE).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
