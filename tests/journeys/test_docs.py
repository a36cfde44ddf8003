"""The documentation is run: each page is a journey through its own folder, which holds nothing but `photos/`."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (language, text) of each block that is run."""
    return [(match[1], match[2]) for match in FENCE.finditer(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_a_page_does_what_it_says(
    page: Path, tiny_photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_photos.parent)
    names: dict[str, Any] = {"__name__": page.stem}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, f"{page.name} (python block)", "exec"), names)
            continue
        for line in text.splitlines():
            if line.startswith("$ "):
                run_command(line[2:], monkeypatch)
                capsys.readouterr()


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one command line in this process, as its entry point would."""
    from thawline.cli import main

    monkeypatch.setattr(sys, "argv", shlex.split(line))
    assert sys.argv[0] == "thawline", f"a console block runs thawline and nothing else; got {line!r}"
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (None, 0), f"{line!r} ended with {ended.value.code}"


def test_pages_are_found_and_run() -> None:
    assert {page.stem for page in PAGES if blocks(page)} >= {
        "quickstart",
        "data",
        "features-and-cache",
        "python",
        "cli",
    }


def test_every_verb_and_option_is_in_the_documentation() -> None:
    from thawline.cli.app import app

    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    verbs: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert verbs
    for verb, command in verbs.items():
        assert f"thawline {verb}" in text, f"docs/ never mentions thawline {verb}"
        for parameter in command.params:
            for option in (name for name in parameter.opts if name.startswith("--") and name != "--help"):
                assert option in text, f"docs/ never mentions {option} of thawline {verb}"
