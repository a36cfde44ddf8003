"""Paste what commands really print into the documentation: below each ``<!-- showcase NAME -->``.

    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python tools/showcase.py [fit plan compare]

Each command runs in a terminal 100 columns wide, on the photographs of ants and bees with an ImageNet MobileNetV2, and
starts with an empty cache. `compare` takes ten minutes on two cores; it leaves out training from random weights, which
would double that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thawline.runs.strategies import PIXELS, STRATEGIES

ROOT = Path(__file__).parent.parent
WEIGHTS = "mobilenetv2_100.imagenet.safetensors"
DATA = "hymenoptera"
MODEL = ["--model", f"timm/mobilenetv2_100@{WEIGHTS}"]
ALL_BUT_SCRATCH = [name for name in (*STRATEGIES, *PIXELS) if name != "scratch"]
COMMANDS = {
    "fit": ["fit", DATA, *MODEL],
    "plan": ["plan", DATA, *MODEL],
    "compare": ["compare", DATA, *MODEL, "--input-px", "96", "--only", ",".join(ALL_BUT_SCRATCH)],
}
PAGES = {"fit": ROOT / "README.md", "plan": ROOT / "docs/strategies.md", "compare": ROOT / "docs/strategies.md"}
WIDTH = 100


def real_inputs() -> bool:
    """Tell whether the environment names the folders of real data and weights; print which variable is missing."""
    missing = [name for name in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(name)]
    if missing:
        print(f"Nothing was run: set {' and '.join(missing)} to the folders of the real data and weights.")
    return not missing


@contextmanager
def inputs_in_place() -> Iterator[Path]:
    """Make a temporary folder that holds the photographs and the weights, by the names that the commands use."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / DATA).symlink_to(Path(os.environ["THAWLINE_REAL_DATA"]) / DATA)
        (folder / WEIGHTS).symlink_to(Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / WEIGHTS)
        yield folder


def printed(command: list[str], folder: Path) -> str:
    """Run a command in a folder, with an empty cache, and return its standard output."""
    environment = os.environ | {
        "THAWLINE_CACHE": str(folder / "cache"),
        "COLUMNS": str(WIDTH),
        "TERM": "dumb",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from thawline.cli import main; main()", *command],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"thawline {' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def put(name: str, text: str, page: Path) -> None:
    """Replace the block of one command in a page."""
    shown = " ".join(COMMANDS[name]).replace(f"@{WEIGHTS}", "@FILE")
    mark = f"<!-- showcase {name}: {time.strftime('%Y-%m-%d')}, tools/showcase.py -->"
    block = f"{mark}\n```text\n$ thawline {shown}\n{text}\n```\n"
    pattern = rf"<!-- showcase {name}\b.*?-->\n```text\n(?:(?!```).)*```\n"
    found, n = re.subn(pattern, lambda _: block, page.read_text(encoding="utf-8"), flags=re.DOTALL)
    if n != 1:
        raise SystemExit(f"{page} must hold one block for {name!r}, after `<!-- showcase {name} -->`; found {n}.")
    page.write_text(found, encoding="utf-8")


def main() -> None:
    if not real_inputs():
        return
    for name in sys.argv[1:] or list(COMMANDS):
        with inputs_in_place() as folder:
            text = printed(COMMANDS[name], folder)
        print(text)
        put(name, text, PAGES[name])


if __name__ == "__main__":
    main()
