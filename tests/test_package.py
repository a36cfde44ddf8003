"""The package as a whole: what importing it costs, what it exports, and what its text must never say."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module, util
from pathlib import Path

import pytest

import thawline

ROOT = Path(__file__).parents[1]
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0]["layers"]
FILES = ("thawline.listening", "thawline.records", "thawline.training_records", "thawline.errors")
ROOMS = [layer for layer in LAYERS if layer not in FILES]
TEXT = {".py", ".md", ".toml", ".txt", ".j2", ".yml", ".yaml", ".json", ".ipynb", ".csv"}


@pytest.mark.parametrize("module", ["thawline", *FILES])
def test_importing_loads_neither_torch_nor_numpy(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({{'numpy', 'torch'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", thawline.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(thawline, name) is not None
    assert name in dir(thawline)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'thawline' has no attribute 'fitt'"):
        thawline.fitt  # noqa: B018


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_opens_with_what_it_takes_gives_and_refuses(room: str) -> None:
    text = import_module(room).__doc__ or ""
    assert len(re.findall(r"[.!?](?=\s|$)", text)) >= 3, f"{room}/__init__.py opens with fewer than three sentences"


def test_every_folder_is_a_room_with_a_place_on_the_path() -> None:
    folders = {f"thawline.{p.parent.name}" for p in (ROOT / "src/thawline").glob("*/__init__.py")}
    assert folders == set(ROOMS)


def test_imports_point_up_the_path() -> None:
    # In a process of its own, as `make check` runs it: its spinner takes sys.stderr for itself, and two of its displays
    # that end in the wrong order leave a closed one behind for every test that follows.
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_newest_version_of_the_changelog_is_this_one() -> None:
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None and newest[1] == thawline.__version__


def test_the_package_is_typed() -> None:
    spec = util.find_spec("thawline")
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin).with_name("py.typed").exists()


def _texts() -> list[Path]:
    files = [
        ROOT / name
        for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", "constraints.txt", "mkdocs.yml")
    ]
    for folder in ("src", "docs", "examples", "benchmarks", "pretraining"):
        files += (p for p in (ROOT / folder).rglob("*") if p.suffix in TEXT and p.is_file())
    return [file for file in files if ".venvs" not in file.parts]  # environments of the peers, which are not ours


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        (
            "a package index or its options",
            r"pypi\.org|pythonhosted|download\.pytorch\.org|--(extra-)?index-url|--find-links",
        ),
        ("an absolute path of one machine", r"(?<![\w.\-/])/(work|root|home|Users|opt|mnt|srv)/"),
    ],
)
def test_no_text_names(what: str, pattern: str) -> None:
    assert re.search(pattern, "see pypi.org" if "index" in what else "in /home/me/x"), (
        "the pattern itself finds nothing"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in _texts()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, f"these lines name {what}:\n" + "\n".join(found)


def test_the_pins_name_a_matching_pair_of_torch_and_torchvision() -> None:
    pins = dict(
        line.split(" ;")[0].split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    )
    assert (pins["torch"], pins["torchvision"]) == ("2.13.0", "0.28.0")
    assert not [name for name in pins if name.startswith(("nvidia-", "cuda-", "triton"))]
