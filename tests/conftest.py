"""Fixtures for every test: offline, a cache folder of its own, tiny pictures, and the real data where there is some."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

# Both are read once, when the libraries are imported. Sockets to other machines are closed by pytest-socket.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image, ImageDraw, ImageFilter

from thawline.store.keys import FeatureKey

_HERE = Path(__file__).parent

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=120, deadline=None)
settings.load_profile("quick")

TINY_CLASSES = ("disc", "square", "stripes")
TINY_PER_CLASS = 10


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test that reads real data or real weights into the second tier."""
    for item in items:
        if {"real_data", "real_weights", "real_cases"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def session_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point every cache at a temporary folder, also for fixtures of wider scope, which run before `clean_cache`."""
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAWLINE_CACHE", str(folder / "cache"))
        patch.setenv("HF_HOME", str(folder / "huggingface"))
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        yield folder


@pytest.fixture(autouse=True)
def clean_cache(session_folders: Path, monkeypatch: pytest.MonkeyPatch, _cache_number: count[int]) -> Iterator[Path]:
    """Give each test a cache folder that no other test has seen; it does not exist until something is written."""
    folder = session_folders / f"cache-{next(_cache_number)}"
    monkeypatch.setenv("THAWLINE_CACHE", str(folder))
    yield folder
    # The second tier converts the weights of every family: kept until its end, its caches would fill the disk.
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _cache_number() -> count[int]:
    return count()


@pytest.fixture(scope="module")
def _module_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("module-cache")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shared_cache(_module_cache: Path, clean_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Share one cache among the tests of a file, which must not ask what was computed and what was found there."""
    monkeypatch.setenv("THAWLINE_CACHE", str(_module_cache))
    return _module_cache


@pytest.fixture(scope="session")
def _tiny_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "photos"
    for label, name in enumerate(TINY_CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(TINY_PER_CLASS):
            draw_shape(name, np.random.default_rng((label, i))).save(folder / name / f"{name}_{i:02d}.png")
    return folder


@pytest.fixture
def tiny_photos(_tiny_photos: Path, tmp_path: Path) -> Path:
    """A folder of three class folders with ten distinct pictures each, about 64 x 48; yours to change."""
    return shutil.copytree(_tiny_photos, tmp_path / "photos")


@pytest.fixture(scope="session")
def _fitted(tmp_path_factory: pytest.TempPathFactory, _tiny_photos: Path) -> Path:
    """A folder with a ``run`` on the tiny photos and the ``cache`` that it filled."""
    import thawline as tl

    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAWLINE_CACHE", str(folder / "cache"))
        tl.fit(_tiny_photos, run=folder / "run")
    return folder


@pytest.fixture
def finished_run(_fitted: Path, tmp_path: Path) -> Path:
    """The folder of a finished run on the tiny photos; yours to break."""
    return shutil.copytree(_fitted / "run", tmp_path / "finished")


@pytest.fixture
def warm_cache(_fitted: Path, clean_cache: Path) -> Path:
    """Fill the test's cache with the features of the tiny photos and the converted model: a fit takes half the time."""
    return shutil.copytree(_fitted / "cache", clean_cache)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; skips where there is none."""
    return _folder_from_environment("THAWLINE_REAL_DATA")


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """The folder of real pre-trained weights; skips where there is none."""
    return _folder_from_environment("THAWLINE_REAL_WEIGHTS")


@pytest.fixture(scope="session")
def real_cases() -> Path:
    """The folder of a script that makes odd inputs from real pictures; skips where there is none."""
    return _folder_from_environment("THAWLINE_REAL_CASES")


def _folder_from_environment(variable: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: this test needs real data, which is not part of the project")
    return Path(os.environ[variable])


def draw_shape(name: str, rng: np.random.Generator) -> Image.Image:
    """Draw one bright shape, anywhere and of any colour, on a blurred ground of noise."""
    width, height = int(rng.integers(56, 72)), int(rng.integers(44, 56))
    noise = rng.integers(0, 70, (height, width, 3)) + rng.integers(0, 50, 3)
    ground = Image.fromarray(noise.astype(np.uint8)).filter(ImageFilter.GaussianBlur(4))
    draw = ImageDraw.Draw(ground)
    colour = tuple(int(c) for c in rng.integers(140, 256, 3))
    r = int(rng.integers(10, 18))
    x, y = int(rng.integers(r, width - r)), int(rng.integers(r, height - r))
    if name == "disc":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif name == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    else:
        for offset in range(-r, r, 5):
            draw.line((x - 2 * r, y + offset, x + 2 * r, y + offset), fill=colour, width=2)
    return ground


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """``toy.ToyBackbone`` and ``toy.toy_dataset``."""
    spec = importlib.util.spec_from_file_location("toy_backbone", _HERE / "toy_backbone.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def key() -> FeatureKey:
    return FeatureKey(
        weights_sha256="a" * 64,
        preparation_sha256="b" * 64,
        rung="pooled",
        precision="f32",
        engine="torch 2 cpu",
        model="toy/conv",
    )


@pytest.fixture
def sample_digests() -> Callable[..., list[str]]:
    """(n, seed) -> n distinct digests."""

    def draw(n: int, seed: int = 0) -> list[str]:
        raw = np.random.default_rng((seed, 1)).integers(0, 256, (n, 32), dtype=np.uint8)
        return [row.tobytes().hex() for row in raw]

    return draw


@pytest.fixture
def in_child(clean_cache: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python source in a fresh process that shares this test's cache and can import ``toy_backbone``."""

    def run(source: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(_HERE), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path}
        return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=environment)

    return run


@pytest.fixture
def photo() -> Callable[..., Image.Image]:
    """A picture with the spectrum of a photograph: most of its energy in coarse structure."""

    def make(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
        rng = np.random.default_rng(seed)
        layers = np.zeros((size[1], size[0], 3))
        for cells in (3, 6, 12, 24, 48):
            noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            layers += np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), float) / cells
        layers -= layers.min()
        return Image.fromarray((layers * 255 / layers.max()).astype(np.uint8))

    return make


@pytest.fixture
def encode() -> Callable[..., bytes]:
    def make(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return make


@pytest.fixture
def class_folders(tmp_path: Path, photo: Callable[..., Image.Image]) -> Callable[..., Path]:
    """Write ``{"cat": 3, "dog": 2}`` distinct pictures below a folder of the test's own, and return it."""
    seeds = iter(range(10_000))

    def make(counts: dict[str, int], folder: str = "pets") -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for name, n in counts.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                photo(next(seeds), (40, 30)).save(root / name / f"{i}.png")
        return root

    return make
