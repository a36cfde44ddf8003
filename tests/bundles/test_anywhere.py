"""A bundle predicts in another place: without torch, without a cache, and where nothing can be written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import thawline as tl
from thawline.bundles import Bundle, Predictions, load_bundle, make_bundle, save_bundle
from thawline.engines.graphs import DESCRIPTION
from thawline.errors import ModelError, RunError
from thawline.heads import LinearHead
from thawline.scale.disk import file_sha256

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
TORCH = ("torch", "torchvision", "timm")


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, with its size and the time of its last change."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for folder in folders
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run code in a process without HOME whose cache would lie below a file, so that not even root can write it."""
    wall = tmp_path / "a file"
    wall.write_text("no folder")
    work = tmp_path / "work"
    work.mkdir()

    def run(code: str, blocked: tuple[str, ...] = TORCH) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
        environment |= {"THAWLINE_CACHE": str(wall / "cache"), "TMPDIR": str(wall / "tmp")}
        code = BLOCKED.format(blocked=blocked) + code
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=work, capture_output=True, text=True, timeout=120
        )

    return run


def predicting(folder: Path, files: list[Path]) -> str:
    names = [str(file) for file in files]
    return (
        "import json, thawline as tl\n"
        f"answer = tl.load_bundle({str(folder)!r}).predict({names!r})\n"
        "print(json.dumps([p.tobytes().hex() for p in answer.probabilities]))\n"
    )


def bits(answer: Predictions) -> list[str]:
    return [row.tobytes().hex() for row in answer.probabilities]


def test_a_bundle_carries_graphs_with_their_digests(bundle: Bundle, saved: Path) -> None:
    described = json.loads((saved / "bundle.json").read_text())
    assert (described["format"], described["provider"], described["input_kind"]) == (2, "embedded", "image")
    assert described["preparation"]["input_px"] == [128, 128]
    assert described["graphs_sha256"]
    loaded = load_bundle(saved)
    assert loaded.graphs is not None and bundle.graphs is not None
    assert loaded.graphs.folder == saved / "graphs"
    assert loaded.graphs.key == bundle.graphs.key


