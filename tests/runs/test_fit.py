"""One whole walk: every number in the run folder agrees with every other, and nothing is left when it fails."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

import thawline as tl
from thawline.bundles.spec import GRAPHS_FOLDER
from thawline.errors import DataError, ReceiptError, RunError, StorageError, UsageError
from thawline.runs import Run, evaluate, open_run
from thawline.runs.folder import CONTENTS

pytestmark = pytest.mark.usefixtures("warm_cache")


@pytest.fixture
def data(tiny_photos: Path) -> tl.Dataset:
    return tl.open_data(tiny_photos)


@pytest.fixture
def run(finished_run: Path) -> Run:
    return open_run(finished_run)


def rows_of(run: Run) -> list[dict[str, str]]:
    return list(csv.DictReader((run.folder / "predictions.csv").read_text().splitlines()))


def test_the_folder_holds_what_it_must(run: Run) -> None:
    assert {path.name for path in run.folder.iterdir()} == {*CONTENTS, GRAPHS_FOLDER}
    assert [path.name for path in run.folder.parent.iterdir() if path.name.startswith(".")] == []


def test_the_scores_are_those_of_the_written_predictions(run: Run) -> None:
    rows = rows_of(run)
    classes = run.bundle.classes
    truth, label = [row["true"] for row in rows], [row["label"] for row in rows]
    p = np.array([[float(row[f"p({name})"]) for name in classes] for row in rows])
    report = run.report
    assert report.accuracy.n == len(rows)
    assert report.accuracy.value == pytest.approx(accuracy_score(truth, label))
    assert report.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(truth, label))
    assert report.macro_f1.value == pytest.approx(f1_score(truth, label, average="macro", labels=classes))
    assert report.log_loss.value == pytest.approx(log_loss(truth, p, labels=classes))
    assert np.sum(report.content["confusion"]) == len(rows)


def test_the_bundle_gives_the_bits_of_the_run(run: Run, data: tl.Dataset) -> None:
    rows = rows_of(run)
    answer = run.bundle.predict([data.root / row["file"] for row in rows])
    written = np.array([[float(row[f"p({name})"]) for name in answer.classes] for row in rows])
    assert np.array_equal(answer.probabilities, written)


def test_the_json_is_the_contract(run: Run, data: tl.Dataset) -> None:
    content = run.to_json()
    assert set(content) == {
        "run", "model", "kind", "thaw", "thawed", "classes", "n", "class_counts", "split", "skipped", "warnings",
        "copies", "features", "baselines", "validation", "test", "verdict", "stages", "receipt", "load_receipt",
        "seconds",
    }  # fmt: skip
    assert set(content["n"]) == {"train", "val", "test"}
    assert sum(content["n"].values()) == len(data)
    counts = content["class_counts"]
    assert [row["class"] for row in counts] == content["classes"]
    assert {part: sum(row[part] for row in counts) for part in ("train", "val", "test")} == content["n"]
    assert [sum(row.values()) for row in ({k: v for k, v in row.items() if k != "class"} for row in counts)] == [10] * 3
    assert content["features"] == {"computed": len(data), "reused": 0}
    assert set(content["baselines"]) == {"majority", "knn", "pixels"}
    for metrics in (content["test"], content["validation"], *content["baselines"].values()):
        assert {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"} <= set(metrics)
        for metric in metrics.values():
            assert set(metric) == {"value", "ci95", "n"}
            assert metric["ci95"][0] <= metric["value"] <= metric["ci95"][1]
    assert content["receipt"] == "clean"
    loaded = json.loads((run.folder / "load_receipt.json").read_text())
    assert loaded == tl.open_backbone().load_receipt().to_json()
    assert content["load_receipt"] == loaded["tensors"] | {"summary": loaded["summary"]}
    assert set(content["seconds"]) == {"total", "data", "planning", "features", "head", "training", "evaluation"}
    assert content["stages"][0]["frozen"] == run.bundle.backbone.n_parameters()
    assert content["stages"][0]["trainable"] == run.bundle.head.n_parameters
    assert json.loads(json.dumps(content)) == content


def test_a_second_fit_computes_nothing_and_says_the_same(run: Run, data: tl.Dataset, tmp_path: Path) -> None:
    again = tl.fit(data, run=tmp_path / "again")
    assert again.report.content["features"] == {"computed": 0, "reused": len(data)}
    assert (again.folder / "predictions.csv").read_bytes() == (run.folder / "predictions.csv").read_bytes()
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


def test_a_second_fit_without_torch(run: Run, tiny_photos: Path, tmp_path: Path) -> None:
    """Features, head, scores, bundle and report of a cached run need no deep-learning framework."""
    import os
    import subprocess
    import sys

    code = (
        "import sys, thawline as tl\n"
        f"tl.fit({str(tiny_photos)!r}, run={str(tmp_path / 'light')!r})\n"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ.copy(), check=True, timeout=120)


def test_the_receipt_covers_every_tensor(run: Run, data: tl.Dataset, tmp_path: Path) -> None:
    receipt = json.loads((run.folder / "receipt.json").read_text())
    (stage,) = receipt["stages"]
    module = tl.open_backbone().module()
    assert receipt["status"] == "clean"
    assert stage["ran"]
    assert stage["frozen_parameters"] == len(list(module.parameters()))
    assert stage["frozen_buffers"] == len(list(module.buffers()))
    assert stage["thawed"] == ["head.weight", "head.bias"]
    cached = tl.fit(data, run=tmp_path / "cached")
    assert not json.loads((cached.folder / "receipt.json").read_text())["stages"][0]["ran"]


def test_a_backbone_that_moves_fails_the_run(data: tl.Dataset, tmp_path: Path) -> None:
    backbone = tl.open_backbone()
    backbone.module().train()  # batch normalisation below the line now learns its statistics
    plan = tl.plan(data, tl.open_backbone(), thaw="none", engine="torch")
    with pytest.raises(ReceiptError, match=r"must leave frozen tensors bit-identical.*(running|num_batches)"):
        tl.fit(data, plan, backbone=backbone, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_plan_replays_to_the_same_bits(run: Run, data: tl.Dataset, tmp_path: Path) -> None:
    again = tl.fit(data, run.plan, run=tmp_path / "again")
    assert again.plan == run.plan
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


def test_another_seed_is_another_split(run: Run, data: tl.Dataset, tmp_path: Path) -> None:
    other = tl.fit(data, tl.plan(data, tl.open_backbone(), seed=1), run=tmp_path / "other")
    assert {row["file"] for row in rows_of(other)} != {row["file"] for row in rows_of(run)}


@pytest.mark.parametrize("settings", [{"head": "ridge"}, {"head": "svm"}, {"layer": "layer3"}, {"precision": "f32"}])
def test_settings_reach_the_bundle(data: tl.Dataset, tmp_path: Path, settings: dict[str, str]) -> None:
    run = tl.fit(data, tl.plan(data, tl.open_backbone(), **settings), run=tmp_path / "run")
    bundle = run.bundle
    for name, value in settings.items():
        assert getattr(bundle, name) == value or bundle.head.kind == value
    rows = rows_of(run)
    answer = bundle.predict([data.root / row["file"] for row in rows])
    assert [row["label"] for row in rows] == list(answer.labels)


def test_a_plan_for_other_weights_is_refused(run: Run, data: tl.Dataset, tmp_path: Path) -> None:
    plan = run.plan.changed(weights_sha256="0" * 64)
    with pytest.raises(UsageError, match="plan was made for weights 000000000000; got"):
        tl.fit(data, plan, run=tmp_path / "other")


def test_a_taken_place_is_refused_before_any_work(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="add --force to replace it"):
        tl.fit("no such data", run=run.folder)


def test_a_full_disk_leaves_nothing(data: tl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("thawline.runs.writing.write_plan", full)
    with pytest.raises(StorageError, match=r"run cannot be written: the disk is full"):
        tl.fit(data, run=tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_empty_part_is_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 8), dtype=np.uint8)
    labels = [0, 0, 0, 0, 1, 1, 1, 1]
    data = tl.open_data(pixels, labels)
    plan = tl.plan(data, tl.open_backbone(), fractions=(0.9, 0.05, 0.05))
    run = tl.fit(data, plan, run=tmp_path / "run")  # too small for the shares: each class still gives to the test part
    assert run.report.accuracy.n >= 2


def test_events_tell_the_story(run: Run) -> None:
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["start", "plan", "phase", "phase", "engine", "phase", "phase", "end"]
    assert (events[1]["thaw"], events[1]["layer"]) == ("none", "pooled")
    assert {"name", "precision", "why"} <= events[4].keys()
    assert [e["name"] for e in events if e["event"] == "phase"] == ["split", "features", "training", "evaluation"]
    assert events[-1]["accuracy"] == run.report.accuracy.value


def test_what_was_given_is_respected(data: tl.Dataset, tmp_path: Path) -> None:
    given = ["test" if index % 5 == 0 else "train" for index in range(len(data))]
    paths = [data.root / file for file in data.files]
    labels = [data.classes[label] for label in data.labels]
    run = tl.fit(tl.open_data(paths, labels, given=given), run=tmp_path / "run")
    assert run.report.content["n"] == {"train": given.count("train"), "val": 0, "test": given.count("test")}
    assert run.report.content["validation"] is None
    assert {Path(row["file"]).name for row in rows_of(run)} == {paths[i].name for i in range(0, len(paths), 5)}


def test_evaluation_on_other_data(run: Run, data: tl.Dataset, tiny_photos: Path) -> None:
    result = evaluate(run, data)
    truth = [data.classes[label] for label in data.labels]
    expected = accuracy_score(truth, run.bundle.predict(data).labels)
    assert result.scores["accuracy"].value == pytest.approx(expected)
    assert result.to_json()["n"] == len(data)
    n = run.report.content["n"]
    assert result.n_seen == n["train"] + n["val"]
    (tiny_photos / "disc").rename(tiny_photos / "dics")
    with pytest.raises(DataError, match=r"classes must be among those of the run .*'dics'. Did you mean 'disc'"):
        evaluate(run, tl.open_data(tiny_photos))


def test_a_run_of_another_version_is_refused(run: Run) -> None:
    path = run.folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(RunError, match=r"must have format 1.*got 2.*pip install -U thawline"):
        open_run(run.folder)
    path.write_text("{")
    with pytest.raises(RunError, match=r"metrics\.json is damaged"):
        open_run(run.folder)


def test_hymenoptera_with_the_imagenet_mobilenet(real_data: Path, real_weights: Path, tmp_path: Path) -> None:
    data = tl.open_data(real_data / "hymenoptera")
    name = f"timm/mobilenetv2_100@{real_weights / 'mobilenetv2_100.imagenet.safetensors'}"
    run = tl.fit(data, backbone=tl.open_backbone(name), run=tmp_path / "run")
    assert run.report.accuracy.value >= 0.95
    assert run.report.content["n"]["test"] == 153
    again = tl.fit(data, backbone=tl.open_backbone(name), run=tmp_path / "again")
    assert again.report.content["features"]["computed"] == 0
