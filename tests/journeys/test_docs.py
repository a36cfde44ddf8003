"""The documentation is run: each page is a journey through a folder of its own, with pictures of a stranger in it."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from thawline.backbones.providers import FAMILIES
from thawline.backbones.providers.provider import Provider

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "pretraining").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IN_TABLE = re.compile(r"^\| [^|]+ \| `(thawline [^`]+)` \|$", re.MULTILINE)
"""A command that is the second of two cells: "what you want | what you run"."""
INLINE = re.compile(r"`(thawline [^`]+)`")
NAMES: Any = {"ids": lambda page: str(page.relative_to(ROOT))}
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture
def a_strangers_folder(tiny_photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the pages play: `photos/`, a new picture, and pictures that were labelled later."""
    folder = tiny_photos.parent
    shutil.copy(next(tiny_photos.glob("disc/*")), folder / "new.jpg")  # a PNG by content, as strangers have them
    shutil.copytree(tiny_photos, folder / "labelled_later")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(typer, "launch", lambda url: 0)  # no browser
    families = dict(FAMILIES)
    yield folder
    for stranger in FAMILIES.keys() - families:  # of the page on providers
        sys.modules.pop(FAMILIES.pop(stranger))


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (language, text) of each block that is run, in the order of the page."""
    text = page.read_text("utf-8")
    found = [(match.start(), match[1], match[2]) for match in FENCE.finditer(text) if match[1] in ("python", "console")]
    if page == README:
        found += [(match.start(), "console", f"$ {match[1]}\n") for match in IN_TABLE.finditer(text)]
    return [(language, block) for _, language, block in sorted(found)]


def commands(page: Path) -> Iterator[str]:
    """Yield every command line of a page, whether it is run or not."""
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        for line in match[2].splitlines():
            if line.startswith(("thawline ", "$ thawline ")):
                yield line.removeprefix("$ ").split("  #")[0].strip()
    yield from (match[1] for match in INLINE.finditer(FENCE.sub("", text)))


def marks(page: Path) -> list[pytest.MarkDecorator]:
    """Return the marks of a page: all but one are slow, and one that runs models of Keras needs it."""
    runs_keras = any("--model keras/" in text or "ladder keras/" in text for _, text in blocks(page))
    needs = pytest.mark.skipif(
        runs_keras and find_spec("keras") is None, reason="keras is not installed: pip install 'thawline[keras]'"
    )
    return [needs] if page.stem == "quickstart" else [needs, pytest.mark.slow]


JOURNEYS = [pytest.param(page, marks=marks(page)) for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", JOURNEYS, **NAMES)
def test_a_page_does_what_it_says(
    page: Path, a_strangers_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
        "README",
        "quickstart",
        "data",
        "features-and-cache",
        "python",
        "cli",
    }


@pytest.mark.parametrize("page", [page for page in LINKING if any(commands(page))], **NAMES)
def test_every_command_that_a_page_names_is_understood(page: Path) -> None:
    """Also those that are not run, because they need the network or a day: verb, options and arguments must exist."""
    from thawline.cli.app import app

    group: Any = typer.main.get_command(app)
    for line in commands(page):
        _, *words = shlex.split(line)
        if words[:1] in (["VERB"], ["--version"], ["--install-completion"]):
            continue
        command = group
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert command is not group, f"{page.name} names an unknown verb: {line!r}"
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known | {"--help"}, f"{page.name} names an unknown option: {line!r}"


@pytest.mark.parametrize("page", LINKING, **NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name} links to {link}, which does not exist"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, link


def test_the_page_on_providers_names_every_function() -> None:
    text = (ROOT / "docs" / "providers.md").read_text("utf-8")
    for name in (name for name in vars(Provider) if not name.startswith("_")):
        assert f"| `{name}` |" in text


def test_pasted_outputs_have_their_places() -> None:
    from showcase import COMMANDS, PAGES, WIDTH

    assert PAGES.keys() == COMMANDS.keys()
    for name, page in PAGES.items():
        (block,) = re.findall(
            rf"^<!-- showcase {name}: [^\n]*-->\n```text\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S
        )
        command, *printed = block.splitlines()
        assert command.startswith(f"$ thawline {name} ")
        assert max(map(len, printed)) <= WIDTH


def test_the_readme_is_a_newcomers_page() -> None:
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if ":" in line}
    made = set(re.findall(r"^make ([\w-]+)", "\n".join(match[2] for match in FENCE.finditer(text)), re.MULTILINE))
    assert {"demo", "test"} <= made <= targets


def test_every_verb_and_option_is_in_the_documentation() -> None:
    from thawline.cli.app import app

    text = "\n".join(page.read_text("utf-8") for page in PAGES if page != README)
    verbs: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert verbs
    for verb, command in verbs.items():
        assert f"thawline {verb}" in text, f"docs/ never mentions thawline {verb}"
        for parameter in command.params:
            for option in (name for name in parameter.opts if name.startswith("--") and name != "--help"):
                assert option in text, f"docs/ never mentions {option} of thawline {verb}"