def test_it_predicts_without_torch_cache_home_or_a_place_to_write(
    bundle: Bundle, saved: Path, photos: tl.Dataset, elsewhere: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert photos.root is not None
    moved = saved.rename(saved.with_name("moved"))
    files = [photos.root / file for file in photos.files]
    before = snapshot(moved.parent)
    done = elsewhere(predicting(moved, files))
    assert done.stdout, done.stderr
    assert json.loads(done.stdout) == bits(bundle.predict(photos))
    assert snapshot(moved.parent) == before
    assert done.stderr == ""


def test_the_command_does_too(
    saved: Path, photos: tl.Dataset, elsewhere: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    before = snapshot(saved.parent)
    argv = ["thawline", "predict", str(saved), str(photos.root / photos.files[0]), "--json"]  # type: ignore[operator]
    done = elsewhere(f"import sys; sys.argv = {argv!r}\nfrom thawline.cli import main\nmain()\n")
    assert json.loads(done.stdout)["predictions"][0]["label"] in photos.classes, done.stderr
    assert snapshot(saved.parent) == before


def test_evaluating_writes_nothing_either(
    tiny_photos: Path, tmp_path: Path, elsewhere: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    run = tl.fit(tiny_photos, run=tmp_path / "run")
    expected = run.bundle.predict(tl.open_data(tiny_photos)).labels
    before = snapshot(tmp_path)
    done = elsewhere(
        "import thawline as tl\nfrom thawline import runs\n"
        f"found = runs.evaluate(runs.open_run({str(run.folder)!r}), tl.open_data({str(tiny_photos)!r}))\n"
        "print(found.n, found.scores['accuracy'].value)\n"
    )
    data = tl.open_data(tiny_photos)
    accuracy = np.mean([data.classes[label] == given for label, given in zip(data.labels, expected, strict=True)])
    assert done.stdout.split() == ["30", str(float(accuracy))], done.stderr
    assert snapshot(tmp_path) == before


def test_predicting_leaves_the_cache_as_it_is(saved: Path, photos: tl.Dataset, clean_cache: Path) -> None:
    shutil.rmtree(clean_cache)
    load_bundle(saved).predict(photos.root)
    assert not clean_cache.exists()


def test_each_file_is_decoded_once(saved: Path, photos: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    opened: list[int] = []
    really = Image.open
    monkeypatch.setattr(Image, "open", lambda *given, **how: opened.append(1) or really(*given, **how))
    assert len(load_bundle(saved).predict(photos.root)) == 30
    assert len(opened) == 30


def test_memory_stays_flat(bundle: Bundle, photos: tl.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pictures there are, few are prepared and not yet run."""
    from thawline.inputs.image import kind

    waiting, most = [0], [0]
    prepare = kind.prepare

    def counted(*given: object) -> object:
        waiting[0] += 1
        most[0] = max(most[0], waiting[0])
        return prepare(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "prepare", counted)
    asked = [photos.root / photos.files[0]] * 1000  # type: ignore[operator]

    def progress(done: int, total: int) -> None:
        waiting[0] -= done - seen[0]
        seen[0] = done

    seen = [0]
    assert len(bundle.predict(asked, progress=progress)) == 1000
    assert seen[0] == 1000
    assert most[0] < 300


@pytest.mark.parametrize("damage", ["bin", "xml", "description", "missing bin", "missing folder"])
def test_damaged_graphs_are_refused(saved: Path, damage: str) -> None:
    graphs = saved / "graphs"
    file = graphs / (DESCRIPTION if damage == "description" else f"0.{damage.split()[-1]}")
    if damage == "missing folder":
        shutil.rmtree(graphs)
    elif damage == "missing bin":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.raises(RunError, match=r"Copy the run folder again|copy the run folder again"):
        load_bundle(saved)


def test_graphs_that_cannot_be_run_are_refused_with_a_step_that_a_bundle_has(saved: Path, photos: tl.Dataset) -> None:
    graph, description, spec = saved / "graphs/0.xml", saved / "graphs" / DESCRIPTION, saved / "bundle.json"
    graph.write_bytes(graph.read_bytes()[:-100])
    described = json.loads(description.read_bytes())
    described["parts"][0]["sha256"]["xml"] = file_sha256(graph)
    description.write_text(json.dumps(described))
    spec.write_text(json.dumps(json.loads(spec.read_bytes()) | {"graphs_sha256": file_sha256(description)}))
    with pytest.raises(
        RunError, match=r"OpenVINO cannot run the graphs in .*Copy the run folder again; if it is whole"
    ):
        load_bundle(saved).predict(photos)


def test_graphs_of_another_preparation_are_refused(saved: Path) -> None:
    described = json.loads((saved / "bundle.json").read_text())
    described["preparation"]["input_px"] = [64, 64]
    (saved / "bundle.json").write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"must hold the graphs of the model that bundle\.json describes"):
        load_bundle(saved)


def test_a_bundle_without_graphs_needs_torch_and_says_so(
    bundle: Bundle, photos: tl.Dataset, tmp_path: Path, elsewhere: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    backbone = tl.open_backbone(input_px=64)  # not among the recorded graphs
    plain = Bundle(
        backbone=backbone, head=bundle.head, classes=bundle.classes, layer="pooled", precision="f32", engine="torch"
    )
    save_bundle(plain, tmp_path)
    assert json.loads((tmp_path / "bundle.json").read_text())["graphs_sha256"] is None
    assert not (tmp_path / "graphs").exists()
    file = photos.root / photos.files[0]  # type: ignore[operator]
    done = elsewhere(predicting(tmp_path, [file]))
    assert "This bundle needs torch and timm" in done.stderr
    assert "pip install torch timm" in done.stderr


def test_a_bundle_of_format_1_converts_in_memory_where_the_cache_cannot_be_written(
    bundle: Bundle, saved: Path, photos: tl.Dataset, elsewhere: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    described = json.loads((saved / "bundle.json").read_text())
    for name in ("input_kind", "provider", "graphs_sha256"):
        del described[name]
    described |= {"format": 1, "preprocessing": described.pop("preparation")}
    (saved / "bundle.json").write_text(json.dumps(described))
    shutil.rmtree(saved / "graphs")
    loaded = load_bundle(saved)
    assert (loaded.backbone.provider, loaded.graphs) == ("embedded", None)
    before = snapshot(saved)
    done = elsewhere(predicting(saved, [photos.root / file for file in photos.files[:3]]))  # type: ignore[operator]
    assert json.loads(done.stdout) == bits(bundle.predict(photos))[:3], done.stderr
    assert snapshot(saved) == before


def test_graphs_go_with_the_bundle_that_is_saved_over_them(bundle: Bundle, saved: Path) -> None:
    plain = Bundle(backbone=bundle.backbone, head=bundle.head, classes=bundle.classes, layer="pooled", precision="f32")
    save_bundle(plain, saved)
    assert sorted(path.name for path in saved.iterdir()) == ["bundle.json", "model.safetensors"]
    save_bundle(bundle, saved)
    assert load_bundle(saved).graphs is not None


@pytest.mark.parametrize("layer", ["layer3", "layer2,layer3, layer4"])
def test_graphs_of_several_layers(photos: tl.Dataset, tmp_path: Path, layer: str) -> None:
    backbone = tl.open_backbone()
    features = tl.extract_features(photos, backbone, rung=layer, engine="openvino", device="cpu")
    head = LinearHead("linear", np.random.default_rng(0).standard_normal((3, features.values.shape[1])), np.zeros(3))
    made = make_bundle(
        backbone, head, photos.classes, layer=features.rung, ran="openvino", precision=features.precision,
        engine="auto", device="auto", trained=False,
    )  # fmt: skip
    save_bundle(made, tmp_path)
    answer = load_bundle(tmp_path).predict(photos)
    assert answer.probabilities.tobytes() == head.predict_proba(features.values).tobytes()


def test_a_backbone_that_torch_ran_after_training_carries_graphs_for_where_torch_is_absent(
    photos: tl.Dataset, tmp_path: Path, elsewhere: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    backbone = tl.open_backbone(input_px=64)
    features = tl.extract_features(photos, backbone, engine="torch", device="cpu")
    head = LinearHead("linear", np.random.default_rng(0).standard_normal((3, 256)), np.zeros(3))
    how = {"layer": "pooled", "ran": "torch", "precision": features.precision, "engine": "auto", "device": "cpu"}
    assert make_bundle(backbone, head, photos.classes, **how, trained=False).graphs is None  # type: ignore[arg-type]
    late = make_bundle(backbone, head, photos.classes, **how, trained=True, seconds_left=0.5)  # type: ignore[arg-type]
    assert late.graphs is None
    made = make_bundle(backbone, head, photos.classes, **how, trained=True)  # type: ignore[arg-type]
    save_bundle(made, tmp_path)
    loaded = load_bundle(tmp_path)
    assert (loaded.engine, loaded.graphs is not None) == ("torch", True)
    expected = head.predict_proba(features.values)
    assert loaded.predict(photos).probabilities.tobytes() == expected.tobytes()

    done = elsewhere(predicting(tmp_path, [photos.root / file for file in photos.files]))  # type: ignore[operator]
    found = np.frombuffer(bytes.fromhex("".join(json.loads(done.stdout))), np.float64).reshape(-1, 3)
    assert (found.argmax(1) == expected.argmax(1)).all()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_an_unknown_accelerator_is_refused_though_there_are_graphs(saved: Path, photos: tl.Dataset) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises((tl.ThawlineError), match="cuda"):
        load_bundle(saved, device="cuda").predict(photos)


def test_nan_is_refused_and_names_the_picture(bundle: Bundle, photos: tl.Dataset) -> None:
    class Broken:
        name, precision, widths, workers, at_once, together = "broken", "f32", (256,), 1, None, 0

        def run(self, batch: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            rows = np.zeros((len(batch), 256), np.float32)
            rows[1] = np.nan
            return rows

    bundle._opened = Broken()  # type: ignore[assignment]
    with pytest.raises(ModelError, match=rf"gives NaN or infinity at 'pooled' for {photos.files[1]}\. "):
        bundle.predict(photos)
