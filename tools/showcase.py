"""Put what the commands really print into the README: between ``<!-- showcase NAME -->`` and the end of the block.

    THAWLINE_REAL_DATA=... THAWLINE_REAL_WEIGHTS=... python tools/showcase.py [fit plan compare]

Each command runs in a terminal 100 columns wide, on the photographs of ants and bees and an ImageNet MobileNetV2, with
an empty cache. `compare` trains all strategies at 96 px but random weights, which alone would take as long as all
others: ten minutes on two cores.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from thawline.runs.strategies import PIXELS, STRATEGIES

README = Path(__file__).parent.parent / "README.md"
WEIGHTS = "mobilenetv2_100.imagenet.safetensors"
DATA = "hymenoptera"
MODEL = ["--model", f"timm/mobilenetv2_100@{WEIGHTS}"]
ALL_BUT_SCRATCH = [name for name in (*STRATEGIES, *PIXELS) if name != "scratch"]
COMMANDS = {
    "fit": ["fit", DATA, *MODEL],
    "plan": ["plan", DATA, *MODEL],
    "compare": ["compare", DATA, *MODEL, "--input-px", "96", "--only", ",".join(ALL_BUT_SCRATCH)],
}
WIDTH = 100


def printed(command: list[str], folder: Path) -> str:
    """What a command prints on standard output, in a folder that holds data and weights."""
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


def put(name: str, text: str, page: str) -> str:
    """Replace the block of one command in a page."""
    shown = " ".join(COMMANDS[name]).replace(f"@{WEIGHTS}", "@FILE")
    mark = f"<!-- showcase {name}: {time.strftime('%Y-%m-%d')}, tools/showcase.py -->"
    block = f"{mark}\n```text\n$ thawline {shown}\n{text}\n```\n"
    pattern = rf"<!-- showcase {name}\b.*?-->\n```text\n(?:(?!```).)*```\n"
    found, n = re.subn(pattern, lambda _: block, page, flags=re.DOTALL)
    if n != 1:
        raise SystemExit(f"{README} must hold one block for {name!r}, after `<!-- showcase {name} -->`; found {n}.")
    return found


def main() -> None:
    if missing := [n for n in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(n)]:
        print(f"{' and '.join(missing)} must be set: these outputs are of real data and weights. Nothing was run.")
        return
    for name in sys.argv[1:] or list(COMMANDS):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            (folder / DATA).symlink_to(Path(os.environ["THAWLINE_REAL_DATA"]) / DATA)
            (folder / WEIGHTS).symlink_to(Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / WEIGHTS)
            text = printed(COMMANDS[name], folder)
        print(text)
        README.write_text(put(name, text, README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
